-- Ends a reservation and keeps its record; once. `mark` is what a later settlement of the same request will find.
-- A request that is not known here is posted where the caller says that it cannot have been before (`fresh`).
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
