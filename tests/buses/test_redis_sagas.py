"""Sagas over a Redis that is flushed, killed and paused meanwhile: all end, and every effect happens once."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from datetime import timedelta
from itertools import count
from pathlib import Path
from random import Random

import pytest
from tests.core.trips import Book, Booked, Trip, Unbook, booking, trip
from tests.eventually import eventually
from tests.servers import valkey
from tests.servers.valkey import Valkey

from unwind.buses.redis import RedisBus
from unwind.core.steps import Refusal, Retry
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.participant import HandlerCall, Participant
from unwind.runtime.participant_service import ParticipantService
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.stores.memory import MemoryStore
from unwind.stores.memory_barrier import MemoryParticipantStore

pytestmark = pytest.mark.integration

SAGAS = 300
CLOCK = SystemClock()
OFTEN = Retry.fixed(50, timedelta(milliseconds=100))
SOON = timedelta(seconds=1)
Effects = list[tuple[str, str, str]]

agency = Participant[Effects]("agency")


class Full(Refusal, frozen=True, tag="full"):
    """No room."""


@agency.handles(Book)
def book(tx: Effects, command: Book, call: HandlerCall) -> Booked | Full:
    if command.part == "car" and call.saga_id.endswith("3"):
        return Full("none left")
    tx.append((call.saga_id, call.step, "do"))
    return Booked("x")


@agency.undoes(Unbook)
def unbook(tx: Effects, command: Unbook, call: HandlerCall) -> None:
    tx.append((call.saga_id, call.step, "undo"))


SAGA = trip(
    *(
        booking(name, timeout=SOON, retry=OFTEN, undo_retry=OFTEN, undo_timeout=SOON)
        for name in ("flight", "hotel", "car")
    )
)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Valkey]:
    with valkey.running(tmp_path) as server:
        yield server


@pytest.fixture
async def engine(server: Valkey, effects: MemoryParticipantStore[Effects]) -> AsyncIterator[Engine]:
    """An engine and two of the agency's processes, each on a bus of its own."""
    async with AsyncExitStack() as stack:

        async def bus() -> RedisBus:
            bus = await RedisBus.open(server.address, "", CLOCK, ack_wait=2_000_000)
            stack.push_async_callback(bus.close)
            return bus

        store, numbers, random = MemoryStore(CLOCK.monotonic), count(1), Random(1)
        engine = Engine(
            store,
            await bus(),
            [SAGA],
            clock=CLOCK,
            worker="w",
            new_id=lambda: f"saga-{next(numbers)}",
            jitter=random.random,
        )
        agencies = [ParticipantService(agency, await bus(), effects, CLOCK) for _ in range(2)]
        service = Service(engine, Sweeper(engine, store, CLOCK), None, agencies)
        await service.start()
        stack.push_async_callback(service.stop)
        yield engine


@pytest.fixture
def effects() -> MemoryParticipantStore[Effects]:
    return MemoryParticipantStore([], CLOCK.monotonic, clone=list)


async def test_every_saga_ends_and_every_effect_happens_once(
    engine: Engine, effects: MemoryParticipantStore[Effects], server: Valkey
) -> None:
    async def seen(number: int) -> bool | None:
        return True if len(effects.state) >= number else None

    async def trouble() -> None:
        for number, fault in enumerate(["flush", "kill", "pause", "flush", "kill", "flush"], 1):
            await eventually(lambda done=number * 100: seen(done), within=60)  # type: ignore[misc]
            match fault:
                case "flush":
                    await asyncio.to_thread(server.flush)
                case "pause":
                    await asyncio.to_thread(valkey.ask, server.address, "CLIENT PAUSE 1500 ALL")
                case _:
                    await asyncio.to_thread(server.kill)
                    await asyncio.to_thread(server.start)

    troubling = asyncio.create_task(trouble())
    started = [await engine.start(SAGA, Trip()) for _ in range(SAGAS)]
    ended = await asyncio.gather(*(engine.ended(saga.saga_id) for saga in started))
    await troubling
    refused = {saga.saga_id for saga in started if saga.saga_id.endswith("3")}
    assert {state.saga_id for state in ended if state.status == "compensated"} == refused
    assert sum(state.status == "completed" for state in ended) == SAGAS - len(refused)
    assert len(effects.state) == len(set(effects.state)) == 3 * (SAGAS - len(refused)) + 4 * len(refused)
    assert engine.telemetry.work["resent"] > 0
