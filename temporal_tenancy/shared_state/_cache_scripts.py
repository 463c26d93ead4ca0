"""What the cache does on the server in one step each.

An entry is `generation:value`, and counts only while its generation is the cache's. Emptying a
cache ends the generation, so that a value that was computed before is not kept afterwards.
"""

from __future__ import annotations

from typing import Final

# KEYS: generation, flight, entry. ARGV: a new generation, its milliseconds, who computes, for how
# many milliseconds, and 1 to take over from another. Returns the generation, whether it is one's
# turn, and the entry: another may have kept one since it was last read.
BEGIN: Final = """
local generation = redis.call('get', KEYS[1])
if not generation then
    generation = ARGV[1]
    redis.call('set', KEYS[1], generation, 'px', ARGV[2])
end
local mine
if ARGV[5] == '1' then
    mine = redis.call('set', KEYS[2], ARGV[3], 'px', ARGV[4])
else
    mine = redis.call('set', KEYS[2], ARGV[3], 'nx', 'px', ARGV[4])
end
return {generation, mine and 1 or 0, redis.call('get', KEYS[3])}
"""

# KEYS: entry, generation, index, flight. ARGV: the value, milliseconds, the most entries, a
# generation, and who computed or ''. A computed value is kept only if nobody has deleted the entry,
# emptied the cache or taken over since. The entries that end first go when there are too many.
KEEP: Final = """
local generation = redis.call('get', KEYS[2])
if ARGV[5] ~= '' then
    if redis.call('get', KEYS[4]) ~= ARGV[5] then return 0 end
    redis.call('del', KEYS[4])
    if generation ~= ARGV[4] then return 0 end
else
    redis.call('del', KEYS[4])
    if not generation then generation = ARGV[4] end
end
local ttl = tonumber(ARGV[2])
local time = redis.call('time')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('set', KEYS[1], generation .. ':' .. ARGV[1], 'px', ttl)
redis.call('set', KEYS[2], generation, 'px', math.max(ttl, redis.call('pttl', KEYS[2])))
redis.call('zremrangebyscore', KEYS[3], '-inf', now)
redis.call('zadd', KEYS[3], now + ttl, KEYS[1])
redis.call('pexpire', KEYS[3], math.max(ttl, redis.call('pttl', KEYS[3])))
local excess = redis.call('zcard', KEYS[3]) - tonumber(ARGV[3])
if excess > 0 then
    local gone = redis.call('zpopmin', KEYS[3], excess)
    for i = 1, #gone, 2 do redis.call('unlink', gone[i]) end
end
return 1
"""

# KEYS: generation, index. Returns how many entries it has removed.
CLEAR: Final = """
local entries = redis.call('zrange', KEYS[2], 0, -1)
for _, entry in ipairs(entries) do redis.call('unlink', entry) end
redis.call('unlink', KEYS[1], KEYS[2])
return #entries
"""
