-- Admits a request and holds its money, or says why not and has then changed nothing that counts.
local id, epoch, at_least, at_most, owner, key, day, tokens, draft, budgets = unpack(ARGV, 1, 10)
local FIRST_BUDGET = 11
local first_limit = FIRST_BUDGET + 3 * budgets

if redis.call('EXISTS', P .. 'done:' .. id) == 1 then return { 'void' } end
local state = redis.call('HMGET', STATE, 'epoch', 'opens', 'w:p', 'w:k' .. key)
if epoch ~= '' and state[1] ~= epoch then return { 'epoch' } end
if tonumber(budgets) > 0 and now < tonumber(state[2] or 0) then return { 'opening', state[2] - now } end

local windows, demanded, taken, missing = {}, {}, {}, { 'missing' }
for i = FIRST_BUDGET, first_limit - 1, 3 do
  local window = ARGV[i]
  local amounts = redis.call('HMGET', window_key(window), 'spent', 'reserved')
  if amounts[1] then
    windows[#windows + 1], demanded[window], taken[window] = window, true, amounts
  else
    missing[#missing + 1] = (i - FIRST_BUDGET) / 3
  end
end
if #missing > 1 then return missing end

-- Microseconds until `excess` has fallen out of a minute.
local function room_in(name, oldest, newest, excess)
  local buckets = {}
  if oldest > newest then return BUCKETS * BUCKET_US end
  for b = oldest, newest do buckets[#buckets + 1] = b end
  for i, amount in ipairs(redis.call('HMGET', name, unpack(buckets))) do
    excess = excess - (amount or 0)
    if excess <= 0 then return math.max(ends_in(buckets[i]), BUCKET_US) end
  end
  return BUCKETS * BUCKET_US
end

local function refuse_rate(i, kind, retry_us)
  return { 'rate', (i - first_limit) / 4, kind, retry_us, unpack(standing) }
end

local counted = {}
for i = first_limit, #ARGV, 4 do
  local name = ARGV[i]
  local requests, tokens_limit, concurrent = tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), tonumber(ARGV[i + 3])
  local r, t = P .. 'r:' .. name, P .. 't:' .. name
  local asked, oldest, newest, used, t_oldest, t_newest = 0, 0, 0, 0, 0, 0
  if requests then asked, oldest, newest = slide(r) end
  if tokens_limit then used, t_oldest, t_newest = slide(t) end
  stand(asked, newest, used, t_newest)
  if concurrent and redis.call('SCARD', P .. 'c:' .. name) >= concurrent then return refuse_rate(i, 'concurrent', 1000000) end
  if requests and asked + 1 > requests then
    return refuse_rate(i, 'requests', room_in(r, oldest, newest, asked + 1 - requests))
  end
  if tokens_limit and tonumber(tokens) > tokens_limit then return refuse_rate(i, 'tokens', -1) end
  if tokens_limit and used + tokens > tokens_limit then
    return refuse_rate(i, 'tokens', room_in(t, t_oldest, t_newest, used + tokens - tokens_limit))
  end
  counted[#counted + 1] = { name = name, r = requests and r, t = tokens_limit and t, c = concurrent and P .. 'c:' .. name }
end

local least, most = tonumber(at_least), tonumber(at_most)
local left, amount, shadow = most, at_most, '0'
for i = FIRST_BUDGET, first_limit - 1, 3 do
  local window, mode, limit = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local remaining = difference(limit, taken[window][1], taken[window][2])
  if remaining < least then
    if mode == 'hard' then return { 'budget', (i - FIRST_BUDGET) / 3, string.format('%.0f', math.max(remaining, 0)), unpack(standing) } end
    if mode == 'shadow' and shadow == '0' then shadow = string.match(window, '^%d+') end
  end
  if mode == 'hard' and remaining < left then left, amount = remaining, string.format('%.0f', remaining) end
end

-- Windows that the asking process has not heard of count too.
for _, window in ipairs(covering(state[4], day, covering(state[3], day, {}))) do
  if not demanded[window] and redis.call('EXISTS', window_key(window)) == 1 then windows[#windows + 1] = window end
end

local function count(name, quantity)
  redis.call('HINCRBY', name, bucket, quantity)
  redis.call('HINCRBY', name, 'total', quantity)
  redis.call('HSET', name, 'newest', bucket)
  redis.call('HSETNX', name, 'oldest', bucket)
  redis.call('EXPIRE', name, 62)
end

local owners = {}
for i, each in ipairs(counted) do
  owners[i] = each.name
  if each.r then count(each.r, 1) end
  if each.t then count(each.t, tokens) end
  local n = 4 * i - 4
  standing[n + 1], standing[n + 2] = standing[n + 1] + 1, ends_in(bucket)
  standing[n + 3], standing[n + 4] = standing[n + 3] + tokens, ends_in(bucket)
  if each.c then redis.call('SADD', each.c, id) end
end
hold({ id = id, amount = amount, owner = owner, key = key, day = day, since = string.format('%.0f', now), tokens = tokens,
  shadow = shadow, windows = windows, owners = join(owners), draft = draft })
return { 'ok', amount, tonumber(shadow), unpack(standing) }
