-- Ends a reservation without a record, because the provider continues the response in the background. When
-- the cost is known, `settle` writes the record. In the rate limits, the request still counts with its
-- estimated tokens.
local id = ARGV[1]
local text = redis.call('HGET', RESERVATIONS, id)
if text then
  local reservation = parse_reservation(text)
  release(id, reservation, '0', tonumber(reservation.tokens))
end
return { 'ok' }
