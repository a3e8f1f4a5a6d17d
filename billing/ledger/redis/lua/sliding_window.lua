-- Sliding windows over the last minute, for `reserve` and `rate_status`.
local BUCKETS = 240
local now = now_us()
local bucket = math.floor(now / BUCKET_US)

-- Deletes the buckets that are older than a minute. Returns the total, the oldest and the newest bucket.
local function slide(name)
  local head = redis.call('HMGET', name, 'total', 'oldest', 'newest')
  local total, oldest, newest = tonumber(head[1] or 0), tonumber(head[2] or bucket), tonumber(head[3] or 0)
  local first = bucket - BUCKETS
  if oldest > bucket then
    -- The clock was set back, so the buckets would not expire for a long time.
    redis.call('DEL', name)
    return 0, bucket, 0
  end
  if oldest >= first then return total, oldest, newest end
  local expired = {}
  for b = oldest, first - 1 do expired[#expired + 1] = b end
  for _, amount in ipairs(redis.call('HMGET', name, unpack(expired))) do total = total - (amount or 0) end
  redis.call('HDEL', name, unpack(expired))
  redis.call('HSET', name, 'total', total, 'oldest', first)
  return total, first, newest
end

-- Returns the microseconds until a bucket is older than a minute.
local function us_until_expiry(b) return (b + 1 + BUCKETS) * BUCKET_US - now end

-- Four numbers for each owner: the requests, the microseconds until all of them have expired, and the same
-- for tokens.
local status = {}
local function push_status(requests, newest_request, used, newest_token)
  local n = #status
  status[n + 1], status[n + 2] = requests, math.max(us_until_expiry(newest_request), 0)
  status[n + 3], status[n + 4] = used, math.max(us_until_expiry(newest_token), 0)
end

