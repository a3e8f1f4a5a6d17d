-- Restores a reservation that Redis has lost, and adds its amount to the windows that are already open.
local id, amount, process_id, key, day, tokens, estimate, owners, concurrent = unpack(ARGV)
if redis.call('HEXISTS', RESERVATIONS, id) == 1 then return { 'done' } end
if redis.call('EXISTS', PREFIX .. 'done:' .. id) == 1 then return { 'done' } end
for owner in string.gmatch(concurrent, '[^,-]+') do redis.call('SADD', PREFIX .. 'c:' .. owner, id) end
store_reservation({ id = id, amount = amount, process_id = process_id, key = key, day = day, since = '0',
  tokens = tokens, shadow = '0', windows = open_windows_of(key, day), owners = owners, estimate = estimate })
return { 'ok' }
