-- KEYS: user, address, network or none. Ends an admission once, whatever number of times it is sent.
local skew, a_em, w_em, t_em, u_em, refund, kept, may_come, id = struct.unpack('>i8I8I8I8I8I8I8I8c8', ARGV[1])
local now = clock(skew)
local values = load()
local u = read_user(values[1], now)
drop_leases(u, now)
for i, job in ipairs(u.jobs) do
  if job[1] == id then
    if job[3] == 0 then return { 0 } end
    table.remove(u.jobs, i)
    give_back(u, job[3], refund == 1 and job[4] or math.max(0, job[4] - kept))
    if refund == 1 then
      for _, one in ipairs(u.tokens) do
        if one[1] == job[6] then one[2] = one[2] - t_em end
      end
      u.rate = math.max(0, u.rate - u_em)
      local mark = struct.pack('>I4', job[2])
      for at = #u.hours - 3, 1, -4 do
        if string.sub(u.hours, at, at + 3) == mark then
          u.hours = string.sub(u.hours, 1, at - 1) .. string.sub(u.hours, at + 4)
          break
        end
      end
      local address = number(values[2]) - a_em
      if address > now then put_time(KEYS[2], address, now) else redis.call('DEL', KEYS[2]) end
      if KEYS[3] then
        local wide = number(values[3]) - w_em
        if wide > now then put_time(KEYS[3], wide, now) else redis.call('DEL', KEYS[3]) end
      end
    end
    write_user(KEYS[1], u)
    return { 1 }
  end
end
-- The admission was given up before its answer came. Should it come yet, it finds this.
if may_come == 1 then
  u.jobs[#u.jobs + 1] = { id, 0, 0, 0, now + 120000000, id }
  write_user(KEYS[1], u)
end
return { 0 }
