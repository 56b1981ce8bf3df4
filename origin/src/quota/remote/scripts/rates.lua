-- KEYS: one rate each; all are charged or none. Answers {0, 0}, or {the one that refused, microseconds to wait}.
local skew = unpacked('>i8', ARGV[1])
local now = clock(skew)
local new = {}
for i = 1, #KEYS do
  local emission, tolerance = unpacked('>I8I8', ARGV[1], 16 * i - 7)
  local tat, wait = gcra(rate_of(get(i)), emission, tolerance, now)
  if not tat then return { i, wait } end
  new[i] = tat
end
for i = 1, #KEYS do put_rate(KEYS[i], new[i], now) end
return { 0, 0 }
