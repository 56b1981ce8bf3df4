-- Puts a newer snapshot in place of the last one and forgets the entries before that one.
-- KEYS: meta, log, snapshot, the lock. ARGV: the snapshot's version, its head, the snapshot. Answers 1, or 0 when the
-- log is another one by now.
redis.call('DEL', KEYS[4])
local base, last, version = unpack(redis.call('HMGET', KEYS[1], 'base', 'snapshot', 'version'))
if not version then return 0 end
base, last, version = tonumber(base), tonumber(last), tonumber(version)
local at = tonumber(ARGV[1])
if at < last or at > version then return 0 end
local head = redis.call('HGET', KEYS[1], 'base_head')
if at > base then head = string.sub(redis.call('LINDEX', KEYS[2], at - base - 1) or '', 1, 32) end
if head ~= ARGV[2] then return 0 end
if last > base then
  local base_head = string.sub(redis.call('LINDEX', KEYS[2], last - base - 1) or '', 1, 32)
  redis.call('LTRIM', KEYS[2], last - base, -1)
  redis.call('HSET', KEYS[1], 'base', string.format('%d', last), 'base_head', base_head)
end
local bytes = 0
for _, entry in ipairs(redis.call('LRANGE', KEYS[2], at - last, -1)) do bytes = bytes + string.len(entry) end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('SET', KEYS[3], ARGV[3])
redis.call('HSET', KEYS[1], 'bytes', bytes, 'snapshot', ARGV[1], 'snapshot_head', ARGV[2], 'snapshot_bytes', string.len(ARGV[3]),
  'snapshot_ms', string.format('%d', now))
return 1
