-- Adds an amount to an open reservation, if every hard budget has that much left. The arguments after the
-- amount are the windows of the hard budgets, each with the budget's limit.
local id, amount = ARGV[1], ARGV[2]
local text = redis.call('HGET', RESERVATIONS, id)
if not text then return { 'unknown' } end
if now_us() < tonumber(redis.call('HGET', STATE, 'opens') or 0) then return { 'rebuilding' } end
for i = 3, #ARGV, 2 do
  local amounts = redis.call('HMGET', window_key(ARGV[i]), 'spent', 'reserved')
  if not amounts[1] then return { 'missing' } end
  if remaining_in(ARGV[i + 1], amounts[1], amounts[2]) < tonumber(amount) then return { 'budget' } end
end

local reservation = parse_reservation(text)
for window in string.gmatch(reservation.windows, '[^,-][^,]*') do
  if redis.call('EXISTS', window_key(window)) == 1 then add(window_key(window), 'reserved', amount) end
end
local extended = string.format('%.0f', reservation.amount + amount)
redis.call('HSET', RESERVATIONS, id, extended .. string.sub(text, #reservation.amount + 1))
return { 'ok' }
