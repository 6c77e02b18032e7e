"""A clock that stands still until a test moves it."""

import asyncio


class ManualClock:
    """Implements `Clock`."""

    def __init__(self, now: int = 0) -> None:
        """`now` is in microseconds."""
        self._now = now
        self._sleepers: list[tuple[int, asyncio.Future[None]]] = []

    def monotonic(self) -> int:
        """The instant the test has set."""
        return self._now

    async def sleep(self, duration: int) -> None:
        """Wait until the test has moved the clock so far."""
        if duration <= 0:
            await asyncio.sleep(0)
            return
        waker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._now + duration, waker))
        await waker

    def advance(self, duration: int) -> None:
        """Move the clock, and wake in the order of their time those whose time has come."""
        self._now += duration
        due = sorted((sleeper for sleeper in self._sleepers if sleeper[0] <= self._now), key=lambda sleeper: sleeper[0])
        self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self._now]
        for _, waker in due:
            if not waker.done():
                waker.set_result(None)

    @property
    def sleeping(self) -> int:
        """How many wait for the clock."""
        return sum(not waker.done() for _, waker in self._sleepers)
