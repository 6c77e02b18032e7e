"""The edge put together: one Redis client and one gate for all that is shared there."""

from contextlib import AsyncExitStack

import structlog

from unwind.edge.gate import Gate
from unwind.edge.shared_limiter import SharedLimiter
from unwind.edge.status_cache import RedisStatusCache
from unwind.errors import UnavailableError
from unwind.ports import Clock, Rate
from unwind.redis_client import RedisClient

log = structlog.get_logger("unwind.edge")


class Edge:
    """What the API replicas on one Redis share."""

    def __init__(self, client: RedisClient, clock: Clock) -> None:
        """Connects when it is used."""
        self._client = client
        self._clock = clock
        self._gate = Gate(clock)
        self.statuses = RedisStatusCache(client, self._gate)

    @classmethod
    async def open(cls, address: str, password: str, clock: Clock) -> "Edge":
        """Look once whether Redis is as it should be; one that does not answer is not waited for, it is not needed.

        Raises SettingsError (bad address, wrong password, too old a server).
        """
        client = RedisClient(address, password)
        async with AsyncExitStack() as opened:
            opened.push_async_callback(client.close)
            try:
                await client.check()
            except UnavailableError as error:
                log.warning("redis_away", error=str(error))
            opened.pop_all()
        return cls(client, clock)

    def limiter(self, rate: Rate) -> SharedLimiter:
        """A limiter whose buckets all replicas share."""
        return SharedLimiter(rate, self._client, self._gate, self._clock)

    async def ping(self) -> None:
        """Raises UnavailableError when Redis does not answer; work goes on without it."""
        await self._client.call("PING")

    async def close(self) -> None:
        """Let go of connections."""
        await self._gate.close()
        await self._client.close()
