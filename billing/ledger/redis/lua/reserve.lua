-- Admits a request and reserves its amount, or returns the reason of the denial. A denial changes no counter.
local id, epoch, min_nano, max_nano, process_id, key, day, tokens, estimate, budgets = unpack(ARGV, 1, 10)
local FIRST_BUDGET = 11
local first_limit = FIRST_BUDGET + 3 * budgets

if redis.call('EXISTS', PREFIX .. 'done:' .. id) == 1 then return { 'cancelled' } end
local state = redis.call('HMGET', STATE, 'epoch', 'opens', 'w:p', 'w:k' .. key)
if epoch ~= '' and state[1] ~= epoch then return { 'epoch' } end
if tonumber(budgets) > 0 and now < tonumber(state[2] or 0) then return { 'rebuilding', state[2] - now } end

local windows, is_requested, amounts_by_window, missing = {}, {}, {}, { 'missing' }
for i = FIRST_BUDGET, first_limit - 1, 3 do
  local window = ARGV[i]
  local amounts = redis.call('HMGET', window_key(window), 'spent', 'reserved')
  if amounts[1] then
    windows[#windows + 1], is_requested[window], amounts_by_window[window] = window, true, amounts
  else
    missing[#missing + 1] = (i - FIRST_BUDGET) / 3
  end
end
if #missing > 1 then return missing end

-- Returns the microseconds until at least the amount `excess` has expired.
local function us_until_room(name, oldest, newest, excess)
  local buckets = {}
  if oldest > newest then return BUCKETS * BUCKET_US end
  for b = oldest, newest do buckets[#buckets + 1] = b end
  for i, amount in ipairs(redis.call('HMGET', name, unpack(buckets))) do
    excess = excess - (amount or 0)
    if excess <= 0 then return math.max(us_until_expiry(buckets[i]), BUCKET_US) end
  end
  return BUCKETS * BUCKET_US
end

local function deny_rate(i, kind, retry_us)
  return { 'rate', (i - first_limit) / 4, kind, retry_us, unpack(status) }
end

local counters = {}
for i = first_limit, #ARGV, 4 do
  local name = ARGV[i]
  local requests, tokens_limit, concurrent = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local r, t = PREFIX .. 'r:' .. name, PREFIX .. 't:' .. name
  local requested, oldest, newest, used, t_oldest, t_newest = 0, 0, 0, 0, 0, 0
  if requests then requested, oldest, newest = slide(r) end
  if tokens_limit then used, t_oldest, t_newest = slide(t) end
  push_status(requested, newest, used, t_newest)
  if concurrent and redis.call('SCARD', PREFIX .. 'c:' .. name) >= concurrent then
    return deny_rate(i, 'concurrent', 1000000)
  end
  if requests and requested + 1 > requests then
    return deny_rate(i, 'requests', us_until_room(r, oldest, newest, requested + 1 - requests))
  end
  if tokens_limit and tonumber(tokens) > tokens_limit then return deny_rate(i, 'tokens', -1) end
  if tokens_limit and used + tokens > tokens_limit then
    return deny_rate(i, 'tokens', us_until_room(t, t_oldest, t_newest, used + tokens - tokens_limit))
  end
  counters[#counters + 1] = {
    name = name, r = requests and r, t = tokens_limit and t, c = concurrent and PREFIX .. 'c:' .. name
  }
end

local minimum, maximum = tonumber(min_nano), tonumber(max_nano)
local granted, amount, shadow = maximum, max_nano, '0'
for i = FIRST_BUDGET, first_limit - 1, 3 do
  local window, mode, limit = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local remaining = remaining_in(limit, amounts_by_window[window][1], amounts_by_window[window][2])
  if remaining < minimum then
    if mode == 'hard' then
      return { 'budget', (i - FIRST_BUDGET) / 3, string.format('%.0f', math.max(remaining, 0)), unpack(status) }
    end
    if mode == 'shadow' and shadow == '0' then shadow = string.match(window, '^%d+') end
  end
  if mode == 'hard' and remaining < granted then granted, amount = remaining, string.format('%.0f', remaining) end
end

-- The reservation also counts in open windows of new budgets that the process does not know yet.
for _, window in ipairs(windows_covering(state[4], day, windows_covering(state[3], day, {}))) do
  if not is_requested[window] and redis.call('EXISTS', window_key(window)) == 1 then windows[#windows + 1] = window end
end

local function count_in_bucket(name, quantity)
  redis.call('HINCRBY', name, bucket, quantity)
  redis.call('HINCRBY', name, 'total', quantity)
  redis.call('HSET', name, 'newest', bucket)
  redis.call('HSETNX', name, 'oldest', bucket)
  redis.call('EXPIRE', name, 62)
end

local owners = {}
for i, each in ipairs(counters) do
  owners[i] = each.name
  if each.r then count_in_bucket(each.r, 1) end
  if each.t then count_in_bucket(each.t, tokens) end
  local n = 4 * i - 4
  status[n + 1], status[n + 2] = status[n + 1] + 1, us_until_expiry(bucket)
  status[n + 3], status[n + 4] = status[n + 3] + tokens, us_until_expiry(bucket)
  if each.c then redis.call('SADD', each.c, id) end
end
store_reservation({ id = id, amount = amount, process_id = process_id, key = key, day = day,
  since = string.format('%.0f', now), tokens = tokens, shadow = shadow, windows = windows, owners = join(owners),
  estimate = estimate })
return { 'ok', amount, tonumber(shadow), unpack(status) }
