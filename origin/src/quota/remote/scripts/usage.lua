-- KEYS: user, address, penalty box, reads, uploads, and where there is a network, its rate and its penalty box. Answers
-- {now, address, network, reads, uploads, token, user, hour used, newest mark's age, jobs, units, newest unit hour}, and of
-- both penalty boxes {arrivals, newest arrival's age, blocked for}.
local skew, token = struct.unpack('>i8c8', ARGV[1])
local now = clock(skew)
local values = load()
local u = read_user(values[1], now)
drop_leases(u, now)
local token_tat, running = 0, 0
for _, one in ipairs(u.tokens) do
  if one[1] == token then token_tat = one[2] end
end
for _, job in ipairs(u.jobs) do
  if job[3] > 0 then running = running + 1 end
end
local mark = math.floor(now / 1000) % 4294967296
local function age_of_last(marks)
  if #marks < 4 then return 0 end
  local age = (mark - struct.unpack('>I4', marks, #marks - 3)) % 4294967296
  return age > 2147483648 and 0 or age
end
local function penalty(blob)
  if not blob then return 0, 0, 0 end
  if #blob < 8 then error('CORRUPT a stored penalty cannot be read') end
  local marks, arrivals = string.sub(blob, 9), 0
  for at = 1, #marks, 4 do
    if (mark - struct.unpack('>I4', marks, at)) % 4294967296 < 60000 then arrivals = arrivals + 1 end
  end
  return arrivals, age_of_last(marks), math.max(0, struct.unpack('>I8', blob) - now)
end
local arrivals, newest, blocked = penalty(values[3])
local last = u.units[#u.units]
return { now, number(values[2]), KEYS[6] and number(values[6]) or 0, number(values[4]), number(values[5]), token_tat, u.rate, #u.hours / 4,
  age_of_last(u.hours), running, spent(u), last and last[1] or 0, arrivals, newest, blocked, penalty(values[7]) }
