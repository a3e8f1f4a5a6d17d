-- Writes the correction of an estimate, once.
local id, correction, cost, key, day, entry, marker_ttl_s = unpack(ARGV)
local found = redis.call('GET', PREFIX .. 'done:' .. id)
if not found or found == 's' or found == 'v' then return { 'done' } end
redis.call('SET', PREFIX .. 'done:' .. id, 's', 'EX', marker_ttl_s)
for _, window in ipairs(open_windows_of(key, day)) do add(window_key(window), 'spent', cost) end
return { 'ok', append_record(correction, key, day, cost, entry) }
