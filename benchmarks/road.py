"""The full road: commands over NATS to three participant processes and back, each participant on its own database.

`python -m benchmarks.road ROLE …` is one process: `api` begins sagas, `worker` carries them on, `participant NAME`
answers. What the services do is one row each, written for a whole batch of commands at once.
"""

import asyncio
import os
import random
import socket
import sys
import time
from collections.abc import Sequence
from datetime import timedelta

import asyncpg
import msgspec
import structlog
from msgspec import Struct
from uuid_utils import uuid7

from benchmarks.workload import ORDER, Order, Workload
from unwind import Command, CommandStep, HandlerCall, Participant, Refusal, Refused, Saga
from unwind.buses.nats import NatsBus
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.limits import Limits
from unwind.runtime.participant_service import ParticipantService
from unwind.runtime.service import Service
from unwind.runtime.sweeper import Sweeper
from unwind.runtime.tuning import tune_process
from unwind.stores.postgres.barrier import PostgresParticipantStore
from unwind.stores.postgres.store import PostgresStore

SERVICES = ("inventory", "payment", "shipment")
SCHEMA = "create table if not exists effects (effect_id text primary key, order_id text not null, note text not null)"
WORKLOADS: tuple[Workload, ...] = ("A", "B")


class Done(Struct, frozen=True, tag="done"):
    """What a service answers."""

    ref: str


class Reserve(Command, frozen=True, tag="inventory.reserve"):
    """First step."""

    order: Order


class Release(Command, frozen=True, tag="inventory.release"):
    """Its undo."""

    order_id: str


class Pay(Command, frozen=True, tag="payment.pay"):
    """Second step."""

    order: Order


class Refund(Command, frozen=True, tag="payment.refund"):
    """Its undo."""

    order_id: str


class Ship(Command, frozen=True, tag="shipment.ship"):
    """Third step; refused in workload B."""

    order: Order
    deliverable: bool


class Recall(Command, frozen=True, tag="shipment.recall"):
    """Its undo."""

    order_id: str


class Book(CommandStep[Order, Done]):
    """A step of the road."""

    timeout = timedelta(seconds=60)

    def __init__(self, name: str, do: type[Command], undo: type[Command], **fields: object) -> None:
        """`fields` are added to the command."""
        self.name = name  # type: ignore[misc]
        self.do, self.undo, self.fields = do, undo, fields

    def execute(self, context: Order) -> Command:
        return self.do(context, **self.fields)

    def compensate(self, context: Order) -> Command:
        return self.undo(context.id)


def saga(workload: Workload) -> Saga[Order]:
    """Three commands."""
    steps = [
        Book("reserve_inventory", Reserve, Release),
        Book("process_payment", Pay, Refund),
        Book("create_shipment", Ship, Recall, deliverable=workload == "A"),
    ]
    return Saga(f"road_{workload.lower()}", context=Order, steps=steps)


def service_of(name: str) -> Participant[asyncpg.Connection]:
    """A service that writes one row for each command."""
    participant = Participant[asyncpg.Connection](name)
    commands: dict[str, tuple[type[Command], type[Command]]] = {
        "inventory": (Reserve, Release),
        "payment": (Pay, Refund),
        "shipment": (Ship, Recall),
    }
    do, undo = commands[name]

    @participant.handles_many(do)
    async def serve(
        tx: asyncpg.Connection, commands: Sequence[Command], calls: Sequence[HandlerCall]
    ) -> Sequence[Struct]:
        answers: list[Done | Refusal] = [
            Done(call.effect_id) if getattr(command, "deliverable", True) else Refused("no carrier")
            for command, call in zip(commands, calls, strict=True)
        ]
        await _write(tx, [call.effect_id for call, each in zip(calls, answers, strict=True) if isinstance(each, Done)])
        return answers

    @participant.undoes_many(undo)
    async def take_back(tx: asyncpg.Connection, _: Sequence[Command], calls: Sequence[HandlerCall]) -> None:
        await _write(tx, [call.effect_id for call in calls])

    return participant


