"""Who works, in a dict: the oracle of the other stores, and the store for tests."""

from collections.abc import Callable

from unwind.roster import FORGOTTEN, Entry, Roll, StoreAbout


class MemoryRoster:
    """Implements `unwind.roster.Roster`, durable as long as the object."""

    def __init__(self, now: Callable[[], int]) -> None:
        """`now` tells the time in microseconds since the epoch."""
        self._now = now
        self._entries: dict[str, Entry] = {}

    async def announce(self, worker: str, told: str) -> None:
        now = self._now()
        self._entries = {each.id: each for each in self._entries.values() if each.seen_at >= now - FORGOTTEN}
        self._entries[worker] = Entry(worker, now, told)

    async def withdraw(self, worker: str) -> None:
        self._entries.pop(worker, None)

    async def roll(self) -> Roll:
        return Roll(self._now(), tuple(sorted(self._entries.values())))

    async def about(self) -> StoreAbout:
        return StoreAbout("memory", "", 0)
