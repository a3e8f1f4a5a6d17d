-- Undoes a reservation. If Redis executes the script `reserve` of this request later, that script finds the
-- dedup marker and rejects the reservation.
local id, marker_ttl_s = unpack(ARGV)
local text = redis.call('HGET', RESERVATIONS, id)
if text then
  local reservation = parse_reservation(text)
  release(id, reservation, '0', 0)
  for owner in string.gmatch(reservation.owners, '[^,-]+') do
    adjust_counter('r:', owner, tonumber(reservation.since), -1)
  end
end
redis.call('SET', PREFIX .. 'done:' .. id, 'v', 'EX', marker_ttl_s, 'NX')
return { 'ok' }
