"""A process's line in the roster: written, kept up, taken away, and read whoever wrote it."""

import asyncio

from tests.core.trips import trip
from tests.runtime.rig import elapsed, virtual

from unwind.buses.memory import MemoryBus
from unwind.errors import UnavailableError
from unwind.runtime.engine import Engine
from unwind.runtime.presence import EVERY, SILENT, Announcer, Presence, who_works
from unwind.runtime.sweeper import Sweeper
from unwind.stores.memory import MemoryStore
from unwind.stores.memory_roster import MemoryRoster
from unwind.testing.simulator.virtual_time import VirtualClock, VirtualLoop

SECOND = 1_000_000


class Flaky(MemoryRoster):
    """A roster in a database that may be down."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__(clock.monotonic)
        self.down = False

    async def announce(self, worker: str, told: str) -> None:
        if self.down:
            raise UnavailableError("down")
        await super().announce(worker, told)

    async def withdraw(self, worker: str) -> None:
        if self.down:
            raise UnavailableError("down")
        await super().withdraw(worker)


class Process:
    """One of a store's processes."""

    def __init__(self, name: str, role: str = "worker") -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        self.clock = VirtualClock(loop)
        self.roster = Flaky(self.clock)
        self.store = MemoryStore(self.clock.monotonic)
        self.engine = Engine(
            self.store,
            MemoryBus(self.clock),
            [trip()],
            clock=self.clock,
            worker=name,
            new_id=str,
            jitter=lambda: 0.5,
        )
        sweeper = None if role == "api" else Sweeper(self.engine, self.store, self.clock)
        self.announcer = Announcer(self.roster, self.engine, self.clock, role, sweeper)

    async def start(self) -> None:
        await self.engine.open()
        await self.announcer.start()
        await elapsed(0.001)


@virtual
async def test_a_process_says_who_it_is_and_what_it_knows() -> None:
    process = Process("w-1")
    process.engine.telemetry.work["wake_ups"] += 3
    await process.start()
    [seen] = (await who_works(process.roster)).seen
    assert (seen.id, seen.lost) == ("w-1", False)
    told = seen.presence
    assert (told.role, told.definitions, told.work["wake_ups"]) == ("worker", (trip().revision,), 3)
    assert told.gauges["unwind_inbox_sagas"] == 0
    assert told.swept is not None
    assert told.version
    assert told.python
    await process.announcer.stop()


@virtual
async def test_a_process_that_does_not_sweep_says_so() -> None:
    process = Process("api-1", "api")
    await process.start()
    [seen] = (await who_works(process.roster)).seen
    assert (seen.presence.role, seen.presence.swept) == ("api", None)
    await process.announcer.stop()


@virtual
async def test_it_speaks_every_ten_seconds_whether_or_not_it_was_heard() -> None:
    process = Process("w-1")
    await process.start()
    first = (await who_works(process.roster)).seen[0].seen_at
    process.roster.down = True
    await elapsed((SILENT + EVERY) / SECOND)
    [seen] = (await who_works(process.roster)).seen
    assert (seen.seen_at, seen.lost) == (first, True)
    process.roster.down = False
    await elapsed(EVERY / SECOND)
    [seen] = (await who_works(process.roster)).seen
    assert seen.seen_at > first
    assert not seen.lost
    await process.announcer.stop()


@virtual
async def test_one_that_stops_in_order_is_not_missed_and_one_that_cannot_say_so_is() -> None:
    for down, left in ((False, 0), (True, 1)):
        process = Process("w-1")
        await process.start()
        process.roster.down = down
        await process.announcer.stop()
        await process.announcer.wait()
        assert len((await who_works(process.roster)).seen) == left


@virtual
async def test_one_that_never_began_has_nothing_to_take_away() -> None:
    process = Process("w-1")
    await process.announcer.stop()
    await process.announcer.wait()


@virtual
async def test_words_of_another_version_leave_that_it_is_there() -> None:
    roster = MemoryRoster(lambda: 7)
    await roster.announce("odd", "no JSON \0")
    await roster.announce("newer", '{"role":"worker","moon":"full","since":7}')
    odd, newer = (await who_works(roster)).seen
    assert (odd.id, odd.presence) == ("odd", Presence())
    assert (newer.id, newer.presence.role, newer.presence.since) == ("newer", "worker", 7)
