-- KEYS: user, address, penalty box, reads, uploads, writes, work of uploads, and where there is a network, its rate and its
-- penalty box. Answers {now, address, network, reads, uploads, writes, work, token, user, hour used, newest mark's age, jobs,
-- units, newest unit hour}, and of
-- both penalty boxes {arrivals, newest arrival's age, blocked for}.
local skew, token = unpacked('>i8c8', ARGV[1])
local now = clock(skew)
read_user(get(1), now)
local function age_of_last(marks)
  if #marks < 4 then return 0 end
  local age = (u.mark - unpacked('>I4', marks, #marks - 3)) % 4294967296
  return age > 2147483648 and 0 or age
end
local function penalty(blob)
  if not blob then return 0, 0, 0 end
  if #blob < 8 then error('CORRUPT a stored penalty cannot be read') end
  local marks, arrivals = sub(blob, 9), 0
  for at = 1, #marks, 4 do
    if (u.mark - unpacked('>I4', marks, at)) % 4294967296 < 60000 then arrivals = arrivals + 1 end
  end
  return arrivals, age_of_last(marks), math.max(0, unpacked('>I8', blob) - now)
end
local arrivals, newest, blocked = penalty(get(3))
local newest_hour = u.amount > 0 and u.hour or #u.units > 0 and unpacked('>I4', u.units, #u.units - UNIT + 1) or 0
local function rate(i) return rate_of(get(i)) end
return { now, rate(2), KEYS[8] and rate(8) or 0, rate(4), rate(5), rate(6), rate(7), token_rate(token), u.rate, #u.hours / 4, age_of_last(u.hours),
  #u.jobs / JOB, u.spent, newest_hour, arrivals, newest, blocked, penalty(KEYS[9] and get(9)) }
