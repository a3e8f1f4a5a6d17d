-- Ends a reservation and writes its record, once. `marker` is the dedup marker that a later settlement of the
-- same request finds. If Redis has neither a reservation nor a marker, the record is written only if the
-- caller has never sent it (`never_sent`), and only in the epoch to which this knowledge applies. Otherwise
-- the reply is 'unknown', and the caller must search SQL. The reaper passes the id of the dead process. A
-- reservation that now belongs to another process is then not changed.
local id, cost, tokens, key, day, entry, marker, marker_ttl_s, never_sent, epoch, process_id = unpack(ARGV)
local done = PREFIX .. 'done:' .. id
local text = redis.call('HGET', RESERVATIONS, id)
if not text then
  local found = redis.call('GET', done)
  if found and found ~= 'v' then return found == 's' and { 'done' } or { 'estimated', found } end
  if never_sent ~= '1' then return { 'unknown' } end
  if epoch ~= '' and epoch ~= redis.call('HGET', STATE, 'epoch') then return { 'unknown' } end
  for _, window in ipairs(open_windows_of(key, day)) do add(window_key(window), 'spent', cost) end
else
  local reservation = parse_reservation(text)
  if process_id and reservation.process_id ~= process_id then return { 'done' } end
  release(id, reservation, cost, tokens)
end
redis.call('SET', done, marker, 'EX', marker_ttl_s)
return { 'ok', append_record(id, key, day, cost, entry) }
