-- What every group is done with goes, and consumers of processes that are long gone are forgotten.
-- KEYS: stream. ARGV: milliseconds after which a consumer that holds nothing is gone.
local stream = KEYS[1]
if redis.call('EXISTS', stream) == 0 then
  return 0
end

local function fields(flat)
  local named = {}
  for at = 1, #flat, 2 do
    named[flat[at]] = flat[at + 1]
  end
  return named
end

local function parts(id)
  local time, number = string.match(id, '^(%d+)-(%d+)$')
  return tonumber(time), tonumber(number)
end

local function before(one, other)
  local time, number = parts(one)
  local other_time, other_number = parts(other)
  return time < other_time or (time == other_time and number < other_number)
end

local needed
for _, flat in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
  local group = fields(flat)
  local first = group['last-delivered-id']
  if group['pending'] > 0 then
    first = redis.call('XPENDING', stream, group['name'])[2]
  end
  if not needed or before(first, needed) then
    needed = first
  end
  for _, described in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group['name'])) do
    local consumer = fields(described)
    if consumer['pending'] == 0 and consumer['idle'] > tonumber(ARGV[1]) then
      redis.call('XGROUP', 'DELCONSUMER', stream, group['name'], consumer['name'])
    end
  end
end
if not needed then
  return 0
end
return redis.call('XTRIM', stream, 'MINID', needed)
