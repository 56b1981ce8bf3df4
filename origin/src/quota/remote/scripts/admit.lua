-- KEYS: user, address, network or none. Answers {0, left}, or {the layer that refused, microseconds to wait}.
local skew, a_em, a_tol, w_em, w_tol, t_em, t_tol, u_em, u_tol, hour_limit, job_limit, has_units, unit_limit, cost, id, token =
  struct.unpack('>i8I8I8I8I8I8I8I8I8I8I8I8I8I8c8c8', ARGV[1])
local now = clock(skew)
local values = load()
local u = read_user(values[1], now)
drop_leases(u, now)
local running = 0
for _, job in ipairs(u.jobs) do
  if job[1] == id then
    -- Sent twice: charged once. One that was given up before it came is not charged at all.
    if job[3] == 0 then return { 8, 0 } end
    return { 0, 0 }
  end
  if job[3] > 0 then running = running + 1 end
end

local address, left = gcra(number(values[2]), a_em, a_tol, now)
if not address then return { 1, left } end
local wide
if KEYS[3] then
  local l
  wide, l = gcra(number(values[3]), w_em, w_tol, now)
  if not wide then return { 2, l } end
  left = math.min(left, l)
end
local mine
for _, one in ipairs(u.tokens) do
  if one[1] == token then mine = one end
end
local token_tat, l = gcra(mine and mine[2] or 0, t_em, t_tol, now)
if not token_tat then return { 3, l } end
left = math.min(left, l)
local rate
rate, l = gcra(u.rate, u_em, u_tol, now)
if not rate then return { 4, l } end
left = math.min(left, l)
local used = #u.hours / 4
if used >= hour_limit then
  local leaves = struct.unpack('>I4', u.hours, (used - hour_limit) * 4 + 1)
  local age = (u.mark - leaves) % 4294967296
  if age > 2147483648 then age = 0 end
  return { 5, (HOUR - age) * 1000 }
end
left = math.min(left, hour_limit - used - 1)
if running >= job_limit then return { 6, 0 } end
local hour = math.floor(now / 3600000000)
if has_units == 1 then
  local sum = spent(u)
  if sum + cost > unit_limit then
    for _, unit in ipairs(u.units) do
      sum = sum - unit[2]
      if sum + cost <= unit_limit then return { 7, (unit[1] + 25) * 3600000000 - now } end
    end
    return { 7, 86400000000 }
  end
end

-- Nobody refused: all are charged.
put_time(KEYS[2], address, now)
if wide then put_time(KEYS[3], wide, now) end
if mine then mine[2] = token_tat else u.tokens[#u.tokens + 1] = { token, token_tat } end
u.rate = rate
u.hours = u.hours .. struct.pack('>I4', u.mark)
if cost > 0 then
  local last = u.units[#u.units]
  if last and last[1] == hour then last[2] = last[2] + cost else u.units[#u.units + 1] = { hour, cost } end
end
u.jobs[#u.jobs + 1] = { id, u.mark, hour, cost, now + LEASE, token }
write_user(KEYS[1], u)
return { 0, left }
