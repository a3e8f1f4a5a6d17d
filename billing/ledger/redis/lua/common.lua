-- The common part of all scripts. KEYS[1] is the prefix of the project's keys, `gw:{p7}:`. Because of the
-- braces, all keys of a script are in one hash slot.
--
--   state      HASH    epoch; opens: the time from which windows may be opened (us); drained: the stream id up
--                      to which the record stream was trimmed; registered: whether SQL knows the epoch; w:p and
--                      w:k<key>: lists of the open windows of the project-wide budgets and of a key's budgets
--   w:<b>/<w>  HASH    spent and reserved amount of window <w> of budget <b>, in nano-USD
--   open       HASH    open reservations: request id -> text (see `encode_reservation`)
--   done:<id>  STRING  dedup marker of an ended request. s: settled; v: cancelled; {...}: the estimate (JSON)
--                      by which it was settled
--   out        STREAM  the record stream: records that SQL does not have yet, as id, key, day, cost, entry
--                      (JSON)
--   r:<owner>  HASH    requests of the last minute: total, oldest and newest bucket, and count of each bucket
--   t:<owner>  HASH    tokens of the last minute, with the same fields
--   c:<owner>  SET     ids of the requests in flight
--
-- An owner is the project (p7) or a key (k5). Amounts are decimal texts, which HINCRBY adds exactly up to 64
-- bits. Lua's numbers are exact only up to 53 bits.
local PREFIX = KEYS[1]
local STATE, RESERVATIONS, STREAM = PREFIX .. 'state', PREFIX .. 'open', PREFIX .. 'out'
local BUCKET_US = 250000
local BILLION = 1000000000

local function now_us()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- Adds a decimal text to a counter. Errors are ignored (the counter overflows or is damaged), so that the
-- record is still written. The audit reports such a counter.
local function add(key, field, amount)
  if amount ~= '0' then redis.pcall('HINCRBY', key, field, amount) end
end

-- Subtracts a decimal text from a counter. Errors are ignored, as in `add`.
local function subtract(key, field, amount)
  if string.sub(amount, 1, 1) == '-' then
    add(key, field, string.sub(amount, 2))
  elseif amount ~= '0' then
    redis.pcall('HINCRBY', key, field, '-' .. amount)
  end
end

-- Splits a decimal text into billions and the remainder, because two doubles can represent it exactly.
local function split_high_low(text)
  local negative = string.sub(text, 1, 1) == '-'
  local digits = negative and string.sub(text, 2) or text
  local high, low = tonumber(string.sub(digits, 1, -10)) or 0, tonumber(string.sub(digits, -9))
  if negative then return -high, -low end
  return high, low
end

-- Returns limit - spent - reserved. The result is exact if it fits in 53 bits, even if the arguments do not.
local function remaining_in(limit, spent, reserved)
  local limit_high, limit_low = split_high_low(limit)
  local spent_high, spent_low = split_high_low(spent)
  local reserved_high, reserved_low = split_high_low(reserved)
  return (limit_high - spent_high - reserved_high) * BILLION + (limit_low - spent_low - reserved_low)
end

local function window_key(window) return PREFIX .. 'w:' .. window end

-- Appends to `found` those windows of a list of open windows that contain a day.
local function windows_covering(list, day, found)
  for window, first, last in string.gmatch(list or '', '([^;]+);([^;]+);([^;]+);') do
    if first <= day and day <= last then found[#found + 1] = window end
  end
  return found
end

-- Returns the open windows of the project and of a key that contain a day.
local function open_windows_of(key, day)
  local lists = redis.call('HMGET', STATE, 'w:p', 'w:k' .. key)
  local found = {}
  for _, window in ipairs(windows_covering(lists[2], day, windows_covering(lists[1], day, {}))) do
    if redis.call('EXISTS', window_key(window)) == 1 then found[#found + 1] = window end
  end
  return found
end

local function join(parts) return #parts > 0 and table.concat(parts, ',') or '-' end

-- Returns the text of a reservation: nine words, a line feed, and its estimate (JSON). `parse_reservation`
-- below and `RedisReservation.parse` in Python parse it. `since` is the time of the admission (us). `shadow`
-- is the id of the shadow budget that would have denied the request, or 0.
local function encode_reservation(r)
  local windows = join(r.windows)
  local head = { r.amount, r.process_id, r.key, r.day, r.since, r.tokens, r.shadow, windows, r.owners }
  return table.concat(head, ' ') .. '\n' .. r.estimate
end

-- Stores a reservation, and adds its amount to the reserved amount of its windows.
local function store_reservation(r)
  redis.call('HSET', RESERVATIONS, r.id, encode_reservation(r))
  for _, window in ipairs(r.windows) do add(window_key(window), 'reserved', r.amount) end
end

local RESERVATION_HEAD = '^(%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+) (%S+)\n'
local function parse_reservation(text)
  local amount, process_id, key, day, since, tokens, shadow, windows, owners =
    string.match(text, RESERVATION_HEAD)
  return { amount = amount, process_id = process_id, key = key, day = day, since = since, tokens = tokens,
    shadow = shadow, windows = windows, owners = owners }
end

-- Changes the count of the bucket in which a request was counted (`r:` or `t:`), unless the bucket has
-- expired.
local function adjust_counter(kind, owner, since, change)
  local key = PREFIX .. kind .. owner
  local bucket = math.floor(since / BUCKET_US)
  if change ~= 0 and redis.call('HEXISTS', key, bucket) == 1 then
    redis.call('HINCRBY', key, bucket, change)
    redis.call('HINCRBY', key, 'total', change)
  end
end

-- Ends a reservation. Replaces its reserved amount by the spent amount `cost` in its windows, and releases
-- its slots.
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

-- Appends a record to the stream, and returns its stream id.
local function append_record(id, key, day, cost, entry)
  return redis.call('XADD', STREAM, '*', 'id', id, 'key', key, 'day', day, 'cost', cost, 'entry', entry)
end

-- Returns whether stream id `a` is after `b`.
local function is_after(a, b)
  local a_ms, a_seq = string.match(a, '(%d+)-(%d+)')
  local b_ms, b_seq = string.match(b, '(%d+)-(%d+)')
  a_ms, b_ms = tonumber(a_ms), tonumber(b_ms)
  return a_ms > b_ms or (a_ms == b_ms and tonumber(a_seq) > tonumber(b_seq))
end

-- Calls visit(fields) for every record after a stream id.
local function each_record(since, visit)
  repeat
    local page = redis.call('XRANGE', STREAM, '(' .. since, '+', 'COUNT', 500)
    for _, record in ipairs(page) do
      local fields = {}
      for i = 1, #record[2], 2 do fields[record[2][i]] = record[2][i + 1] end
      visit(fields)
      since = record[1]
    end
  until #page < 500
end
