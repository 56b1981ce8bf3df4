-- One user's counters in one string:
--   head:   version 3, jobs, orphans, older units, older tokens (16 bits each), end of the key's life (64), rate (64),
--           units of a day (64), newest hour with units (32), its units (64), newest token (8 bytes), its rate (64)
--   job:    id (8 bytes), hour mark (32), unit hour (32), cost (64), lease end (64), token (8 bytes); oldest first
--   orphan: an admission that was settled before it came: id (8 bytes), end (64); oldest first
--   units:  hour (32), thousandths (64); oldest first
--   token:  hash (8 bytes), rate (64)
--   hour:   admissions of the last hour, oldest first, in milliseconds modulo 2^32 (32)
-- The lists stay strings, and are only cut: taking them apart would cost more than all the rest.
local FORM = '>BI2I2I2I2I8I8I8I4I8c8I8'
local HEAD, JOB, ORPHAN, UNIT, TOKEN = 61, 40, 16, 12, 16
local HOUR, LEASE, DAY = 3600000, 3600000000, 90000000
local NO_TOKEN = string.rep('\0', 8)

-- The user that is decided on; one at a time.
local u = {}

-- Where a list has the record of this id.
local function place(list, id, size)
  local at = find(list, id, 1, true)
  while at and (at - 1) % size ~= 0 do at = find(list, id, at + 1, true) end
  return at
end

local function without(list, at, size)
  return sub(list, 1, at - 1) .. sub(list, at + size)
end

-- Units go back to the hour they were charged in, or to the one before it that is left.
local function give_back(hour, cost)
  if u.amount > 0 and u.hour <= hour then
    cost = math.min(cost, u.amount)
    u.amount = u.amount - cost
    u.spent = u.spent - cost
    return
  end
  for at = #u.units - UNIT + 1, 1, -UNIT do
    local of, amount = unpacked('>I4I8', u.units, at)
    if of <= hour then
      cost = math.min(cost, amount)
      local rest = amount > cost and pack('>I4I8', of, amount - cost) or ''
      u.units = sub(u.units, 1, at - 1) .. rest .. sub(u.units, at + UNIT)
      u.spent = u.spent - cost
      return
    end
  end
end

