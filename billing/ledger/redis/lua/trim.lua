-- Deletes the records of the stream up to `last_id`, because SQL has them, and stores this id. `next_id` is the
-- stream id that follows it.
local last_id, next_id = unpack(ARGV)
if is_after(last_id, redis.call('HGET', STATE, 'drained') or '0-0') then
  redis.call('HSET', STATE, 'drained', last_id)
end
return redis.call('XTRIM', STREAM, 'MINID', '=', next_id)
