"""The house that sagas live in, as pages ask for it: who works on them, what the store is, how late it all is."""

from collections.abc import Mapping, Sequence

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from unwind.dashboard.patience import Patient
from unwind.roster import Roster, StoreAbout
from unwind.runtime.presence import Present, who_works
from unwind.runtime.queries import Queries

EVERY = 3.0
"""Seconds for which what was found is shown to all who ask."""

TheRoster = NamedDependency[SkipValidation[Roster | None]]


class House(Struct, frozen=True):
    """At one moment."""

    present: Present
    store: StoreAbout


class Late(Struct, frozen=True):
    """How far the sweepers are behind, all together, and what lives on which definition."""

    overdue: int
    """By so many microseconds the earliest wake-up is overdue; 0: none is."""
    live: Mapping[str, int]
    """How many live sagas are bound to each revision, 10 000 at most of each."""


class Houses:
    """Asked once for all who look."""

    def __init__(self) -> None:
        self._houses: Patient[House] = Patient(EVERY)
        self._late: Patient[Late] = Patient(EVERY)

    def stop(self) -> None:
        self._houses.stop()
        self._late.stop()

    async def read(self, roster: Roster | None) -> House | None:
        """None: nobody was told of, or the store does not answer in time."""
        if roster is None:
            return None

        async def look() -> House:
            return House(await who_works(roster), await roster.about())

        return await self._houses.get("", look)

    async def late(self, queries: Queries, revisions: Sequence[str]) -> Late | None:
        """None: it cannot be told in time."""

        async def look() -> Late:
            living = await queries.living(revisions)
            wakes = [each.wake_at for each in living.standings if each.wake_at is not None]
            return Late(max(living.now - min(wakes, default=living.now), 0), await queries.live_revisions())

        return await self._late.get("", look)


TheHouses = NamedDependency[SkipValidation[Houses]]
