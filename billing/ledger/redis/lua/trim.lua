-- Drops the records that SQL has, up to a stream id, and notes that id.
local last_id, next_id = unpack(ARGV)
if is_after(last_id, redis.call('HGET', STATE, 'drained') or '0-0') then
  redis.call('HSET', STATE, 'drained', last_id)
end
return redis.call('XTRIM', STREAM, 'MINID', '=', next_id)
