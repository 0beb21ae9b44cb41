-- Reads a key of the cache; where it is not there, gives a lease to fill it, if it may be filled now.
--
-- KEYS  1  the key
--       2  its version key: `twohop:version:` and the key
--       3  with `cache.index`, and then in every call: `twohop:index`
--       4  likewise: `twohop:index:held`
-- ARGV  1  a new lease: a text that nobody has used before, such as a random UUID
--       2  how long it may take to load and fill, in milliseconds
-- Answer   {value, nil}: it is there
--          {nil, lease}: load it, then give this lease to fill.lua
--          {nil, nil}: load it, and do not fill: it was deleted a moment ago
local value = redis.call('GET', KEYS[1])
if value then return {value, false} end

local lease = redis.call('GET', KEYS[2])
if lease == '!' then return {false, false} end
if not lease then
  -- Whether a prefix that was deleted a moment ago is one of this key, nobody remembers.
  if KEYS[4] and redis.call('EXISTS', KEYS[4]) == 1 then return {false, false} end
  lease = ARGV[1]
end
redis.call('SET', KEYS[2], lease, 'PX', ARGV[2])

if KEYS[3] then
  redis.call('ZADD', KEYS[3], 0, KEYS[1])
  -- What has gone by itself leaves the index again, two looks for each key that comes.
  for _, key in ipairs(redis.call('ZRANDMEMBER', KEYS[3], 2)) do
    if redis.call('EXISTS', key, 'twohop:version:' .. key) == 0 then redis.call('ZREM', KEYS[3], key) end
  end
end
return {false, lease}
