-- Writes the record of a request that has neither a reservation nor a dedup marker, unless the stream has the
-- record. `marker` is the dedup marker that a later settlement finds. The caller has searched SQL when the
-- stream was drained up to `last_id`. If the stream was trimmed beyond `last_id` meanwhile, the reply is
-- 'retry', and the caller must search SQL again.
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
