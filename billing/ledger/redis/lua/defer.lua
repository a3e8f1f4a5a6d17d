-- Ends a reservation without a record: the provider continues in the background, and `settle` follows when the
-- cost is known. The request still counts in its rate limits, by the estimate of its tokens.
local id = ARGV[1]
local text = redis.call('HGET', RESERVATIONS, id)
if text then
  local reservation = parse_reservation(text)
  release(id, reservation, '0', tonumber(reservation.tokens))
end
return { 'ok' }
