-- Posts the one correction of a record that was posted as an estimate.
local id, correction, cost, key, day, entry, mark_s = unpack(ARGV)
local found = redis.call('GET', P .. 'done:' .. id)
if not found or found == 's' or found == 'v' then return { 'done' } end
redis.call('SET', P .. 'done:' .. id, 's', 'EX', mark_s)
for _, window in ipairs(windows_of(key, day)) do add(window_key(window), 'spent', cost) end
return { 'ok', post(correction, key, day, cost, entry) }
