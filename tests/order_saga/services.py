"""The three services on databases of their own, asked directly: each call is one transaction of one replica."""

import sqlite3
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from pathlib import Path
from typing import Any

import asyncpg
import msgspec
from msgspec import Raw

from order_saga.participants import inventory, payment, shipment
from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command
from unwind.ports import Message, ParticipantStore
from unwind.runtime.participant import Participant, answer, open_message
from unwind.settings import Database, Server, read_database
from unwind.stores.postgres.barrier import PostgresParticipantStore
from unwind.stores.sqlite.barrier import SQLiteParticipantStore

SERVICES: dict[str, tuple[Participant[Any], str, str]] = {
    "inventory": (inventory.inventory, inventory.SCHEMA, inventory.POSTGRES_SCHEMA),
    "payment": (payment.payment, payment.SCHEMA, payment.POSTGRES_SCHEMA),
    "shipment": (shipment.shipment, shipment.SCHEMA, shipment.POSTGRES_SCHEMA),
}
STEPS: dict[str, tuple[str, Direction]] = {
    "inventory.reserve": ("reserve_inventory", "do"),
    "inventory.release": ("reserve_inventory", "undo"),
    "payment.process": ("process_payment", "do"),
    "payment.refund": ("process_payment", "undo"),
    "shipment.create": ("create_shipment", "do"),
    "shipment.cancel": ("create_shipment", "undo"),
}


# -------------------------------------------------------------------------------------------------------- the databases


def files(folder: Path) -> dict[str, Database]:
    """A file for the engine and for each service."""
    return {name: folder / f"{name}.db" for name in ("engine", *SERVICES)}


def server(url: str) -> Server:
    """As the settings have it."""
    read = read_database({"DATABASE_URL": url}, "DATABASE_URL")
    assert isinstance(read, Server)
    return read


async def execute(database: Database, *statements: str) -> list[tuple[Any, ...]]:
    """Run statements on a connection of their own; the rows of the last."""
    if isinstance(database, Path):
        with closing(sqlite3.connect(database)) as file, file:
            return [file.execute(statement).fetchall() for statement in statements][-1]
    connection = await asyncpg.connect(database.url.reveal)
    try:
        return [[tuple(row) for row in await connection.fetch(statement)] for statement in statements][-1]
    finally:
        await connection.close()


# --------------------------------------------------------------------------------------------------------- the services


def ask(saga_id: str, command: Command, attempt: int = 1) -> Message:
    """A command as the saga sends it."""
    name = str(command.__struct_config__.tag)
    step, direction = STEPS[name]
    payload = Raw(msgspec.json.encode(command))
    return Message(effect_id(saga_id, step, direction), name, payload, saga_id, step, direction, attempt)


class Services:
    """One replica of each service, open."""

    def __init__(self, databases: Mapping[str, Database], stores: Mapping[str, ParticipantStore[Any]]) -> None:
        self._databases = databases
        self._stores = stores

    async def ask(self, saga_id: str, command: Command, attempt: int = 1) -> Answer:
        """What the command's service answers."""
        return await self.send(ask(saga_id, command, attempt))

    async def send(self, message: Message) -> Answer:
        """What the service of a message answers."""
        (given,) = await self.send_all([message])
        return given

    async def send_all(self, messages: Sequence[Message]) -> list[Answer]:
        """What a service answers to messages, all in one transaction once they are prepared."""
        participant, *_ = SERVICES[messages[0].name.partition(".")[0]]
        jobs = [open_message(participant, message) for message in messages]
        store = self._stores[participant.service]
        given = await answer(store, jobs)
        if None in given:
            for job in jobs:
                await job.prepare()
            given = await answer(store, jobs)
        return [each for each in given if each is not None]

    async def rows(self, service: str, query: str) -> list[tuple[Any, ...]]:
        """What a query finds in a service's database."""
        return await execute(self._databases[service], query)


@asynccontextmanager
async def open_services(databases: Mapping[str, Database]) -> AsyncIterator[Services]:
    """Open the services on their databases."""
    async with AsyncExitStack() as stack:
        stores: dict[str, ParticipantStore[Any]] = {}
        for name, (_, schema, postgres) in SERVICES.items():
            database = databases[name]
            if isinstance(database, Path):
                stores[name] = await SQLiteParticipantStore.open(database, schema)
            else:
                stores[name] = await PostgresParticipantStore.open(database.url.reveal, postgres)
            stack.push_async_callback(stores[name].close)
        yield Services(databases, stores)
