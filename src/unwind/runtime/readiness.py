"""Whether a process can do its work: one check for each thing it depends on."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from msgspec import Struct

from unwind.core.messages import effect_id
from unwind.ports import Clock, Store
from unwind.runtime.limits import SECOND

LEASE = effect_id("readiness", "probe", "do")
Probe = Callable[[], Awaitable[None]]
"""Raises UnwindError when the thing cannot be worked with."""


class Check(Struct, frozen=True):
    """How to find out about one dependency."""

    probe: Probe
    needed: bool = True
    """False: without it the work goes on, at a price."""


Checks = Mapping[str, Check]
"""By the name of the dependency."""


class Remembered:
    """A probe whose answer counts for a second, so that those who ask often cost little. It is itself a `Probe`."""

    def __init__(self, probe: Probe, clock: Clock, lasts: int = SECOND) -> None:
        """`lasts` is in microseconds."""
        self._probe = probe
        self._clock = clock
        self._lasts = lasts
        self._asked_at = 0
        self._answer: asyncio.Task[None] | None = None

    async def __call__(self) -> None:
        """Ask, or repeat the last answer. A question that is still open is not asked again."""
        now = self._clock.monotonic()
        if self._answer is None or (self._answer.done() and now - self._asked_at >= self._lasts):
            self._asked_at = now
            self._answer = asyncio.create_task(self._ask())
            self._answer.add_done_callback(_looked_at)
        await asyncio.shield(self._answer)

    async def _ask(self) -> None:
        await self._probe()


def _looked_at(answer: asyncio.Task[None]) -> None:
    """Whoever asked may have gone: then nobody else looks at what the probe raised."""
    if not answer.cancelled():
        answer.exception()


class StoreProbe:
    """Proves that the store answers and can commit, with a lease that nobody asks for. A full disk still reads well."""

    def __init__(self, store: Store) -> None:
        """Nothing is asked before it is called."""
        self._store = store

    async def __call__(self) -> None:
        """Raises UnwindError when it does not, or cannot."""
        await self._store.load({})
        # Not a cursor: what is saved again unchanged need not be written.
        await self._store.lease([LEASE], SECOND)
