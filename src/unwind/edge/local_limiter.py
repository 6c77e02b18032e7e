"""Rate limits per client in this process: GCRA, a token bucket that keeps nothing but one instant."""

from unwind.ports import Allowance, Clock, Rate

CLIENTS = 10_000
"""Buckets kept; beyond that those go first that were not used for longest."""

_SECOND = 1_000_000


def interval(rate: Rate) -> int:
    """Microseconds that one call takes to be made up for."""
    return max(1, _SECOND // rate.per_second)


class LocalLimiter:
    """Implements `RateLimiter` for the calls that come to this process."""

    def __init__(self, rate: Rate, clock: Clock, clients: int = CLIENTS) -> None:
        """Every client begins with a whole burst."""
        self.rate = rate
        self._clock = clock
        self._clients = clients
        self._interval = interval(rate)
        self._most = self._interval * rate.burst
        self._even: dict[tuple[str, str], int] = {}
        """The instant at which all that a client has taken is made up for."""

    async def take(self, client: str, kind: str) -> Allowance:
        """Count one call."""
        now = self._clock.monotonic()
        bucket = client, kind
        taken = max(self._even.pop(bucket, now) - now, 0)
        allowed = taken + self._interval <= self._most
        if allowed:
            taken += self._interval
        self._even[bucket] = now + taken
        if len(self._even) > self._clients:
            del self._even[next(iter(self._even))]
        wait = 0 if allowed else taken + self._interval - self._most
        return Allowance(allowed, (self._most - taken) // self._interval, wait, taken)
