-- Fills a key of the cache, if the lease still stands: nothing was deleted since it was given.
--
-- KEYS  as for read.lua; the first two count
-- ARGV  1  the lease that read.lua gave
--       2  the value
--       3  how long it is kept, in milliseconds
-- Answer   1: filled; 0: not, for what was loaded may be stale by now. It is as good for this once.
if ARGV[1] == '!' or redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
