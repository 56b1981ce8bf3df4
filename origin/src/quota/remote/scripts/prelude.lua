-- What every script begins with. Times are microseconds of the server's clock, exact in a double until the year 2255.
local pack, unpacked, sub, find, floor = struct.pack, struct.unpack, string.sub, string.find, math.floor
local t = redis.call('TIME')
local function clock(skew) return t[1] * 1000000 + t[2] + skew end

-- The values of all keys come in one call; what was put since stands before them. MGET answers nil for a key of another
-- type; GET tells.
local all = redis.call('MGET', unpack(KEYS))
local written = {}
local function get(i)
  local key = KEYS[i]
  local value = written[key]
  if value == nil then value = all[i] or redis.call('GET', key) end
  return value
end

-- Without milliseconds the key lives as long as it was to live before.
local function put(key, value, milliseconds)
  written[key] = value
  if not milliseconds then return redis.call('SET', key, value, 'KEEPTTL') end
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.max(1, math.ceil(milliseconds))))
end

-- A rate is the time at which it has all its passes again (64 bits); then its key ends.
local function rate_of(blob)
  if not blob then return 0 end
  if #blob ~= 8 then error('CORRUPT a stored rate cannot be read') end
  return (unpacked('>I8', blob))
end

local function put_rate(key, tat, now)
  if tat > now then return put(key, pack('>I8', tat), (tat - now) / 1000 + 1) end
  written[key] = false
  redis.call('DEL', key)
end

-- The generic cell rate algorithm, as in shared/src/gcra.rs. Returns the new time and what is left, or nil and the wait.
local function gcra(tat, emission, tolerance, now)
  local ahead = tat - now
  local window = emission + tolerance
  if ahead <= 0 then ahead = 0
  elseif ahead > window + 60000000 then ahead = tolerance
  elseif ahead > window then ahead = window end
  if ahead > tolerance then return nil, ahead - tolerance end
  return now + ahead + emission, floor((tolerance - ahead) / emission)
end
