-- Undoes a reservation, if it was made; if it is yet to come, it will be refused.
local id, mark_s = unpack(ARGV)
local text = redis.call('HGET', OPEN, id)
if text then
  local held = parse(text)
  let_go(id, held, '0', 0)
  for owner in string.gmatch(held.owners, '[^,-]+') do correct('r:', owner, tonumber(held.since), -1) end
end
redis.call('SET', P .. 'done:' .. id, 'v', 'EX', mark_s, 'NX')
return { 'ok' }
