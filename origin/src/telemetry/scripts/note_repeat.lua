-- KEYS: pairs, prompts, users and many of a window, then of the next. ARGV: pair, prompt, most entries, many, seconds.
local pair, prompt = ARGV[1], ARGV[2]
for i = 1, #KEYS, 4 do
  local first = tonumber(redis.call('ZINCRBY', KEYS[i], 1, pair)) == 1
  local made = redis.call('ZINCRBY', KEYS[i + 1], 1, prompt)
  local users = redis.call('ZINCRBY', KEYS[i + 2], first and 1 or 0, prompt)
  if tonumber(users) >= tonumber(ARGV[4]) then redis.call('ZADD', KEYS[i + 3], made, prompt) end
  -- What came once makes room: a flood of different prompts cannot hide the one that comes again.
  if redis.call('ZCARD', KEYS[i]) > tonumber(ARGV[3]) then
    for of = i, i + 2 do redis.call('ZREMRANGEBYSCORE', KEYS[of], '-inf', 1) end
    -- A flood of repeated ones does: the count begins anew.
    if redis.call('ZCARD', KEYS[i]) > tonumber(ARGV[3]) then
      for of = i, i + 3 do redis.call('DEL', KEYS[of]) end
    end
  end
  for of = i, i + 3 do redis.call('EXPIRE', KEYS[of], ARGV[5]) end
end
