-- KEYS: a rate; one of its passes is given back.
local skew, emission = unpacked('>i8I8', ARGV[1])
local now = clock(skew)
put_rate(KEYS[1], rate_of(get(1)) - emission, now)
return { 0, 0 }
