-- Count one call against a rate (GCRA). The key holds the instant at which all that was taken is made up for.
-- KEYS: the client's bucket. ARGV: microseconds that one call takes to be made up for, calls that may come at once.
-- Answers: 1 or 0, calls that may follow at once, microseconds until the next may come, and until all may.
local interval, burst = tonumber(ARGV[1]), tonumber(ARGV[2])
local clock = redis.call('TIME')
local now = tonumber(clock[1]) * 1000000 + tonumber(clock[2])
local most = interval * burst
local stored = redis.pcall('GET', KEYS[1])
local even = type(stored) == 'string' and tonumber(stored) or now
if not (even >= now and even <= now + most) then
  even = now  -- long made up for, or nothing that was written here
end
local taken = even - now
if taken + interval > most then
  return {0, 0, taken + interval - most, taken}
end
taken = taken + interval
redis.call('SET', KEYS[1], string.format('%.0f', now + taken), 'PX', math.ceil(taken / 1000))
return {1, math.floor((most - taken) / interval), 0, taken}
