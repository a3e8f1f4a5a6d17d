-- Keeps the record of a request that held nothing; once.
local id, cost, key, day, entry, mark_s = unpack(ARGV)
local found = redis.call('GET', P .. 'done:' .. id)
if found and found ~= 'v' then return { 'done' } end
redis.call('SET', P .. 'done:' .. id, 's', 'EX', mark_s)
return { 'ok', post(id, key, day, cost, entry) }
