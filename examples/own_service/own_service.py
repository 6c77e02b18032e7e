"""A service of one's own: a saga, its participant, a route that begins it; with the API, the dashboard and keys."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from sqlite3 import Connection
from typing import Annotated

import msgspec
from litestar import Response, post
from msgspec import Meta, Struct

from unwind import ActionCall, ActionStep, Attribute, Command, CommandStep, HandlerCall, Participant, Refused, Saga
from unwind.bootstrap import Embedded, open_worker
from unwind.cli import Served, Settings, answering, serve
from unwind.dashboard import Dashboard
from unwind.http import IDEMPOTENCY_KEY, About, Answer, AnyRequest, Docs, TheEngine, read_json, submission


class Rental(Struct, frozen=True, forbid_unknown_fields=True):
    """The context of the saga, and what a rental is asked for with."""

    rider: Annotated[str, Meta(min_length=1, max_length=100)]
    days: Annotated[int, Meta(ge=1, le=365)]


MONTH = 31


class Lend(Command, frozen=True, tag="bikes.lend"):
    rider: str


class TakeBack(Command, frozen=True, tag="bikes.take_back"):
    rider: str


class Bike(CommandStep[Rental, None]):
    name = "bike"

    def execute(self, rental: Rental) -> Command:
        return Lend(rental.rider)

    def compensate(self, rental: Rental) -> Command:
        return TakeBack(rental.rider)


class Insurance(ActionStep[Rental, None]):
    """It would call the insurer here, with call.effect_id as the request's key."""

    name = "insurance"

    async def run(self, rental: Rental, call: ActionCall) -> Refused | None:
        return Refused("nobody insures more than a month") if rental.days > MONTH else None

    async def compensate(self, rental: Rental, call: ActionCall) -> None:
        return None


rental_saga = Saga(
    "rental",
    context=Rental,
    steps=[Bike(), Insurance()],
    attributes={"rider": Attribute(str, lambda rental: rental.rider)},
)
bikes = Participant[Connection]("bikes")
TABLES = "create table if not exists lent (saga_id text primary key, rider text not null)"


@bikes.handles(Lend)
def lend(tx: Connection, command: Lend, call: HandlerCall) -> None:
    tx.execute("insert into lent values (?, ?)", (call.saga_id, command.rider))


@bikes.undoes(TakeBack)
def take_back(tx: Connection, command: TakeBack, call: HandlerCall) -> None:
    tx.execute("delete from lent where saga_id = ?", (call.saga_id,))


class Accepted(Struct, frozen=True):
    saga_id: str


wanted = msgspec.json.Decoder(Rental)
accepted = Answer(202, "It will be carried through, or undone", Accepted, headers={"Location": "Where to follow it"})
documented = Docs((accepted,), (400, 413, 415, 422, 503), "rentals", (IDEMPOTENCY_KEY,), Rental)


@post("/rentals", scope="start", docs=documented)
async def rent(request: AnyRequest, engine: TheEngine) -> Response[Accepted]:
    """Rent a bike."""
    rental = await read_json(request, wanted)
    given = submission(request, msgspec.json.encode(rental))
    started = await engine.start(rental_saga, rental, saga_id=given.saga_id, request_hash=given.request_hash)
    location = {"Location": f"/api/v1/sagas/{started.saga_id}"}
    return Response(Accepted(started.saga_id), status_code=202, headers=location)


@asynccontextmanager
async def rentals(settings: Settings) -> AsyncIterator[Served]:
    async with open_worker(settings, [rental_saga], [Embedded(bikes, TABLES)]) as worker:
        about = About("Rentals", "1.0", "Rents bikes.")
        yield answering(worker, about, routes=[rent], dashboard=Dashboard("Rentals", trace_url=worker.trace_url))


if __name__ == "__main__":
    serve("rentals", {"UNWIND_DATA_DIR": "data/rentals", **os.environ}, rentals)
