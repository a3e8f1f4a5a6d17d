-- What Redis knows of a project: its epoch, the microseconds until its windows may open, up to which event its outbox was
-- trimmed, and whether SQL knows of the epoch. Where it knows nothing, an epoch begins, if one is given.
local epoch, grace_us = unpack(ARGV)
local state = redis.call('HMGET', STATE, 'epoch', 'opens', 'drained', 'registered')
local now = now_us()
if not state[1] and epoch ~= '' then
  state = { epoch, now + grace_us, state[3], false }
  redis.call('HSET', STATE, 'epoch', epoch, 'opens', string.format('%.0f', now + grace_us))
end
return { state[1] or '', math.max((state[2] or 0) - now, 0), state[3] or '0-0', state[4] and 1 or 0 }
