-- A consumer leaves: what it holds is open to the other members at once, then nothing remembers it.
-- KEYS: stream. ARGV: group, consumer, the name that stands for nobody, milliseconds after which entries are taken over.
if redis.call('EXISTS', KEYS[1]) == 0 then
  return 0
end
local given = 0
repeat
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 1000, ARGV[2])
  local ids = {}
  for _, entry in ipairs(held) do
    ids[#ids + 1] = entry[1]
  end
  if #ids > 0 then
    local claim = {'XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, unpack(ids)}
    for _, option in ipairs({'IDLE', ARGV[4], 'JUSTID'}) do
      claim[#claim + 1] = option
    end
    redis.call(unpack(claim))
  end
  given = given + #ids
until #ids == 0
redis.call('XGROUP', 'DELCONSUMER', KEYS[1], ARGV[1], ARGV[2])
return given
