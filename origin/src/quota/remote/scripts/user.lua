-- One user's counters in one string:
--   version 2, jobs, units, tokens (16 bits each), rate (64 bits), then the records
--   job:   id (8 bytes), hour mark (32), unit hour (32; 0: settled before it came), cost (64), lease end (64), token (8 bytes)
--   units: hour (32), thousandths (64)
--   token: hash (8 bytes), rate (64)
--   hour:  admissions of the last hour, oldest first, in milliseconds modulo 2^32 (32)
local HEAD, JOB, UNIT, TOKEN = 15, 40, 12, 16
local HOUR, LEASE = 3600000, 3600000000

local function read_user(blob, now)
  local mark = math.floor(now / 1000) % 4294967296
  local u = { rate = 0, jobs = {}, units = {}, tokens = {}, hours = '', mark = mark }
  if not blob then return u end
  if #blob < HEAD or string.byte(blob, 1) ~= 2 then error('CORRUPT a stored user cannot be read') end
  local _, jobs, units, tokens, rate = struct.unpack('>BI2I2I2I8', blob)
  if #blob < HEAD + jobs * JOB + units * UNIT + tokens * TOKEN then error('CORRUPT a stored user is cut short') end
  u.rate = rate
  local at = HEAD + 1
  for i = 1, jobs do
    local id, mark, hour, cost, lease, token = struct.unpack('>c8I4I4I8I8c8', blob, at)
    u.jobs[i] = { id, mark, hour, cost, lease, token }
    at = at + JOB
  end
  local today = math.floor(now / 3600000000)
  for _ = 1, units do
    local hour, spent = struct.unpack('>I4I8', blob, at)
    if hour + 24 >= today then u.units[#u.units + 1] = { math.min(hour, today), spent } end
    at = at + UNIT
  end
  for _ = 1, tokens do
    local id, tat = struct.unpack('>c8I8', blob, at)
    if tat > now then u.tokens[#u.tokens + 1] = { id, tat } end
    at = at + TOKEN
  end
  -- The sliding hour: what has left it goes; what a clock set back left in the future counts from now on.
  local size = #blob
  while at + 3 <= size do
    local age = (mark - struct.unpack('>I4', blob, at)) % 4294967296
    if age < HOUR or age > 2147483648 then break end
    at = at + 4
  end
  u.hours = string.sub(blob, at)
  if at + 3 <= size then
    local age = (mark - struct.unpack('>I4', blob, size - 3)) % 4294967296
    if age > 2147483648 and 4294967296 - age > 60000 then
      u.hours = string.rep(struct.pack('>I4', mark), #u.hours / 4)
    end
  end
  return u
end

local function spent(u)
  local sum = 0
  for _, unit in ipairs(u.units) do sum = sum + unit[2] end
  return sum
end

local function give_back(u, hour, cost)
  for i = #u.units, 1, -1 do
    local unit = u.units[i]
    if unit[1] <= hour then
      unit[2] = math.max(0, unit[2] - cost)
      if unit[2] == 0 then table.remove(u.units, i) end
      return
    end
  end
end

-- A process that died holds no place for ever: after an hour its jobs are over, and their units given back.
local function drop_leases(u, now)
  for i = #u.jobs, 1, -1 do
    local job = u.jobs[i]
    if job[5] <= now or job[5] > now + 2 * LEASE then
      if job[3] > 0 then give_back(u, job[3], job[4]) end
      table.remove(u.jobs, i)
    end
  end
end

local function write_user(key, u)
  local parts = { struct.pack('>BI2I2I2I8', 2, #u.jobs, #u.units, #u.tokens, u.rate) }
  for _, j in ipairs(u.jobs) do
    parts[#parts + 1] = struct.pack('>c8I4I4I8I8c8', j[1], j[2], j[3], j[4], j[5], j[6])
  end
  for _, unit in ipairs(u.units) do parts[#parts + 1] = struct.pack('>I4I8', unit[1], unit[2]) end
  for _, token in ipairs(u.tokens) do parts[#parts + 1] = struct.pack('>c8I8', token[1], token[2]) end
  parts[#parts + 1] = u.hours
  put(key, table.concat(parts), #u.units > 0 and 90000000 or HOUR + 60000)
end
