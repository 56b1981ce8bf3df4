-- Appends an entry to the log, when the caller has seen all of it; else tells what it has not seen.
-- KEYS: meta, log, the lock of whoever makes a snapshot. ARGV: the caller's version, head and schema; the entry (empty:
-- only asks whether there is anything new), most bytes of log, most milliseconds since the last snapshot, the caller's
-- lineage (empty: it has none yet).
-- Answers {word, ...}: "empty"; "newer" schema; "foreign" (another lineage); "far";
-- "ahead", version, head (the log has lost what the caller has seen); "behind", entries...; "old" (the log has a schema of an older
-- program); "done", 1 when the caller is to make a snapshot.
local names = {'lineage', 'version', 'head', 'schema', 'base', 'base_head', 'bytes', 'snapshot', 'snapshot_bytes', 'snapshot_ms'}
local got, meta = redis.call('HMGET', KEYS[1], unpack(names)), {}
for at, name in ipairs(names) do meta[name] = got[at] end
if not meta.version then return {'empty'} end
local schema, mine = tonumber(ARGV[3]), tonumber(ARGV[1])
if tonumber(meta.schema) > schema then return {'newer', meta.schema} end
if ARGV[7] == '' then return {'far'} end
if ARGV[7] ~= meta.lineage then return {'foreign'} end
local version, base = tonumber(meta.version), tonumber(meta.base)
if mine > version then return {'ahead', meta.version, meta.head} end
if mine < base then return {'far'} end
local at = meta.base_head
if mine > base then at = string.sub(redis.call('LINDEX', KEYS[2], mine - base - 1) or '', 1, 32) end
if at ~= ARGV[2] then return {'far'} end
if mine < version then
  return {'behind', unpack(redis.call('LRANGE', KEYS[2], mine - base, mine - base + 63))}
end
if tonumber(meta.schema) < schema then return {'old'} end
local bytes = tonumber(meta.bytes)
if ARGV[4] ~= '' then
  redis.call('RPUSH', KEYS[2], ARGV[4])
  bytes = bytes + string.len(ARGV[4])
  version = version + 1
  redis.call('HSET', KEYS[1], 'version', version, 'head', string.sub(ARGV[4], 1, 32), 'bytes', bytes)
end
local time = redis.call('TIME')
local age = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(meta.snapshot_ms)
-- Entries before the last snapshot stay until the next one, for origins that are a little behind.
local is_due = base < version
  and (bytes > math.max(tonumber(ARGV[5]), tonumber(meta.snapshot_bytes)) or age > tonumber(ARGV[6]))
if is_due and redis.call('SET', KEYS[3], '1', 'NX', 'EX', 60) then return {'done', '1'} end
return {'done', '0'}
