-- KEYS: pairs, prompts, users and many of a window. Answers the most of one user, and of many.
local function most(key) return tonumber(redis.call('ZREVRANGE', key, 0, 0, 'WITHSCORES')[2] or 0) end
return { most(KEYS[1]), most(KEYS[4]) }
