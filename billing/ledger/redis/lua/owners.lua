-- The processes that hold something; with one of them given, up to `count` of its reservations, each as its id and its text.
local owner, count = ARGV[1], tonumber(ARGV[2])
local open = redis.call('HGETALL', OPEN)
local seen, found = {}, {}
for i = 1, #open, 2 do
  local held = string.match(open[i + 1], '^%S+ (%S+)')
  if not owner and not seen[held] then
    seen[held], found[#found + 1] = true, held
  elseif held == owner and #found < 2 * count then
    found[#found + 1], found[#found + 2] = open[i], open[i + 1]
  end
end
return found
