-- Drops the events that SQL has, up to a stream id.
local through, following = unpack(ARGV)
if after(through, redis.call('HGET', STATE, 'drained') or '0-0') then redis.call('HSET', STATE, 'drained', through) end
return redis.call('XTRIM', OUT, 'MINID', '=', following)
