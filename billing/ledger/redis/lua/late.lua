-- Posts a record of a request that neither a reservation nor a mark is left of, unless the outbox has it.
-- `drained` is up to where SQL, which does not have it, had taken the outbox.
local id, cost, key, day, entry, mark_s, drained = unpack(ARGV)
if redis.call('HEXISTS', OPEN, id) == 1 then return { 'again' } end
local mark = redis.call('GET', P .. 'done:' .. id)
if mark and mark ~= 'v' then return mark == 's' and { 'done' } or { 'estimated', mark } end
if after(redis.call('HGET', STATE, 'drained') or '0-0', drained) then return { 'again' } end
local found = false
each_event(drained, function(fields) found = found or fields.id == id end)
redis.call('SET', P .. 'done:' .. id, 's', 'EX', mark_s)
if found then return { 'done' } end
for _, window in ipairs(windows_of(key, day)) do add(window_key(window), 'spent', cost) end
return { 'ok', post(id, key, day, cost, entry) }
