-- Keep what was read from the store, unless something newer is known.
-- KEYS: one for each saga. ARGV: for each a version (16 digits), a body, and milliseconds to keep it.
local kept = 0
for at, key in ipairs(KEYS) do
  local version = ARGV[3 * at - 2]
  local known = redis.pcall('GETRANGE', key, 0, 15)
  if type(known) ~= 'string' or not string.match(known, '^%d+$') or tonumber(known) <= tonumber(version) then
    redis.call('SET', key, version .. ARGV[3 * at - 1], 'PX', ARGV[3 * at])
    kept = kept + 1
  end
end
return kept
