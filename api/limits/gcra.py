"""Rates, kept in Redis so that all API processes share them: the generic cell rate algorithm in one Lua script.

A bucket is a single number, the theoretical arrival time: when it would be empty again if requests came at exactly
the rate. A request is let through if that lies at most `burst` intervals ahead, and moves it by one interval. All
buckets of a request are asked in one round trip, by Redis's clock, and moved only if every one lets it through.

Redis may be away at any moment. Then nothing is limited, which the log says once, and nobody waits: after a failure it
is not asked for `PAUSE_SECONDS`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import redis.asyncio
from redis.exceptions import RedisError

logger = logging.getLogger(__name__)

PAUSE_SECONDS = 5.0
_ANSWER_SECONDS = 0.25
_PREFIX = "asym:rate:"

_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] * 1000000 + clock[2]
local answer, arrivals, open = {}, {}, true
for i, name in ipairs(KEYS) do
    local interval, burst = tonumber(ARGV[3 * i - 2]), tonumber(ARGV[3 * i - 1])
    local arrival = math.max(tonumber(redis.call('GET', name) or 0), now)
    local wait = arrival + interval - burst * interval - now
    arrivals[i] = arrival + interval
    local left = math.floor((burst * interval - (arrival - now)) / interval)
    if wait > 0 then open = false end
    answer[i] = {math.max(0, math.ceil(wait)), math.max(0, left), math.ceil(arrival - now)}
end
if open then
    for i, name in ipairs(KEYS) do
        if ARGV[3 * i] == 'take' then
            redis.call('SET', name, string.format('%.0f', arrivals[i]), 'PX', math.ceil((arrivals[i] - now) / 1000) + 1)
            answer[i][2] = math.max(0, answer[i][2] - 1)
        end
    end
end
return answer
"""


@dataclass(frozen=True)
class Bucket:
    """Whose rate: `name` tells buckets apart, `policy` what is said of it to the client."""

    policy: str
    name: str
    per_second: float
    burst: int
    take: bool = True
    """False: only look whether it lets anything through."""


@dataclass(frozen=True)
class Standing:
    """What a bucket answers."""

    bucket: Bucket
    wait_seconds: float
    """Until it lets something through; 0: now."""
    remaining: int
    reset_seconds: float
    """Until it is as full as it gets."""


class Rates:
    """One per application; used from its event loop."""

    def __init__(self, broker_url: str | None, clock: Callable[[], float] = time.monotonic) -> None:
        address = None if broker_url is None else redis_address(broker_url)
        self._clock = clock
        self._away_until = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._redis = None
        if address is None:
            logger.warning("no rates are limited: the broker is no Redis server that could count")
            return
        self._redis = redis.asyncio.Redis.from_url(
            address, socket_timeout=_ANSWER_SECONDS, socket_connect_timeout=_ANSWER_SECONDS, retry=None
        )
        self._script = self._redis.register_script(_SCRIPT)

    async def ask(self, buckets: Sequence[Bucket]) -> list[Standing] | None:
        """Take from every bucket if all let the request through; None when Redis is away: let it through."""
        if self._redis is None or self._clock() < self._away_until or not self.bind():
            return None
        values: list[str | float | int] = []
        for bucket in buckets:
            values += [1e6 / bucket.per_second, bucket.burst, "take" if bucket.take else "look"]
        try:
            answers = await self._script(keys=[_PREFIX + bucket.name for bucket in buckets], args=values)
        except (RedisError, OSError, TimeoutError) as error:
            if self._away_until == 0.0:
                logger.warning("rates are not limited while Redis is away: %s", type(error).__name__)
            self._away_until = self._clock() + PAUSE_SECONDS
            return None
        if self._away_until:
            logger.warning("rates are limited again")
            self._away_until = 0.0
        return [
            Standing(bucket, wait / 1e6, remaining, reset / 1e6)
            for bucket, (wait, remaining, reset) in zip(buckets, answers, strict=True)
        ]

    def bind(self) -> bool:
        """Whether this is the loop that the connections belong to: the first one that asked. Others are not limited."""
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        return self._loop is loop

    async def close(self) -> None:
        if self._redis is not None:
            await self._redis.aclose()


def redis_address(broker_url: str) -> str | None:
    """The broker's address as redis-py writes it; None where Celery's broker is something else."""
    parts = urlsplit(broker_url)
    if parts.scheme in ("redis", "rediss", "unix"):
        return broker_url
    if parts.scheme == "redis+socket":
        number = parse_qs(parts.query).get("virtual_host", ["0"])[0]
        user = f"{parts.netloc}" if parts.netloc else ""
        return f"unix://{user}{parts.path}?db={number}"
    return None
