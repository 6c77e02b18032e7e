"""Time for the runtime: the process's monotonic clock, and the store's time carried forward by it."""

import asyncio
import time

from unwind.ports import Clock


class SystemClock:
    """The real `Clock`."""

    def monotonic(self) -> int:
        """Microseconds since some fixed instant."""
        return time.monotonic_ns() // 1_000

    async def sleep(self, duration: int) -> None:
        """Wait for so many microseconds."""
        await asyncio.sleep(duration / 1_000_000)


class StoreTime:
    """The store's time: its last answer plus what has passed here since. The worker's own wall clock plays no part."""

    def __init__(self, clock: Clock) -> None:
        """Nothing is known before the first `observe`."""
        self._clock = clock
        self._answer = 0
        self._at = clock.monotonic()

    def observe(self, now: int) -> None:
        """The store has just answered that it is `now`."""
        self._answer = now
        self._at = self._clock.monotonic()

    def now(self) -> int:
        """Microseconds since the epoch, by the store's clock."""
        return self._answer + self._clock.monotonic() - self._at
