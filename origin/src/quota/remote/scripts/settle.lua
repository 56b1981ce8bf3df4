-- KEYS: user, address, network or none. Ends an admission once, whatever number of times it is sent.
local skew, a_em, w_em, t_em, u_em, refund, kept, may_come, id = unpacked('>i8I8I8I8I8I8I8I8c8', ARGV[1])
local now = clock(skew)
read_user(get(1), now)
local at = place(u.jobs, id, JOB)
if at then
  local mark, hour, cost, _, token = unpacked('>c4I4I8I8c8', u.jobs, at + 8)
  u.jobs = without(u.jobs, at, JOB)
  give_back(hour, refund == 1 and cost or math.max(0, cost - kept))
  if refund == 1 then
    if token == u.token then
      u.tat = math.max(0, u.tat - t_em)
    else
      local older = place(u.tokens, token, TOKEN)
      if older then
        local tat = math.max(0, unpacked('>I8', u.tokens, older + 8) - t_em)
        u.tokens = sub(u.tokens, 1, older + 7) .. pack('>I8', tat) .. sub(u.tokens, older + TOKEN)
      end
    end
    u.rate = math.max(0, u.rate - u_em)
    for last = #u.hours - 3, 1, -4 do
      if sub(u.hours, last, last + 3) == mark then
        u.hours = without(u.hours, last, 4)
        break
      end
    end
    put_rate(KEYS[2], rate_of(get(2)) - a_em, now)
    if KEYS[3] then put_rate(KEYS[3], rate_of(get(3)) - w_em, now) end
  end
  write_user(KEYS[1], now, '', '')
  return { 1 }
end
-- The admission was given up before its answer came. Should it come yet, it finds this.
if may_come == 1 and not place(u.orphans, id, ORPHAN) then
  u.orphans = u.orphans .. id .. pack('>I8', now + 120000000)
  write_user(KEYS[1], now, '', '')
end
return { 0 }
