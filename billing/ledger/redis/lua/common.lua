-- What every script begins with. KEYS[1] is the project's prefix, `gw:{p7}:`: all keys of a script are in one slot.
--
--   state      HASH    epoch, opens (us), drained (stream id), and by scope (p, k5) the windows that are open
--   w:<b>/<w>  HASH    spent and reserved of window <w> of budget <b>, in nano-USD
--   open       HASH    reservation id -> its head (see `hold`), a line feed, its record as an estimate
--   done:<id>  STRING  s: settled, v: void, {...}: the record that was posted as an estimate
--   out        STREAM  records that SQL does not have yet: id, key, day, cost and the whole as JSON
--   r:<owner>  t:<owner>  HASH  requests and tokens of the last minute: total, oldest and newest bucket, and each bucket
--   c:<owner>  SET     ids of the reservations under way
--
-- Amounts are decimal text. Redis adds them (HINCRBY, 64 bits); Lua's numbers are doubles and hold 53.
local PREFIX = KEYS[1]
local STATE, RESERVATIONS, STREAM = PREFIX .. 'state', PREFIX .. 'open', PREFIX .. 'out'
local BUCKET_US = 250000
local BILLION = 1000000000

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Adds a decimal text, or takes it away. A counter that is full or damaged keeps no record from being written: the audit finds it.
local function add(key, field, amount)
  if amount ~= '0' then redis.pcall('HINCRBY', key, field, amount) end
end

local function subtract(key, field, amount)
  if string.sub(amount, 1, 1) == '-' then
    add(key, field, string.sub(amount, 2))
  elseif amount ~= '0' then
    redis.pcall('HINCRBY', key, field, '-' .. amount)
  end
end

-- Billions and the rest of a decimal text, as two doubles that are exact.
local function split_high_low(text)
  local negative = string.sub(text, 1, 1) == '-'
  local digits = negative and string.sub(text, 2) or text
  local high, low = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
  if negative then return -high, -low end
  return high, low
end

-- limit - spent - reserved: exact where the result fits 53 bits, whatever the size of the three.
local function remaining_in(limit, spent, reserved)
  local limit_high, limit_low = split_high_low(limit)
  local spent_high, spent_low = split_high_low(spent)
  local reserved_high, reserved_low = split_high_low(reserved)
  return (limit_high - spent_high - reserved_high) * BILLION + (limit_low - spent_low - reserved_low)
end

local function window_key(window) return PREFIX .. 'w:' .. window end

-- The open windows, of one scope, that a day falls into.
local function windows_covering(list, day, found)
  for window, first, last in string.gmatch(list or '', '([^;]+);([^;]+);([^;]+);') do
    if first <= day and day <= last then found[#found + 1] = window end
  end
  return found
end

-- Those windows of the project and of a key that exist.
local function open_windows_of(key, day)
  local lists = redis.call('HMGET', STATE, 'w:p', 'w:k' .. key)
  local found = {}
  for _, window in ipairs(windows_covering(lists[2], day, windows_covering(lists[1], day, {}))) do
    if redis.call('EXISTS', window_key(window)) == 1 then found[#found + 1] = window end
  end
  return found
end

local function join(parts) return #parts > 0 and table.concat(parts, ',') or '-' end

-- The text of a reservation: its head of nine words, a line feed, its record as an estimate (JSON).
-- `parse_reservation` below and `RedisReservation.parse` in Python read it.
local function encode_reservation(r)
  local head = { r.amount, r.process_id, r.key, r.day, r.since, r.tokens, r.shadow, join(r.windows), r.owners }
  return table.concat(head, ' ') .. '\n' .. r.estimate
end

-- Stores a reservation and adds its amount to `reserved` of its windows.
local function store_reservation(r)
  redis.call('HSET', RESERVATIONS, r.id, encode_reservation(r))
  for _, window in ipairs(r.windows) do add(window_key(window), 'reserved', r.amount) end
end

local RESERVATION_HEAD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)\n'
local function parse_reservation(text)
  local amount, process_id, key, day, since, tokens, shadow, windows, owners = string.match(text, RESERVATION_HEAD)
  return { amount = amount, process_id = process_id, key = key, day = day, since = since, tokens = tokens, shadow = shadow,
    windows = windows, owners = owners }
end

-- Changes what was counted of a request (`r:` or `t:`), if it still counts.
local function adjust_counter(kind, owner, since, change)
  local key = PREFIX .. kind .. owner
  local bucket = math.floor(since / BUCKET_US)
  if change ~= 0 and redis.call('HEXISTS', key, bucket) == 1 then
    redis.call('HINCRBY', key, bucket, change)
    redis.call('HINCRBY', key, 'total', change)
  end
end

-- Ends a reservation: what it held becomes what was spent, and its places are free.
local function release(id, reservation, cost, tokens)
  redis.call('HDEL', RESERVATIONS, id)
  for window in string.gmatch(reservation.windows, '[^,-][^,]*') do
    local key = window_key(window)
    if redis.call('EXISTS', key) == 1 then
      subtract(key, 'reserved', reservation.amount)
      add(key, 'spent', cost)
    end
  end
  for owner in string.gmatch(reservation.owners, '[^,-]+') do
    redis.call('SREM', PREFIX .. 'c:' .. owner, id)
    adjust_counter('t:', owner, tonumber(reservation.since), tokens - reservation.tokens)
  end
end

local function append_record(id, key, day, cost, entry)
  return redis.call('XADD', STREAM, '*', 'id', id, 'key', key, 'day', day, 'cost', cost, 'entry', entry)
end

-- Whether stream id `a` is after `b`.
local function is_after(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms > b_ms or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))
end

-- Calls visit(fields) for every event after a stream id.
local function each_record(since, visit)
  repeat
    local page = redis.call('XRANGE', STREAM, '(' .. since, '+', 'COUNT', 500)
    for _, event in ipairs(page) do
      local fields = {}
      for i = 1, #event[2], 2 do fields[event[2][i]] = event[2][i + 1] end
      visit(fields)
      since = event[1]
    end
  until #page < 500
end
