"""Live sagas are counted when somebody scrapes: from the store, seldom enough, and never from old answers."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, ScriptedStore, refusing, reply, virtual
from tests.runtime.test_telemetry import OF_TRIP, scraped

from unwind.census import Living
from unwind.errors import UnavailableError
from unwind.ports import Message
from unwind.runtime.engine import Engine
from unwind.runtime.limits import SECOND
from unwind.runtime.standings import Standings


class Counted(ScriptedStore):
    """Tells how often it was asked, and takes its time."""

    takes: Callable[[], Awaitable[None]] | None = None

    async def living(self, revisions: Sequence[str]) -> Living:
        self.calls["living"] += 1
        if self.takes is not None:
            await self.takes()
        if self.down:
            raise UnavailableError("scripted: the store is down")
        return await super().living(revisions)


async def watched(rig: Rig, store: Counted) -> tuple[Engine, Standings]:
    engine = await rig.launch(sweeps=True)
    return engine, Standings(engine, store, rig.clock)


def counted_rig() -> tuple[Rig, Counted]:
    rig = Rig(trip(booking("flight"), booking("hotel")))
    store = Counted(rig.now, rig.trace)
    rig.store = rig.scripted = store
    return rig, store


@virtual
async def test_what_lives_is_told_by_status_with_its_age() -> None:
    rig, store = counted_rig()

    def answer(command: Message) -> Message | None:
        if command.saga_id == "stuck":
            return reply(command, "refused") if command.direction == "undo" else refusing("hotel")(command)
        return None

    await rig.agency(answer)
    engine, _ = await watched(rig, store)
    for saga_id in ("stuck", "slow", "halted"):
        await engine.start("trip", Trip(), saga_id=saga_id)
    await engine.pause("halted", actor="me")
    await rig.until(lambda: rig.scripted.status("stuck") == "blocked")
    await rig.elapse(20)
    await engine.telemetry.scrape()
    told = {name: value for (name, labels), value in scraped(engine.telemetry).items() if labels == OF_TRIP}
    counts = {name: value for name, value in told.items() if name.startswith("sagas_") and "oldest" not in name}
    assert counts == {
        "sagas_live": 3,
        "sagas_pending": 0,
        "sagas_running": 1,
        "sagas_compensating": 0,
        "sagas_paused": 1,
        "sagas_blocked": 1,
        "sagas_in_doubt": 2,
    }
    for name in ("live", "blocked", "in_doubt"):
        assert 20 <= told[f"sagas_{name}_oldest_seconds"] < 25


@virtual
async def test_where_nothing_lives_there_are_zeros() -> None:
    rig, store = counted_rig()
    engine, _ = await watched(rig, store)
    await engine.telemetry.scrape()
    told = scraped(engine.telemetry)
    assert told["sagas_blocked", OF_TRIP] == told["sagas_live_oldest_seconds", OF_TRIP] == 0
    assert told["unwind_sweeper_lag_seconds", ()] == 0


@virtual
async def test_wake_ups_that_nobody_takes_are_a_lag() -> None:
    rig, store = counted_rig()
    engine, _ = await watched(rig, store)
    await engine.start("trip", Trip(), saga_id="s")
    _, sweeper = rig.tasks[engine]
    sweeper.cancel()
    wake_at = store.wake_at("s")
    assert wake_at is not None
    await rig.elapse((wake_at - rig.now()) / SECOND + 60)
    await engine.telemetry.scrape()
    assert 60 <= scraped(engine.telemetry)["unwind_sweeper_lag_seconds", ()] < 61


@virtual
async def test_a_storm_of_scrapes_asks_the_store_once_in_five_seconds() -> None:
    rig, store = counted_rig()
    engine, _ = await watched(rig, store)
    await asyncio.gather(*(engine.telemetry.scrape() for _ in range(50)))
    assert store.calls["living"] == 1
    await rig.elapse(4.9)
    await engine.telemetry.scrape()
    assert store.calls["living"] == 1
    await rig.elapse(0.2)
    await engine.telemetry.scrape()
    assert store.calls["living"] == 2


@virtual
async def test_a_count_that_takes_long_holds_up_no_scrape_and_is_made_seldom() -> None:
    rig, store = counted_rig()
    engine, standings = await watched(rig, store)
    store.takes = partial(rig.elapse, 10)
    before = rig.now()
    await engine.telemetry.scrape()
    assert rig.now() - before <= 2 * SECOND + 1_000
    assert ("sagas_live", OF_TRIP) not in scraped(engine.telemetry)
    await rig.elapse(10)
    assert scraped(engine.telemetry)["sagas_live", OF_TRIP] == 0
    await rig.elapse(150)
    await engine.telemetry.scrape()
    assert store.calls["living"] == 1
    await rig.elapse(60)
    await engine.telemetry.scrape()
    assert store.calls["living"] == 2
    await standings.close()


@virtual
async def test_where_the_store_does_not_answer_nothing_old_is_told() -> None:
    rig, store = counted_rig()
    engine, _ = await watched(rig, store)
    await engine.telemetry.scrape()
    assert ("sagas_live", OF_TRIP) in scraped(engine.telemetry)
    store.down = True
    await rig.elapse(6)
    await engine.telemetry.scrape()
    told = scraped(engine.telemetry)
    assert ("sagas_live", OF_TRIP) not in told
    assert ("saga_started_total", OF_TRIP) not in told or told["saga_started_total", OF_TRIP] == 0
    store.down = False
    await rig.elapse(6)
    await engine.telemetry.scrape()
    assert ("sagas_live", OF_TRIP) in scraped(engine.telemetry)
