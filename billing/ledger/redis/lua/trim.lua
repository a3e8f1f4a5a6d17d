-- Deletes the records up to a stream id, because SQL has them, and stores that id.
local last_id, next_id = unpack(ARGV)
if is_after(last_id, redis.call('HGET', STATE, 'drained') or '0-0') then
  redis.call('HSET', STATE, 'drained', last_id)
end
return redis.call('XTRIM', STREAM, 'MINID', '=', next_id)
