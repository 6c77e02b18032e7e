"""A removal: the van is booked beside the packing of each room; one room that cannot be packed undoes all of it."""

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from sqlite3 import Connection

from msgspec import Struct

from unwind import (
    Command,
    CommandStep,
    ForEach,
    HandlerCall,
    Kind,
    OfItem,
    Parallel,
    Participant,
    Refused,
    Retry,
    Saga,
    TryAgain,
)
from unwind.bootstrap import Embedded, open_worker
from unwind.cli import Settings


class Room(Struct, frozen=True):
    boxes: int
    piano: bool = False


class Removal(Struct, frozen=True):
    customer: str
    rooms: dict[str, Room]


class BookVan(Command, frozen=True, tag="removals.book_van"):
    customer: str


class CancelVan(Command, frozen=True, tag="removals.cancel_van"):
    customer: str


class Pack(Command, frozen=True, tag="removals.pack"):
    boxes: int
    piano: bool


class Unpack(Command, frozen=True, tag="removals.unpack"):
    boxes: int


class Drive(Command, frozen=True, tag="removals.drive"):
    customer: str


class Van(CommandStep[Removal, None]):
    name = "van"
    retry = Retry.exponential(attempts=3)

    def execute(self, removal: Removal) -> Command:
        return BookVan(removal.customer)

    def compensate(self, removal: Removal) -> Command:
        return CancelVan(removal.customer)


class PackRoom(CommandStep[Removal, None], OfItem[Room]):
    """Done for each room; `self.item` is the room."""

    name = "pack"

    def execute(self, removal: Removal) -> Command:
        return Pack(self.item.boxes, self.item.piano)

    def compensate(self, removal: Removal) -> Command:
        return Unpack(self.item.boxes)


class DriveAway(CommandStep[Removal, None]):
    name = "drive"
    kind = Kind.PIVOT

    def execute(self, removal: Removal) -> Command:
        return Drive(removal.customer)


def rooms(removal: Removal) -> Mapping[str, Room]:
    return removal.rooms


packing = ForEach("rooms", [PackRoom()], items=rooms, of=Room, at_once=2)
removal_saga = Saga("removal", context=Removal, steps=[Parallel(Van(), packing), DriveAway()])

removals = Participant[Connection]("removals")
TABLES = "create table if not exists packed (effect text primary key, boxes integer not null)"


@removals.handles(Pack)
def pack(tx: Connection, command: Pack, call: HandlerCall) -> Refused | None:
    if command.piano:
        return Refused("no room for a piano")
    tx.execute("insert into packed values (?, ?)", (f"{call.saga_id}/{call.step}", command.boxes))
    return None


@removals.undoes(Unpack)
def unpack(tx: Connection, command: Unpack, call: HandlerCall) -> None:
    tx.execute("delete from packed where effect = ?", (f"{call.saga_id}/{call.step}",))


@removals.handles(BookVan)
def book_van(tx: Connection, command: BookVan, call: HandlerCall) -> None:
    if call.attempt == 1:  # each step has its own retries, whatever goes on beside it
        raise TryAgain("the line is busy")


@removals.undoes(CancelVan)
def cancel_van(tx: Connection, command: CancelVan, call: HandlerCall) -> None:
    pass


@removals.handles(Drive)
def drive(tx: Connection, command: Drive, call: HandlerCall) -> None:
    pass


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database=Path(folder) / "unwind.db")
        async with open_worker(settings, [removal_saga], [Embedded(removals, TABLES)]) as worker:
            ada = Removal("Ada", {"kitchen": Room(12), "study": Room(30), "attic": Room(5)})
            bob = Removal("Bob", {"kitchen": Room(8), "parlour": Room(2, piano=True)})
            for removal in (ada, bob):
                started = await worker.engine.start(removal_saga, removal)
                ended = await worker.engine.ended(started.saga_id)
                history = await worker.queries.history(started.saga_id)
                last = {(entry.step_name, entry.direction): entry.status for entry in history.entries}
                print(f"{removal.customer}: {ended.status}")
                for (step, direction), status in sorted(last.items()):
                    print(f"  {direction:4} {step}: {status}")


if __name__ == "__main__":
    asyncio.run(main())
