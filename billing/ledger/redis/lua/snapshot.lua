-- Everything that Redis holds of a project, with the events after the one up to which SQL was read.
local drained = redis.call('HGET', STATE, 'drained') or '0-0'
if after(drained, ARGV[1]) then return { 'again' } end
local state, windows = redis.call('HGETALL', STATE), {}
for i = 1, #state, 2 do
  if string.sub(state[i], 1, 2) == 'w:' then
    for each, first, last in string.gmatch(state[i + 1], '([^;]+);([^;]+);([^;]+);') do
      local amounts = redis.call('HMGET', window_key(each), 'spent', 'reserved')
      if amounts[1] then windows[#windows + 1] = { state[i], each, first, last, amounts[1], amounts[2] } end
    end
  end
end
return { 'ok', windows, redis.call('HGETALL', OPEN), redis.call('XRANGE', OUT, '(' .. ARGV[1], '+') }
