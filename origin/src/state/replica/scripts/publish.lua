-- Begins the log anew with a snapshot: when there is none, or one of an older program that the caller has seen all of.
-- KEYS: meta, log, snapshot. ARGV: the version and head the caller has seen (head empty: there was no log), the new
-- version and head, schema, the snapshot, the lineage. Answers 1, or 0 when somebody else was first.
local version, head = unpack(redis.call('HMGET', KEYS[1], 'version', 'head'))
if ARGV[2] == '' then
  if version then return 0 end
elseif version ~= ARGV[1] or head ~= ARGV[2] then
  return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('DEL', KEYS[2])
redis.call('SET', KEYS[3], ARGV[6])
redis.call('HSET', KEYS[1], 'lineage', ARGV[7], 'version', ARGV[3], 'head', ARGV[4], 'schema', ARGV[5], 'base', ARGV[3], 'base_head', ARGV[4],
  'bytes', 0, 'snapshot', ARGV[3], 'snapshot_head', ARGV[4], 'snapshot_bytes', string.len(ARGV[6]), 'snapshot_ms', string.format('%d', now))
return 1
