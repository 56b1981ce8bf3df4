-- KEYS: meta, snapshot. Answers {version, head, lineage, snapshot} or nothing.
local meta = redis.call('HMGET', KEYS[1], 'snapshot', 'snapshot_head', 'lineage')
local bytes = redis.call('GET', KEYS[2])
if not meta[1] or not meta[2] or not meta[3] or not bytes then return nil end
return {tonumber(meta[1]), meta[2], meta[3], bytes}
