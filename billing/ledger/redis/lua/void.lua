-- Undoes a reservation, if it was made; if it is yet to come, it will be refused.
local id, mark_s = unpack(ARGV)
local text = redis.call('HGET', OPEN, id)
if text then let_go(id, parse(text), '0', 0) end
redis.call('SET', P .. 'done:' .. id, 'v', 'EX', mark_s, 'NX')
return { 'ok' }
