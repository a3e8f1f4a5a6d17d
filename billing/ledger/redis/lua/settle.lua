-- Ends a reservation and keeps its record; once. `mark` is what a later settlement of the same request will find.
-- A request that is not known here is posted where the caller says that it cannot have been before (`fresh`).
local id, cost, tokens, key, day, entry, mark, mark_s, fresh, epoch, owner = unpack(ARGV)
local done = P .. 'done:' .. id
local text = redis.call('HGET', OPEN, id)
if not text then
  local found = redis.call('GET', done)
  if found and found ~= 'v' then return found == 's' and { 'done' } or { 'estimated', found } end
  if fresh ~= '1' then return { 'unknown' } end
  if epoch ~= '' and epoch ~= redis.call('HGET', STATE, 'epoch') then return { 'unknown' } end
  for _, window in ipairs(windows_of(key, day)) do add(window_key(window), 'spent', cost) end
else
  local held = parse(text)
  if owner and held.owner ~= owner then return { 'done' } end
  let_go(id, held, cost, tokens)
end
redis.call('SET', done, mark, 'EX', mark_s)
return { 'ok', post(id, key, day, cost, entry) }
