"""Rate limits per client, shared by all replicas on one Redis; each for itself while Redis is away."""

from pathlib import Path

from unwind.edge.gate import Gate
from unwind.edge.local_limiter import LocalLimiter, interval
from unwind.errors import UnavailableError
from unwind.ports import Allowance, Clock, Rate
from unwind.redis_client import RedisClient, Script

_KEY = "unwind:rate:"
_TAKE = Script.of(Path(__file__).with_name("rate_take.lua").read_text())


class SharedLimiter:
    """Implements `RateLimiter`, by the clock of Redis."""

    def __init__(self, rate: Rate, client: RedisClient, gate: Gate, clock: Clock) -> None:
        """`rate` is the same in all replicas."""
        self.rate = rate
        self._client = client
        self._gate = gate
        self._local = LocalLimiter(rate, clock)

    async def take(self, client: str, kind: str) -> Allowance:
        """Count one call, in Redis if it answers at once."""
        key = f"{_KEY}{kind}:{client}"
        arguments = interval(self.rate), self.rate.burst
        try:
            allowed, remaining, wait, reset = await self._gate.ask(lambda: self._client.run(_TAKE, [key], arguments))
        except UnavailableError:
            return await self._local.take(client, kind)
        return Allowance(allowed == 1, remaining, wait, reset)
