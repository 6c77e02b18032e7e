"""Keeps a slow or dead Redis from costing anything: calls wait little, and while it is away none is made."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog
from redis.exceptions import ResponseError

from unwind.errors import UnavailableError
from unwind.ports import Clock

log = structlog.get_logger("unwind.edge")

T = TypeVar("T")

PATIENCE = 0.05
"""Seconds a request waits for Redis."""
FAILURES = 3
"""In a row; then it counts as away."""
PAUSE = 500_000
"""Microseconds between two tries while it is away; each costs one call its patience."""


class Gate:
    """Every call to one Redis that somebody waits for goes through here."""

    def __init__(self, clock: Clock) -> None:
        """Open at first."""
        self._clock = clock
        self._failures = 0
        self._try_again = 0
        self._late: set[asyncio.Task[Any]] = set()

    @property
    def away(self) -> bool:
        """Whether calls are refused at once for now."""
        return self._failures >= FAILURES and self._clock.monotonic() < self._try_again

    async def ask(self, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The call's answer. Raises UnavailableError: not in time, not at all, or an error as answer.

        A call that is late is left to end by itself: broken off, it would take its connection along, and a Redis that
        is merely slow would have to greet everybody anew.
        """
        if self.away:
            raise UnavailableError("Redis is away")
        self._try_again = self._clock.monotonic() + PAUSE
        task = asyncio.create_task(call())
        self._late.add(task)
        task.add_done_callback(self._forget)
        await asyncio.wait({task}, timeout=PATIENCE)
        if not task.done():
            raise self._failed(UnavailableError(f"Redis has not answered within {PATIENCE * 1_000:.0f} ms"))
        try:
            answer = task.result()
        except UnavailableError as error:
            if isinstance(error.__cause__, ResponseError):
                self._answered()
                raise
            raise self._failed(error) from error.__cause__
        self._answered()
        return answer

    async def close(self) -> None:
        """Break off what is late."""
        late = list(self._late)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)

    def _answered(self) -> None:
        if self._failures >= FAILURES:
            log.info("redis_back", failures=self._failures)
        self._failures = 0

    def _failed(self, error: UnavailableError) -> UnavailableError:
        self._failures += 1
        self._try_again = self._clock.monotonic() + PAUSE
        if self._failures == FAILURES:
            log.warning("redis_away", error=str(error))
        return error

    def _forget(self, task: asyncio.Task[Any]) -> None:
        self._late.discard(task)
        if not task.cancelled():
            task.exception()  # whoever waited has been told already that there was no answer in time
