"""An order with a point of no return: up to the charge everything can be undone, after it there is only forward."""

import asyncio
import tempfile
from datetime import timedelta
from itertools import count
from pathlib import Path
from sqlite3 import Connection

from msgspec import Struct

from unwind import Command, CommandStep, HandlerCall, Kind, Participant, Refused, Retry, Saga, StateError, TryAgain
from unwind.bootstrap import Embedded, open_worker
from unwind.cli import Settings


class Order(Struct, frozen=True):
    customer: str


class Reserve(Command, frozen=True, tag="shop.reserve"):
    customer: str


class Release(Command, frozen=True, tag="shop.release"):
    customer: str


class Charge(Command, frozen=True, tag="shop.charge"):
    customer: str


class Ship(Command, frozen=True, tag="shop.ship"):
    customer: str


class ReserveStock(CommandStep[Order, None]):
    name = "reserve"

    def execute(self, order: Order) -> Command:
        return Reserve(order.customer)

    def compensate(self, order: Order) -> Command:
        return Release(order.customer)


class ChargeCard(CommandStep[Order, None]):
    """No undo: from its start there is no cancel, and it is tried until it answers."""

    name = "charge"
    kind = Kind.PIVOT

    def execute(self, order: Order) -> Command:
        return Charge(order.customer)


class ShipIt(CommandStep[Order, None]):
    """After the pivot: it is retried until it succeeds, or a person is asked."""

    name = "ship"
    kind = Kind.RETRIABLE
    retry = Retry.fixed(attempts=5, delay=timedelta(milliseconds=100))

    def execute(self, order: Order) -> Command:
        return Ship(order.customer)


order_saga = Saga("order", context=Order, steps=[ReserveStock(), ChargeCard(), ShipIt()])
shop = Participant[Connection]("shop")
TABLES = "create table if not exists stock (saga_id text primary key)"
vans = count()


@shop.handles(Reserve)
def reserve(tx: Connection, command: Reserve, call: HandlerCall) -> None:
    tx.execute("insert into stock values (?)", (call.saga_id,))


@shop.undoes(Release)
def release(tx: Connection, command: Release, call: HandlerCall) -> None:
    tx.execute("delete from stock where saga_id = ?", (call.saga_id,))


@shop.handles(Charge)
def charge(tx: Connection, command: Charge, call: HandlerCall) -> Refused | None:
    return Refused("the card has expired") if command.customer == "Bob" else None


@shop.handles(Ship)
def ship(tx: Connection, command: Ship, call: HandlerCall) -> None:
    if next(vans) < 2:  # noqa: PLR2004 - all vans are out, twice
        raise TryAgain("all vans are out")


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database=Path(folder) / "unwind.db")
        async with open_worker(settings, [order_saga], [Embedded(shop, TABLES)]) as worker:
            for customer in ("Ada", "Bob"):
                started = await worker.engine.start(order_saga, Order(customer))
                ended = await worker.engine.ended(started.saga_id)
                history = await worker.queries.history(started.saga_id)
                steps = ", ".join(f"{entry.step_name} {entry.status}" for entry in history.entries)
                print(f"{customer}: {ended.status}: {steps}")
            try:
                await worker.engine.cancel(started.saga_id, actor="Bob")
            except StateError as error:
                print(str(error).replace(started.saga_id, "of Bob"))


if __name__ == "__main__":
    asyncio.run(main())
