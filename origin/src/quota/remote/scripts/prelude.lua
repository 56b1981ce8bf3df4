-- What every script begins with. Times are microseconds of the server's clock, exact in a double until the year 2255.
local t = redis.call('TIME')
local function clock(skew) return t[1] * 1000000 + t[2] + skew end

-- The values of all keys in one call. MGET answers nil for a key of another type; GET tells.
local function load()
  local values = redis.call('MGET', unpack(KEYS))
  for i = 1, #KEYS do
    if not values[i] then values[i] = redis.call('GET', KEYS[i]) end
  end
  return values
end

local function number(text)
  if not text then return 0 end
  local n = tonumber(text)
  if not n then error('CORRUPT a stored time is no number') end
  return n
end

-- The generic cell rate algorithm, as in shared/src/gcra.rs. Returns the new time, or nil and the wait.
local function gcra(tat, emission, tolerance, now)
  local ahead = tat - now
  local window = emission + tolerance
  if ahead <= 0 then ahead = 0
  elseif ahead > window + 60000000 then ahead = tolerance
  elseif ahead > window then ahead = window end
  if ahead > tolerance then return nil, ahead - tolerance end
  local new = now + ahead + emission
  return new, math.floor((window - (new - now)) / emission)
end

local function put(key, value, milliseconds)
  redis.call('SET', key, value, 'PX', string.format('%.0f', math.max(1, math.ceil(milliseconds))))
end

local function put_time(key, tat, now)
  put(key, string.format('%.0f', tat), (tat - now) / 1000 + 1)
end
