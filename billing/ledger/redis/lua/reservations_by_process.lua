-- Returns the ids of the processes that have open reservations. If a process id is given, returns up to
-- `count` reservations of that process instead, each as id and text.
local process_id, count = ARGV[1], tonumber(ARGV[2])
local open = redis.call('HGETALL', RESERVATIONS)
local seen, found = {}, {}
for i = 1, #open, 2 do
  local holder = string.match(open[i + 1], '^%S+ (%S+)')
  if not process_id and not seen[holder] then
    seen[holder], found[#found + 1] = true, holder
  elseif holder == process_id and #found < 2 * count then
    found[#found + 1], found[#found + 2] = open[i], open[i + 1]
  end
end
return found
