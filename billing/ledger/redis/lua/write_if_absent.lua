-- Posts a record of a request that neither a reservation nor a mark is left of, unless the outbox has it.
-- `mark` is what a later settlement of the same request will find. `drained` is up to where SQL, which does not have it, had taken the outbox.
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
