-- Ends a reservation and writes its record; once. `marker` is what a later settlement of the same request
-- finds. If Redis does not know the request, its record is written only if the caller knows that it was not
-- sent before (`never_sent`) and Redis is still in the epoch in which the caller knows that. Otherwise SQL
-- must be asked ('unknown'). The reaper passes the dead process: a reservation that belongs to another
-- process by now stays as it is.
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
