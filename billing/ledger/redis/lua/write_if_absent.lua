-- Writes the record of a request of which neither a reservation nor a marker is left, unless the stream has
-- the record. `marker` is what a later settlement of the request finds. SQL did not have the record when the
-- stream was drained up to `last_id`. If the stream was trimmed beyond that since, SQL must be asked again
-- ('retry').
local id, cost, key, day, entry, marker_ttl_s, last_id, marker = unpack(ARGV)
if redis.call('HEXISTS', RESERVATIONS, id) == 1 then return { 'retry' } end
local ended = redis.call('GET', PREFIX .. 'done:' .. id)
if ended and ended ~= 'v' then return ended == 's' and { 'done' } or { 'estimated', ended } end
if is_after(redis.call('HGET', STATE, 'drained') or '0-0', last_id) then return { 'retry' } end
local found = false
each_record(last_id, function(fields) found = found or fields.id == id end)
redis.call('SET', PREFIX .. 'done:' .. id, marker, 'EX', marker_ttl_s)
if found then return { 'done' } end
for _, window in ipairs(open_windows_of(key, day)) do add(window_key(window), 'spent', cost) end
return { 'ok', append_record(id, key, day, cost, entry) }
