-- Notes that SQL knows an epoch. The windows of a new project may open at once, because no process has
-- anything to restore. The script also ensures that the ids of the record stream continue after the last
-- drained one, even if the clock of this server is behind. Otherwise, records with lower ids would never be
-- drained.
local epoch, is_new, drained = unpack(ARGV)
if redis.call('HGET', STATE, 'epoch') ~= epoch then return 0 end
redis.call('HSET', STATE, 'registered', 1)
if is_new == '1' then redis.call('HSET', STATE, 'opens', 0) end
if redis.call('EXISTS', STREAM) == 1 then
  local last = redis.call('XREVRANGE', STREAM, '+', '-', 'COUNT', 1)
  if not last[1] or is_after(drained, last[1][1]) then redis.pcall('XSETID', STREAM, drained) end
elseif drained ~= '0-0' then
  redis.call('XADD', STREAM, 'MAXLEN', '=', '0', drained, 'id', '')
end
return 1
