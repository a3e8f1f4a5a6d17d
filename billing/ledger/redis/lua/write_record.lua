-- Writes the record of a request that has reserved nothing, once.
local id, cost, key, day, entry, marker_ttl_s = unpack(ARGV)
local found = redis.call('GET', PREFIX .. 'done:' .. id)
if found and found ~= 'v' then return { 'done' } end
redis.call('SET', PREFIX .. 'done:' .. id, 's', 'EX', marker_ttl_s)
return { 'ok', append_record(id, key, day, cost, entry) }
