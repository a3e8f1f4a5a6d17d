-- Puts a reservation back that Redis has lost; its windows, as far as they are open, hold its amount again.
local id, amount, owner, key, day, tokens, draft, owners, concurrent = unpack(ARGV)
if redis.call('HEXISTS', OPEN, id) == 1 or redis.call('EXISTS', P .. 'done:' .. id) == 1 then return { 'done' } end
for each in string.gmatch(concurrent, '[^,-]+') do redis.call('SADD', P .. 'c:' .. each, id) end
hold({ id = id, amount = amount, owner = owner, key = key, day = day, since = '0', tokens = tokens, shadow = '0',
  windows = windows_of(key, day), owners = owners, draft = draft })
return { 'ok' }
