-- Posts a record of a request that neither a reservation nor a mark is left of, unless the outbox has it.
-- `mark` is what a later settlement of the same request will find. `drained` is up to where SQL, which does not have it, had taken the outbox.
local id, cost, key, day, entry, mark_s, drained, mark = unpack(ARGV)
if redis.call('HEXISTS', OPEN, id) == 1 then return { 'again' } end
local ended = redis.call('GET', P .. 'done:' .. id)
if ended and ended ~= 'v' then return ended == 's' and { 'done' } or { 'estimated', ended } end
if after(redis.call('HGET', STATE, 'drained') or '0-0', drained) then return { 'again' } end
local found = false
each_event(drained, function(fields) found = found or fields.id == id end)
redis.call('SET', P .. 'done:' .. id, mark, 'EX', mark_s)
if found then return { 'done' } end
for _, window in ipairs(windows_of(key, day)) do add(window_key(window), 'spent', cost) end
return { 'ok', post(id, key, day, cost, entry) }
