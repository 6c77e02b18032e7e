"""The statuses that clients poll, read through a cache; and what this process commits, told to that cache.

A reader's answer may be older than the store for as long as a commit's news takes to the cache, milliseconds; where the
news is lost, for as long as the cache keeps an answer, seconds. In the process that has committed it is never older: as
long as the cache has not been told, the store is asked. The commit never waits for any of this.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice

import msgspec
import structlog
from msgspec import Struct

from unwind.census import CountedStore
from unwind.errors import UnavailableError
from unwind.ports import Clock, Status, StatusCache
from unwind.runtime.background import BackgroundTask
from unwind.runtime.limits import SECOND
from unwind.runtime.queries import Queries, SagaView

log = structlog.get_logger("unwind.statuses")

UNTOLD = 50_000
"""Sagas whose news may wait for the cache; beyond that the oldest goes, and the cache learns by forgetting."""
FOUND = 1_000
"""Answers that may wait for the cache."""
TELL = 500
"""Sagas told at a time."""
PUT_WITHIN = SECOND
"""Microseconds after which an answer from the store is too old to be put: it may have been overtaken and forgotten."""
PAUSE = SECOND // 4
"""After the cache could not be told."""
LAST_WORD = 0.5
"""Seconds that stopping waits for what is still to be told."""

_view = msgspec.json.Decoder(SagaView)
_ENDED = frozenset({"completed", "compensated"})


class _Found(Struct, frozen=True):
    """An answer of the store, and when it was asked."""

    status: Status
    asked_at: int


class Statuses:
    """This process's side of a status cache. A part of a `Service`, as a participant is."""

    def __init__(self, cache: StatusCache, clock: Clock, work: Counter[str]) -> None:
        """`work` is the telemetry's; nothing is told before `start`."""
        self._cache = cache
        self._clock = clock
        self._work = work
        self._untold: dict[str, int] = {}
        self._found: dict[str, _Found] = {}
        self._news = asyncio.Event()
        self._telling = BackgroundTask("statuses")

    # ------------------------------------------------------------------------------------------------------- lifecycle

    async def start(self) -> None:
        """Begin to tell the cache."""
        self._telling.start(self._tell_on())

    async def wait(self) -> None:
        """Return when it is stopped; raise what ended it, if it ended by itself."""
        await self._telling.wait()

    async def stop(self) -> None:
        """Tell what is still to be told, if it goes quickly."""
        if not await self._telling.stop():
            return
        with suppress(UnavailableError, TimeoutError):  # then the cache learns by forgetting
            async with asyncio.timeout(LAST_WORD):
                while self._untold:
                    await self._tell()

    # ------------------------------------------------------------------------------------------------ what is committed

    def committed(self, versions: Mapping[str, int]) -> None:
        """These sagas have so many events now, or may have. Returns at once."""
        untold = self._untold
        untold.update(versions)
        while len(untold) > UNTOLD:
            del untold[next(iter(untold))]
            self._work["status_news_dropped"] += 1
        self._news.set()

    async def _tell_on(self) -> None:
        while True:
            await self._news.wait()
            try:
                await self._tell()
            except UnavailableError as error:
                self._work["status_cache_failed"] += 1
                log.debug("statuses_delayed", error=str(error), sagas=len(self._untold))
                self._found.clear()
                await self._clock.sleep(PAUSE)

    async def _tell(self) -> None:
        """One portion: news first, so that what was read before cannot pass for new."""
        news = dict(islice(self._untold.items(), TELL))
        if news:
            await self._cache.raise_to(news)
            self._work["status_news"] += len(news)
            for saga_id, version in news.items():
                if self._untold.get(saga_id) == version:
                    del self._untold[saga_id]
        found, self._found = self._found, {}
        fresh = self._clock.monotonic() - PUT_WITHIN
        if statuses := [each.status for each in found.values() if each.asked_at >= fresh]:
            await self._cache.put(statuses)
        if not self._untold and not self._found:
            self._news.clear()

    # ---------------------------------------------------------------------------------------------------- what is asked

    async def find(self, saga_id: str) -> SagaView | None:
        """What the cache has, where it is not known to be old. Whatever is odd about it makes it unknown."""
        if saga_id in self._untold:
            return None
        kept = await self._cache.get(saga_id)
        if kept is None or saga_id in self._untold:
            return None
        version, body = kept
        try:
            view = _view.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            self._work["status_not_understood"] += 1
            return None
        return view if (view.saga_id, view.version) == (saga_id, version) else None

    def found(self, view: SagaView, asked_at: int) -> None:
        """The store has answered this, asked at that instant of the clock. Returns at once."""
        if len(self._found) < FOUND:
            body = msgspec.json.encode(view)
            status = Status(view.saga_id, view.version, body, view.status in _ENDED and view.parent is None)
            self._found[view.saga_id] = _Found(status, asked_at)
            self._news.set()


class CachedQueries(Queries):
    """The same questions; what a saga is now is answered from the cache where it can be."""

    def __init__(self, store: CountedStore, statuses: Statuses, clock: Clock, work: Counter[str]) -> None:
        """`work` is the telemetry's."""
        super().__init__(store)
        self._statuses = statuses
        self._clock = clock
        self._work = work

    async def show(self, saga_id: str) -> SagaView:
        """What the saga is now, or was a moment ago. Raises NotFoundError, UnavailableError."""
        cached = await self._statuses.find(saga_id)
        if cached is not None:
            self._work["status_hits"] += 1
            return cached
        self._work["status_misses"] += 1
        asked_at = self._clock.monotonic()
        view = await super().show(saga_id)
        self._statuses.found(view, asked_at)
        return view
