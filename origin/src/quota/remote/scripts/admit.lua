-- KEYS: for each decision user, address, and its network where there is one. ARGV: a decision each; they are made one
-- after the other, as if each had come alone. Answers {0, left}, or {the layer that refused, microseconds to wait} for
-- each in turn, or what was wrong with what is stored for it, and 0.
local function decide(arg, k)
  local skew, a_em, a_tol, w_em, w_tol, t_em, t_tol, u_em, u_tol, hour_limit, job_limit, has_units, unit_limit, cost, id, token =
    unpacked('>i8I8I8I8I8I8I8I8I8I8I8I8I8I8c8c8', arg)
  local now = clock(skew)
  read_user(get(k + 1), now)
  -- Sent twice: charged once. One that was given up before it came is not charged at all.
  if place(u.jobs, id, JOB) then return 0, 0 end
  if place(u.orphans, id, ORPHAN) then return 8, 0 end

  local address, left = gcra(rate_of(get(k + 2)), a_em, a_tol, now)
  if not address then return 1, left end
  local wide, l
  if w_em > 0 then
    wide, l = gcra(rate_of(get(k + 3)), w_em, w_tol, now)
    if not wide then return 2, l end
    left = math.min(left, l)
  end
  local token_tat, rate
  token_tat, l = gcra(token_rate(token), t_em, t_tol, now)
  if not token_tat then return 3, l end
  left = math.min(left, l)
  rate, l = gcra(u.rate, u_em, u_tol, now)
  if not rate then return 4, l end
  left = math.min(left, l)
  local used = #u.hours / 4
  if used >= hour_limit then
    local leaves = unpacked('>I4', u.hours, (used - hour_limit) * 4 + 1)
    local age = (u.mark - leaves) % 4294967296
    if age > 2147483648 then age = 0 end
    return 5, (HOUR - age) * 1000
  end
  left = math.min(left, hour_limit - used - 1)
  if #u.jobs / JOB >= job_limit then return 6, 0 end
  if has_units == 1 and u.spent + cost > unit_limit then
    local sum = u.spent
    for at = 1, #u.units, UNIT do
      local hour, amount = unpacked('>I4I8', u.units, at)
      sum = sum - amount
      if sum + cost <= unit_limit then return 7, (hour + 25) * 3600000000 - now end
    end
    if u.amount > 0 and cost <= unit_limit then return 7, (u.hour + 25) * 3600000000 - now end
    return 7, 86400000000
  end

  -- Nobody refused: all are charged.
  put_rate(KEYS[k + 2], address, now)
  if wide then put_rate(KEYS[k + 3], wide, now) end
  local hour = floor(now / 3600000000)
  set_token_rate(token, token_tat, now)
  charge_units(hour, cost)
  u.rate = rate
  local job = pack('>c8I4I4I8I8c8', id, u.mark, hour, cost, now + LEASE, token)
  write_user(KEYS[k + 1], now, job, pack('>I4', u.mark))
  return 0, left
end

local answers, k = {}, 0
for i = 1, #ARGV do
  local decided, layer, number = pcall(decide, ARGV[i], k)
  if not decided then
    local reason = type(layer) == 'table' and layer.err or layer
    -- What is wrong with one key is the business of those who need it; all else concerns everybody.
    if not find(reason, 'CORRUPT', 1, true) and not find(reason, 'WRONGTYPE', 1, true) then error(layer, 0) end
    layer, number = reason, 0
  end
  answers[2 * i - 1], answers[2 * i] = layer, number
  k = k + (unpacked('>I8', ARGV[i], 25) > 0 and 3 or 2)
end
return answers
