"""The system: who works, what waits, which versions there are; over the API and on the dashboard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.core.trips import trip
from tests.http.pages import Page
from tests.http.test_dead_letters import House
from tests.http.test_problems import ABOUT, client_of

from unwind.buses.memory import MemoryBus
from unwind.dashboard import Dashboard
from unwind.errors import UnavailableError
from unwind.http import create_app
from unwind.ports import SagaRow, StreamAppend, Unit
from unwind.roster import Roll
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.presence import Presence
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore
from unwind.stores.memory_roster import MemoryRoster

SECOND = 1_000_000
NOW = 1_764_000_000 * SECOND
OLD = "trip@1#0123456789ab"
KNOWN = trip(version=2).revision


class Village(House):
    """An application with a roster, at a time that is told."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self.now = NOW
        self.store: MemoryStore
        self.roster: MemoryRoster

    async def worker(self, name: str, **told: Any) -> None:
        """One that has just spoken."""
        presence = Presence(**{"role": "worker", "version": "0.1.0", "since": self.now - 90 * SECOND, **told})
        await self.roster.announce(name, msgspec.json.encode(presence).decode())

    async def living(self, saga_id: str, revision: str, wake_at: int | None = None) -> None:
        name = revision.partition("@")[0]
        row = SagaRow(saga_id, revision, name, "running", wake_at or self.now + SECOND, "", self.now, self.now)
        await self.store.commit([Unit(StreamAppend(saga_id, "saga", 1, 1, b"[]"), row)])

    async def system(self) -> Page:
        return await self.page("/system")


@asynccontextmanager
async def village_with(roster_of: type[MemoryRoster] = MemoryRoster) -> AsyncIterator[Village]:
    times: list[Village] = []

    def now() -> int:
        return times[0].now if times else NOW

    store, bus, clock = MemoryStore(now), MemoryBus(SystemClock(), now=now), SystemClock()
    roster = roster_of(now)
    engine = Engine(store, bus, [trip(version=2)], clock=clock, worker="me", new_id=str, jitter=lambda: 0.5)
    dashboard = Dashboard("Trips")
    app = create_app(ABOUT, engine, Queries(store), {}, bus=bus, roster=roster, pages=[dashboard.router])
    async with client_of(app) as client:
        village = Village(client, bus)
        village.store, village.roster = store, roster
        times.append(village)
        yield village
    dashboard.stop()


@pytest.fixture
async def village() -> AsyncIterator[Village]:
    async with village_with() as village:
        yield village


async def test_workers_are_listed_and_those_that_fell_silent_called_lost(village: Village) -> None:
    await village.worker("gone", since=NOW - 900 * SECOND, silent=("payment",))
    village.now += 60 * SECOND
    await village.worker("w-2", swept=SECOND // 4, decisions=7, definitions=(KNOWN,), gauges={"unwind_inbox_sagas": 3})
    body = (await village.http.get("/api/v1/workers")).json()
    gone, here = body["workers"]
    assert (gone["id"], gone["lost"], gone["silent"]) == ("gone", True, ["payment"])
    assert here == {
        "id": "w-2",
        "role": "worker",
        "lost": False,
        "seen_at": "2025-11-24T16:01:00.000000Z",
        "since": "2025-11-24T15:59:30.000000Z",
        "version": "0.1.0",
        "python": "",
        "definitions": [KNOWN],
        "decisions": 7,
        "swept_seconds_before": 0.25,
        "gauges": {"unwind_inbox_sagas": 3.0},
        "silent": [],
    }
    text = (await village.system()).text
    assert "silent for 60 s" in text
    assert "nothing heard of payment" in text
    assert "w-2 there carries sagas on 90 s 250 ms before 3 sagas, 0 actions 7 0.1.0," in text


async def test_one_that_no_longer_looks_for_wake_ups_is_told(village: Village) -> None:
    await village.worker("stuck", swept=45 * SECOND)
    answer = await village.http.get("/system")
    assert '<span class="status blocked">45.0 s before</span>' in answer.text


async def test_how_late_wake_ups_are_is_told_for_all_processes(village: Village) -> None:
    assert "0 sweeper lag" in (await village.system()).text
    async with village_with() as late:
        await late.living("s1", KNOWN, NOW - 90 * SECOND)
        assert "90 s sweeper lag" in (await late.system()).text


async def test_what_waits_on_the_bus_is_told_queue_by_queue(village: Village) -> None:
    await village.bus.subscribe("commands.payment", "payment")
    text = (await village.system()).text
    assert "commands.payment payment 0 0" in text


async def test_sagas_whose_definition_nobody_knows_come_first(village: Village) -> None:
    await village.worker("w-1", definitions=(KNOWN,))
    await village.living("s1", OLD)
    await village.living("s2", KNOWN)
    text = (await village.system()).text
    assert "1 live sagas of trip version 1, 0123456789ab, stand still: nobody who works knows it." in text
    assert text.count("stand still") == 1
    assert "trip 1 0123456789ab 1 0 not known" in text
    assert f"trip 2 {KNOWN.partition('#')[2]} 1 1 known" in text


async def test_a_worker_that_is_lost_and_one_that_answers_calls_carry_nothing_on(village: Village) -> None:
    await village.worker("lost", definitions=(OLD,))
    village.now += 60 * SECOND
    await village.worker("api", definitions=(OLD,), role="api")
    await village.living("s1", OLD)
    assert "1 live sagas of trip version 1" in (await village.system()).text


async def test_names_of_processes_are_text(village: Village) -> None:
    await village.worker("<b>хост</b> 👩‍👧", version="<i>", role="<script>", definitions=("<u>@1#x",))
    text = (await village.system()).text
    assert "<b>хост</b> 👩‍👧" in text
    assert "<u> 1 x" in text


async def test_the_versions_of_everything_are_told(village: Village) -> None:
    text = (await village.system()).text
    assert "unwind 0.1.0" in text
    assert "Bus Memory" in text
    assert "Store memory" in text


class Mute(MemoryRoster):
    """A store that does not answer."""

    async def roll(self) -> Roll:
        raise UnavailableError("down")


async def test_the_page_stands_without_an_answer_of_the_store() -> None:
    async with village_with(Mute) as village:
        text = (await village.system()).text
        assert "Who works cannot be told now." in text
        assert "stand still" not in text
        assert (await village.http.get("/api/v1/workers")).status_code == 503
