-- Something newer is known: it stands in the place of what is older, so that nobody who read the store before puts
-- that back.
-- ARGV: what the keys begin with, milliseconds to remember it, and a map of sagas to versions in MessagePack: one
-- argument costs its sender a tenth of what a thousand do.
local raised = 0
for saga, version in pairs(cmsgpack.unpack(ARGV[3])) do
  local key = ARGV[1] .. saga
  local known = redis.pcall('GETRANGE', key, 0, 15)
  if type(known) ~= 'string' or not string.match(known, '^%d+$') or tonumber(known) < version then
    redis.call('SET', key, string.format('%016d', version), 'PX', ARGV[2])
    raised = raised + 1
  end
end
return raised
