"""A trip: flight, hotel and car. The hotel is a saga of its own, which is unwound when the car cannot be had."""

import asyncio
import tempfile
from pathlib import Path
from sqlite3 import Connection

from msgspec import Struct
from msgspec.structs import replace

from unwind import Command, CommandStep, HandlerCall, Participant, Refused, Saga, SagaStep
from unwind.bootstrap import Embedded, open_worker
from unwind.cli import Settings


class Book(Command, frozen=True, tag="agency.book"):
    what: str
    traveller: str


class Cancel(Command, frozen=True, tag="agency.cancel"):
    what: str
    traveller: str


class Booked(Struct, frozen=True):
    code: str


class Stay(Struct, frozen=True):
    """The context of the hotel's saga."""

    traveller: str
    nights: int
    room: str = ""


class Trip(Struct, frozen=True):
    traveller: str
    nights: int = 3
    room: str = ""


class Room(CommandStep[Stay, Booked]):
    name = "room"

    def execute(self, stay: Stay) -> Command:
        return Book("room", stay.traveller)

    def succeeded(self, stay: Stay, reply: Booked) -> Stay:
        return replace(stay, room=reply.code)

    def compensate(self, stay: Stay) -> Command:
        return Cancel("room", stay.traveller)


class Breakfast(CommandStep[Stay, Booked]):
    name = "breakfast"

    def execute(self, stay: Stay) -> Command:
        return Book("breakfast", stay.traveller)

    def compensate(self, stay: Stay) -> Command:
        return Cancel("breakfast", stay.traveller)


stay_saga = Saga("stay", context=Stay, steps=[Room(), Breakfast()])


class Flight(CommandStep[Trip, Booked]):
    name = "flight"

    def execute(self, trip: Trip) -> Command:
        return Book("flight", trip.traveller)

    def compensate(self, trip: Trip) -> Command:
        return Cancel("flight", trip.traveller)


class Hotel(SagaStep[Trip, Stay]):
    """Begins a saga; done when that is completed, undone by undoing all of it."""

    name = "hotel"
    saga = stay_saga

    def begin(self, trip: Trip) -> Stay:
        return Stay(trip.traveller, trip.nights)

    def succeeded(self, trip: Trip, stay: Stay) -> Trip:
        return replace(trip, room=stay.room)


class Car(CommandStep[Trip, Booked]):
    name = "car"

    def execute(self, trip: Trip) -> Command:
        return Book("car", trip.traveller)

    def compensate(self, trip: Trip) -> Command:
        return Cancel("car", trip.traveller)


trip_saga = Saga("trip", context=Trip, steps=[Flight(), Hotel(), Car()])

agency = Participant[Connection]("agency")
TABLES = "create table if not exists booked (traveller text, what text, primary key (traveller, what))"
REFUSED = {("Bob", "car"), ("Eve", "breakfast")}


@agency.handles(Book)
def book(tx: Connection, command: Book, call: HandlerCall) -> Booked | Refused:
    if (command.traveller, command.what) in REFUSED:
        return Refused(f"no {command.what} left")
    tx.execute("insert into booked values (?, ?)", (command.traveller, command.what))
    print(f"  {command.what} booked")
    return Booked(f"{command.what} of {command.traveller}")


@agency.undoes(Cancel)
def cancel(tx: Connection, command: Cancel, call: HandlerCall) -> None:
    tx.execute("delete from booked where traveller = ? and what = ?", (command.traveller, command.what))
    print(f"  {command.what} cancelled")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database=Path(folder) / "unwind.db")
        async with open_worker(settings, [trip_saga], [Embedded(agency, TABLES)]) as worker:
            for traveller in ("Ada", "Bob", "Eve"):
                print(traveller)
                started = await worker.engine.start(trip_saga, Trip(traveller))
                ended = await worker.engine.ended(started.saga_id)
                why = f" ({ended.turned.step}: {ended.turned.reason})" if ended.turned else ""
                print(f"  {ended.status}{why}")


if __name__ == "__main__":
    asyncio.run(main())