-- What is a day old goes; what a clock set back left in the future counts from now on.
local function age_units(today)
  while #u.units > 0 do
    local hour, amount = unpacked('>I4I8', u.units)
    if hour + 24 >= today then break end
    u.units = sub(u.units, UNIT + 1)
    u.spent = u.spent - amount
  end
  if u.hour + 24 < today then
    u.spent = u.spent - u.amount
    u.hour, u.amount = 0, 0
  elseif u.hour > today then
    u.hour = today
    local older = {}
    for at = 1, #u.units, UNIT do
      local hour, amount = unpacked('>I4I8', u.units, at)
      older[#older + 1] = pack('>I4I8', math.min(hour, today), amount)
    end
    u.units = table.concat(older)
  end
end

local function charge_units(hour, cost)
  if cost == 0 then return end
  if u.hour ~= hour then
    if u.amount > 0 then u.units = u.units .. pack('>I4I8', u.hour, u.amount) end
    u.hour, u.amount = hour, 0
  end
  u.amount = u.amount + cost
  u.spent = u.spent + cost
end

local function drop_job(at)
  local hour, cost = unpacked('>I4I8', u.jobs, at + 12)
  give_back(hour, cost)
  u.jobs = without(u.jobs, at, JOB)
end

-- A process that died holds no place for ever: after an hour its jobs are over, and their units given back. The oldest
-- end first; the newest lie too far ahead where the clock was set back.
local function drop_leases(now)
  while #u.jobs > 0 and unpacked('>I8', u.jobs, 25) <= now do drop_job(1) end
  while #u.jobs > 0 and unpacked('>I8', u.jobs, #u.jobs - 15) > now + 2 * LEASE do drop_job(#u.jobs - JOB + 1) end
  while #u.orphans > 0 do
    local ends = unpacked('>I8', u.orphans, 9)
    if ends > now and ends <= now + LEASE then break end
    u.orphans = sub(u.orphans, ORPHAN + 1)
  end
end

-- The sliding hour: what has left it goes; what a clock set back left in the future counts from now on.
local function age_hours(marks)
  local at, size = 1, #marks
  while at < size do
    local age = (u.mark - unpacked('>I4', marks, at)) % 4294967296
    if age < HOUR or age > 2147483648 then break end
    at = at + 4
  end
  if at > 1 then marks = sub(marks, at) end
  if #marks > 0 then
    local age = (u.mark - unpacked('>I4', marks, #marks - 3)) % 4294967296
    if age > 2147483648 and 4294967296 - age > 60000 then marks = string.rep(pack('>I4', u.mark), #marks / 4) end
  end
  u.hours = marks
end

-- Reads the user into `u`, as it stands now.
local function read_user(blob, now)
  u.mark = floor(now / 1000) % 4294967296
  if not blob then
    u.jobs, u.orphans, u.units, u.tokens, u.hours = '', '', '', '', ''
    u.ends, u.rate, u.spent, u.hour, u.amount, u.token, u.tat = 0, 0, 0, 0, 0, NO_TOKEN, 0
    return
  end
  if #blob < HEAD or string.byte(blob, 1) ~= 3 then error('CORRUPT a stored user cannot be read') end
  local _, jobs, orphans, units, tokens
  _, jobs, orphans, units, tokens, u.ends, u.rate, u.spent, u.hour, u.amount, u.token, u.tat = unpacked(FORM, blob)
  local a = HEAD + jobs * JOB
  local b = a + orphans * ORPHAN
  local c = b + units * UNIT
  local d = c + tokens * TOKEN
  if #blob < d or (#blob - d) % 4 ~= 0 then error('CORRUPT a stored user is cut short') end
  u.jobs, u.orphans, u.units, u.tokens = sub(blob, HEAD + 1, a), sub(blob, a + 1, b), sub(blob, b + 1, c), sub(blob, c + 1, d)
  age_units(floor(now / 3600000000))
  age_hours(sub(blob, d + 1))
  drop_leases(now)
end

-- Writes it, with one more job and mark where there is one. To set a key's life costs as much as its value: it is set
-- for a quarter longer than needed, and kept until that quarter is over.
local function write_user(key, now, job, mark)
  local needed, milliseconds = u.spent > 0 and DAY or HOUR + 60000
  if u.ends < now + needed * 1000 or u.ends > now + needed * 2000 then
    milliseconds = needed * 1.25
    u.ends = now + milliseconds * 1000
  end
  local head = pack(FORM, 3, (#u.jobs + #job) / JOB, #u.orphans / ORPHAN, #u.units / UNIT, #u.tokens / TOKEN, u.ends, u.rate,
    u.spent, u.hour, u.amount, u.token, u.tat)
  put(key, head .. u.jobs .. job .. u.orphans .. u.units .. u.tokens .. u.hours .. mark, milliseconds)
end

-- The rate of a token.
local function token_rate(token)
  if token == u.token then return u.tat end
  local at = place(u.tokens, token, TOKEN)
  return at and unpacked('>I8', u.tokens, at + 8) or 0
end

-- Sets it. The newest token stands in the head; behind it are those that still say something.
local function set_token_rate(token, tat, now)
  if token ~= u.token then
    local older = u.tat > now and u.token .. pack('>I8', u.tat) or ''
    for at = 1, #u.tokens, TOKEN do
      local one = sub(u.tokens, at, at + TOKEN - 1)
      if sub(one, 1, 8) ~= token and unpacked('>I8', one, 9) > now then older = older .. one end
    end
    u.tokens, u.token = older, token
  end
  u.tat = tat
end
