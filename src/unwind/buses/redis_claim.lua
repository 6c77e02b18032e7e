-- Take over what has been held too long, with the number of times each entry has been handed out.
-- KEYS: stream. ARGV: group, consumer, milliseconds, where to begin, how many. Answers: where to go on, entries.
local stream, group = KEYS[1], ARGV[1]
local found = redis.call('XAUTOCLAIM', stream, group, ARGV[2], ARGV[3], ARGV[4], 'COUNT', ARGV[5])
local entries = {}
for _, entry in ipairs(found[2]) do
  if entry then
    local held = redis.call('XPENDING', stream, group, entry[1], entry[1], 1)
    entries[#entries + 1] = {entry[1], entry[2], held[1] and held[1][4] or 1}
  end
end
return {found[1], entries}
