-- Opens a window: what SQL has spent in it, and events that SQL does not have yet, and reservations that fall into it.
local window, scope, first, last, spent, drained, ends_ms, epoch = unpack(ARGV)
local key, list = window_key(window), 'w:' .. scope
if redis.call('EXISTS', key) == 1 then return { 'ok' } end
local state = redis.call('HMGET', STATE, 'epoch', 'opens', 'drained', list)
if state[1] ~= epoch or now_us() < tonumber(state[2]) then return { 'epoch' } end
if after(state[3] or '0-0', drained) then return { 'again', state[3] } end

local function covers(owner, day) return (scope == 'p' or scope == 'k' .. owner) and first <= day and day <= last end

redis.call('HSET', key, 'spent', spent, 'reserved', '0')
each_event(drained, function(fields)
  if covers(fields.key, fields.day) then add(key, 'spent', fields.cost) end
end)
local open = redis.call('HGETALL', OPEN)
for i = 1, #open, 2 do
  local r = parse(open[i + 1])
  if covers(r.key, r.day) then
    r.id, r.draft = open[i], string.match(open[i + 1], '\n(.*)$')
    local windows = {}
    -- It may name this very window, if that was lost and the reservation was not.
    for each in string.gmatch(r.windows, '[^,-][^,]*') do
      if each ~= window then windows[#windows + 1] = each end
    end
    add(key, 'reserved', r.amount)
    windows[#windows + 1] = window
    redis.call('HSET', OPEN, r.id, table.concat({ r.amount, r.owner, r.key, r.day, r.since, r.tokens, r.shadow, join(windows), r.owners }, ' ') .. '\n' .. r.draft)
  end
end
if ends_ms ~= '0' then redis.call('PEXPIREAT', key, ends_ms) end

local windows = {}
for each, begins, ends in string.gmatch(state[4] or '', '([^;]+);([^;]+);([^;]+);') do
  if each ~= window and redis.call('EXISTS', window_key(each)) == 1 then windows[#windows + 1] = each .. ';' .. begins .. ';' .. ends .. ';' end
end
windows[#windows + 1] = window .. ';' .. first .. ';' .. last .. ';'
redis.call('HSET', STATE, list, table.concat(windows))
return { 'ok' }
