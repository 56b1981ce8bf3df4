-- KEYS: a rate; one of its passes is given back.
local skew, emission = struct.unpack('>i8I8', ARGV[1])
local now = clock(skew)
local tat = number(load()[1]) - emission
if tat > now then put_time(KEYS[1], tat, now) else redis.call('DEL', KEYS[1]) end
return { 0, 0 }
