-- Returns the epoch of a project, the microseconds until its windows may open, the stream id up to which its
-- record stream was trimmed, and whether SQL knows the epoch. If there is no epoch, the given one begins,
-- unless it is empty.
local epoch, grace_us = unpack(ARGV)
local state = redis.call('HMGET', STATE, 'epoch', 'opens', 'drained', 'registered')
local now = now_us()
if not state[1] and epoch ~= '' then
  state = { epoch, now + grace_us, state[3], false }
  redis.call('HSET', STATE, 'epoch', epoch, 'opens', string.format('%.0f', now + grace_us))
end
return { state[1] or '', math.max((state[2] or 0) - now, 0), state[3] or '0-0', state[4] and 1 or 0 }
