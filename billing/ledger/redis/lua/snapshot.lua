-- Returns the windows of a project. The windows in ARGV[2] and the following arguments are returned even if
-- they are missing from the lists of open windows. If the stream was trimmed beyond the stream id ARGV[1], up
-- to which the caller has read SQL, the reply is 'retry'.
local drained = redis.call('HGET', STATE, 'drained') or '0-0'
if is_after(drained, ARGV[1]) then return { 'retry' } end
local windows, seen = {}, {}
local function add_window(window, is_indexed)
  if seen[window] or redis.call('EXISTS', window_key(window)) == 0 then return end
  local amounts = redis.call('HMGET', window_key(window), 'spent', 'reserved')
  windows[#windows + 1], seen[window] = { window, is_indexed, amounts[1] or '', amounts[2] or '' }, true
end
local state = redis.call('HGETALL', STATE)
for i = 1, #state, 2 do
  if string.sub(state[i], 1, 2) == 'w:' then
    for window in string.gmatch(state[i + 1], '([^;]+);[^;]+;[^;]+;') do add_window(window, 1) end
  end
end
for i = 2, #ARGV do add_window(ARGV[i], 0) end
return { 'ok', redis.call('HEXISTS', STATE, 'epoch'), windows }
