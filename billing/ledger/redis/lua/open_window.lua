-- Opens a window. Its spent amount is `spent`, the sum in SQL up to the stream id `last_id`, plus the records
-- of the stream after `last_id`. Its reserved amount is the sum of the open reservations of its days. If the
-- stream was trimmed beyond `last_id` meanwhile, records in between would be missed. The reply is then
-- 'retry', and the caller must query SQL again.
local window, window_owner, first, last, spent, last_id, ends_ms, epoch = unpack(ARGV)
local key, list = window_key(window), 'w:' .. window_owner
if redis.call('EXISTS', key) == 1 then return { 'ok' } end
local state = redis.call('HMGET', STATE, 'epoch', 'opens', 'drained', list)
if state[1] ~= epoch or now_us() < tonumber(state[2]) then return { 'epoch' } end
if is_after(state[3] or '0-0', last_id) then return { 'retry', state[3] } end

local function in_window(key_id, day)
  return (window_owner == 'p' or window_owner == 'k' .. key_id) and first <= day and day <= last
end

redis.call('HSET', key, 'spent', spent, 'reserved', '0')
each_record(last_id, function(fields)
  if in_window(fields.key, fields.day) then add(key, 'spent', fields.cost) end
end)
local open = redis.call('HGETALL', RESERVATIONS)
for i = 1, #open, 2 do
  local r = parse_reservation(open[i + 1])
  if in_window(r.key, r.day) then
    r.id, r.estimate = open[i], string.match(open[i + 1], '\n(.*)$')
    local windows = {}
    -- If Redis has lost the window but not the reservation, the reservation already names this window.
    for name in string.gmatch(r.windows, '[^,-][^,]*') do
      if name ~= window then windows[#windows + 1] = name end
    end
    add(key, 'reserved', r.amount)
    windows[#windows + 1] = window
    r.windows = windows
    redis.call('HSET', RESERVATIONS, r.id, encode_reservation(r))
  end
end
if ends_ms ~= '0' then redis.call('PEXPIREAT', key, ends_ms) end

local windows = {}
for name, begins, ends in string.gmatch(state[4] or '', '([^;]+);([^;]+);([^;]+);') do
  if name ~= window and redis.call('EXISTS', window_key(name)) == 1 then
    windows[#windows + 1] = name .. ';' .. begins .. ';' .. ends .. ';'
  end
end
windows[#windows + 1] = window .. ';' .. first .. ';' .. last .. ';'
redis.call('HSET', STATE, list, table.concat(windows))
return { 'ok' }
