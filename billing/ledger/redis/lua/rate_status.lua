-- Returns the status of rate limits. Each owner has four arguments, as in `reserve`, and four numbers in the
-- reply.
for i = 1, #ARGV, 4 do
  local requested, newest, used, t_newest, _ = 0, 0, 0, 0
  if ARGV[i + 1] ~= '' then requested, _, newest = slide(PREFIX .. 'r:' .. ARGV[i]) end
  if ARGV[i + 2] ~= '' then used, _, t_newest = slide(PREFIX .. 't:' .. ARGV[i]) end
  push_status(requested, newest, used, t_newest)
end
return status
