"""Parcels are insured only where that is worth it: a step with a condition."""

import asyncio
import tempfile
from pathlib import Path
from sqlite3 import Connection

from msgspec import Struct

from unwind import Command, CommandStep, HandlerCall, Participant, Saga
from unwind.bootstrap import Embedded, open_worker
from unwind.cli import Settings

WORTH_INSURING = 50_000
"""Cents."""


class Parcel(Struct, frozen=True):
    address: str
    cents: int


class Insure(Command, frozen=True, tag="carrier.insure"):
    cents: int


class Cancel(Command, frozen=True, tag="carrier.cancel_insurance"):
    cents: int


class Collect(Command, frozen=True, tag="carrier.collect"):
    address: str


class CallOff(Command, frozen=True, tag="carrier.call_off"):
    address: str


class Insurance(CommandStep[Parcel, None]):
    name = "insurance"

    def when(self, parcel: Parcel) -> bool:
        return parcel.cents >= WORTH_INSURING

    def execute(self, parcel: Parcel) -> Command:
        return Insure(parcel.cents)

    def compensate(self, parcel: Parcel) -> Command:
        return Cancel(parcel.cents)


class Pickup(CommandStep[Parcel, None]):
    name = "pickup"

    def execute(self, parcel: Parcel) -> Command:
        return Collect(parcel.address)

    def compensate(self, parcel: Parcel) -> Command:
        return CallOff(parcel.address)


parcel_saga = Saga("parcel", context=Parcel, steps=[Insurance(), Pickup()])
carrier = Participant[Connection]("carrier")
TABLES = "create table if not exists book (effect_id text primary key, what text not null)"


@carrier.handles(Insure)
def insure(tx: Connection, command: Insure, call: HandlerCall) -> None:
    tx.execute("insert into book values (?, 'insurance')", (call.effect_id,))


@carrier.undoes(Cancel)
def cancel(tx: Connection, command: Cancel, call: HandlerCall) -> None:
    tx.execute("delete from book where effect_id = ?", (call.effect_id,))


@carrier.handles(Collect)
def collect(tx: Connection, command: Collect, call: HandlerCall) -> None:
    tx.execute("insert into book values (?, 'pickup')", (call.effect_id,))


@carrier.undoes(CallOff)
def call_off(tx: Connection, command: CallOff, call: HandlerCall) -> None:
    tx.execute("delete from book where effect_id = ?", (call.effect_id,))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database=Path(folder) / "unwind.db")
        async with open_worker(settings, [parcel_saga], [Embedded(carrier, TABLES)]) as worker:
            for what, cents in (("a ring", 120_000), ("a mug", 900)):
                started = await worker.engine.start(parcel_saga, Parcel("1 Main Street", cents))
                ended = await worker.engine.ended(started.saga_id)
                history = await worker.queries.history(started.saga_id)
                steps = ", ".join(f"{entry.step_name} {entry.status}" for entry in history.entries)
                print(f"{what}: {ended.status}: {steps}")


if __name__ == "__main__":
    asyncio.run(main())