async def _write(tx: asyncpg.Connection, effects: list[str]) -> None:
    await tx.execute(
        "insert into effects (effect_id, order_id, note) select value, $2, $3 from json_array_elements_text($1::json)",
        msgspec.json.encode(effects).decode(),
        ORDER.id,
        "one row for each effect",
    )


async def worker(database: str, nats: str) -> None:
    """Carry sagas on until ended by a signal."""
    clock = SystemClock()
    store, bus = await PostgresStore.open(database), await NatsBus.open(nats, clock)
    sagas = [saga(workload) for workload in WORKLOADS]
    engine = _engine(store, bus, clock, sagas, replies=True)
    service = Service(engine, Sweeper(engine, store, clock))
    await service.start()
    await _ready(service)


async def participant(name: str, database: str, nats: str) -> None:
    """Answer commands until ended by a signal."""
    clock = SystemClock()
    bus, store = await NatsBus.open(nats, clock), await PostgresParticipantStore.open(database, SCHEMA)
    service = Service(participants=[ParticipantService(service_of(name), bus, store, clock)])
    await service.start()
    await _ready(service)


async def api(database: str, nats: str, workload: Workload, sagas: int, in_flight: int) -> None:
    """Begin sagas, at most `in_flight` of them under way; then tell the rate."""
    clock = SystemClock()
    store, bus = await PostgresStore.open(database), await NatsBus.open(nats, clock)
    definition = saga(workload)
    engine = _engine(store, bus, clock, [definition], replies=False)
    service = Service(engine)
    await service.start()
    connection = await asyncpg.connect(database)
    tune_process()
    counted = f"select count(*), count(ended_at) from sagas where definition = '{definition.name}'"
    for count in (1_000, sagas):
        there, _ = await connection.fetchrow(counted)
        began = time.time()
        await _begin(engine, definition, count, in_flight, connection, counted)
        while (await connection.fetchrow(counted))[1] < there + count:  # noqa: ASYNC110
            await asyncio.sleep(0.02)  # what ends elsewhere tells nobody here
        last = await connection.fetchval("select max(ended_at) from sagas")
        rate = count / (last / 1e6 - began)
    cpu = time.process_time()
    sys.stdout.write(f"{rate:.1f} {cpu:.2f}\n")
    await service.stop()


async def _begin(  # noqa: PLR0917 - what there is to say
    engine: Engine, definition: Saga[Order], count: int, in_flight: int, connection: asyncpg.Connection, counted: str
) -> None:
    began, ended = 0, 0
    _, before = await connection.fetchrow(counted)
    while began < count:
        room = min(in_flight - (began - ended), count - began)
        if room > 0:
            await asyncio.gather(*(engine.start(definition, ORDER) for _ in range(room)))
            began += room
        ended = (await connection.fetchrow(counted))[1] - before


def _engine(
    store: PostgresStore, bus: NatsBus, clock: SystemClock, sagas: Sequence[Saga[Order]], *, replies: bool
) -> Engine:
    return Engine(
        store,
        bus,
        sagas,
        clock=clock,
        worker=f"{socket.gethostname()}-{os.getpid()}",
        new_id=lambda: str(uuid7()),
        jitter=random.random,
        limits=Limits(),
        replies=replies,
    )


async def _ready(service: Service) -> None:
    tune_process()
    sys.stdout.write("is ready\n")
    sys.stdout.flush()
    raise await service.failed


def main() -> None:
    """The command line."""
    import uvloop  # noqa: PLC0415 - only here

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    role, *words = sys.argv[1:]
    match role:
        case "worker":
            uvloop.run(worker(words[0], words[1]))
        case "participant":
            uvloop.run(participant(words[0], words[1], words[2]))
        case _:
            uvloop.run(api(words[0], words[1], words[2], int(words[3]), int(words[4])))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
