"""What the store says of all live sagas, whoever carries them: asked when somebody scrapes, and not too often."""

import asyncio
from collections.abc import Iterator

import structlog
from prometheus_client.core import GaugeMetricFamily, Metric

from unwind.census import Census, Living, Standing
from unwind.errors import UnavailableError
from unwind.ports import Clock
from unwind.runtime.engine import Engine
from unwind.runtime.limits import SECOND

log = structlog.get_logger("unwind.standings")

EVERY = 5 * SECOND
"""The least distance of two counts, however often they are asked for."""
SHARE = 20
"""A count that takes long is repeated only after so many times as long: it never keeps a database busy."""
PATIENCE = 2.0
"""Seconds that a scrape waits for a count; what comes later is told at the next one."""
_LIVE = ("pending", "running", "compensating", "paused", "blocked")
_HALF_DONE = ("compensating", "paused", "blocked")
_COUNTS = (
    ("sagas_live", "Sagas that have not ended", _LIVE),
    ("sagas_pending", "Sagas accepted for later", ("pending",)),
    ("sagas_running", "Sagas on their way", ("running",)),
    ("sagas_compensating", "Sagas being undone", ("compensating",)),
    ("sagas_paused", "Sagas that an operator has paused", ("paused",)),
    ("sagas_blocked", "Sagas that need a person", ("blocked",)),
    ("sagas_in_doubt", "Sagas that stand half done: being undone, paused or blocked", _HALF_DONE),
)
_AGES = (
    ("sagas_live_oldest_seconds", "Age of the oldest saga that has not ended", _LIVE, True),
    ("sagas_blocked_oldest_seconds", "For how long a saga has needed a person", ("blocked",), False),
    ("sagas_in_doubt_oldest_seconds", "For how long a saga has stood half done", _HALF_DONE, False),
)
"""The last says since when: since its start, or since its status changed."""


class Standings:
    """One process's view of the rows of all processes: each of them tells the same."""

    def __init__(self, engine: Engine, census: Census, clock: Clock) -> None:
        """Tell what is found with the engine's telemetry, of the definitions that it knows; nothing before a scrape."""
        self._census = census
        self._clock = clock
        self._revisions = engine.revisions
        self._definitions = sorted(engine.newest)
        self._living: Living | None = None
        self._due = clock.monotonic()
        self._asking: asyncio.Task[None] | None = None
        engine.telemetry.looks.append(self.look)
        engine.telemetry.more.append(self.metrics)

    async def look(self) -> None:
        """Count anew where it is time to; all who ask meanwhile wait for the same count, and none for long."""
        if self._asking is None or self._asking.done():
            if self._clock.monotonic() < self._due:
                return
            self._asking = asyncio.create_task(self._ask())
        await asyncio.wait({self._asking}, timeout=PATIENCE)

    async def close(self) -> None:
        """Give up a count that is being made."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        began = self._clock.monotonic()
        try:
            self._living = await self._census.living(self._revisions)
        except UnavailableError as error:
            self._living = None  # old figures would hide what is wrong
            log.warning("live_sagas_not_counted", error=str(error))
        ended = self._clock.monotonic()
        self._due = ended + max(EVERY, SHARE * (ended - began))

    def metrics(self) -> Iterator[Metric]:
        """What the last count found, zeros too; nothing where the store did not answer."""
        living = self._living
        found: dict[str, list[Standing]] = {}
        if living is not None:
            found = {name: [] for name in self._definitions}
            for each in living.standings:
                found.setdefault(each.definition, []).append(each)
        for name, text, statuses in _COUNTS:
            count = GaugeMetricFamily(name, text, labels=["definition"])
            for definition, standings in found.items():
                count.add_metric([definition], sum(each.count for each in standings if each.status in statuses))
            yield count
        now = 0 if living is None else living.now
        for name, text, statuses, by_start in _AGES:
            age = GaugeMetricFamily(name, text, labels=["definition"])
            for definition, standings in found.items():
                since = (
                    each.started_at if by_start else each.updated_at for each in standings if each.status in statuses
                )
                age.add_metric([definition], max(0, now - min(since, default=now)) / SECOND)
            yield age
        lag = GaugeMetricFamily("unwind_sweeper_lag_seconds", "By how much the earliest wake-up of a saga is overdue")
        if living is not None:
            wakes = [each.wake_at for each in living.standings if each.wake_at is not None]
            lag.add_metric([], max(0, now - min(wakes, default=now)) / SECOND)
        yield lag
