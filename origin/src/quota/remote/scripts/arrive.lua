-- KEYS: the penalty box of an address, perhaps that of its network: blocked until (64), arrivals in milliseconds modulo
-- 2^32 (32 each). Answers {0, 0}, or {1, microseconds until the block ends or the network has room}. As in
-- shared/src/penalty: a network is never blocked; while it is full, or the address blocked, an arrival counts for neither.
local skew, limit, wide_limit, window, block = unpacked('>i8I8I8I8I8', ARGV[1])
local now = clock(skew)
local mark = floor(now / 1000) % 4294967296
local boxes = {}
for i = 1, #KEYS do
  local blob, until_, arrivals = get(i), 0, ''
  if blob then
    if #blob < 8 then error('CORRUPT a stored penalty cannot be read') end
    until_ = math.min(unpacked('>I8', blob), now + block)
    arrivals = sub(blob, 9)
  end
  if i == 1 and now < until_ then return { 1, until_ - now } end
  local at = 1
  while at + 3 <= #arrivals do
    local age = (mark - unpacked('>I4', arrivals, at)) % 4294967296
    -- A little ahead is another reading of the same clock; far ahead is a clock that was set back.
    if age < window / 1000 or age > 4294967296 - 60000 then break end
    at = at + 4
  end
  if i == 2 and (#arrivals - at + 1) / 4 >= wide_limit then
    local age = at <= #arrivals and (mark - unpacked('>I4', arrivals, at)) % 4294967296 or 0
    return { 1, age < window / 1000 and window - age * 1000 or window }
  end
  boxes[i] = sub(arrivals, at) .. pack('>I4', mark)
end
local over = false
for i = 1, #KEYS do
  if i == 1 and #boxes[i] / 4 > limit then
    over = true
    put(KEYS[i], pack('>I8', now + block), block / 1000)
  else
    put(KEYS[i], pack('>I8', 0) .. boxes[i], window / 1000)
  end
end
if over then return { 1, block } end
return { 0, 0 }
