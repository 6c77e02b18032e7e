"""Real databases for the audit: the core decides, the services answer, the store keeps; messages get lost on demand."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import msgspec
from msgspec import Raw
from tests.order_saga.services import Services, open_services

from order_saga.application.context import OrderContext
from order_saga.application.order_saga import order_saga
from unwind.core.decide import decide
from unwind.core.effects import SendCommand
from unwind.core.messages import Input, Moment, Reply, Start, Tick
from unwind.core.pending import due, pending
from unwind.core.state import NEW, State
from unwind.ports import Store
from unwind.runtime.unit import Decided, command_message, make_unit
from unwind.settings import Database
from unwind.stores.migrations.postgres import migrate_postgres
from unwind.stores.postgres.store import PostgresStore
from unwind.stores.sqlite.store import SQLiteStore

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
ENGINE = "engine"

Fate = Literal["lost", "unheard"]
"""The command never arrives, or it is done and its reply never comes."""


class World:
    """An engine of one worker that does one thing after another."""

    def __init__(self, store: Store, services: Services) -> None:
        self._store = store
        self._services = services
        self._states: dict[str, State] = {}
        self.now = START

    async def start(self, saga_id: str, order: OrderContext) -> None:
        """Begin a saga."""
        await self.put(saga_id, Start(saga_id, Raw(msgspec.json.encode(order)), definition_hash=order_saga.hash))

    async def put(self, saga_id: str, message: Input) -> None:
        """Decide on an input, and commit."""
        before = self._states.get(saga_id, NEW)
        self.now += 1_000
        decision = decide(order_saga, before, message, Moment(self.now, 0.0, "worker-1"))
        token = message.token if isinstance(message, Tick) else None
        if decision.events:
            events, records = list(decision.events), list(decision.records)
            decided = Decided(order_saga, before, decision.state, events, records, token, redrive=False)
            committed = await self._store.commit([make_unit(decided, self.now, 3_000_000)])
            assert committed.won == {saga_id}
        self._states[saga_id] = decision.state

    async def deliver(self, saga_id: str, fates: Mapping[str, Fate] | None = None) -> bool:
        """Have what is in flight answered, each once; False when no answer came."""
        answered = False
        for effect in pending(self._states[saga_id]):
            assert isinstance(effect, SendCommand)
            fate = (fates or {}).get(f"{effect.step}/{effect.direction}")
            if fate == "lost":
                continue
            given = await self._services.send(command_message(self._states[saga_id], effect))
            if fate != "unheard":
                reply = Reply(effect.step, effect.direction, given.outcome, effect.attempt, given.payload, given.reason)
                await self.put(saga_id, reply)
                answered = True
        return answered

    async def wake(self, saga_id: str) -> None:
        """Let time pass until the saga is due."""
        at = due(self._states[saga_id], self.now)
        assert at is not None
        self.now = max(self.now, at)
        await self.put(saga_id, Tick(self.now))

    async def until_blocked(self, saga_id: str) -> None:
        """Drive a saga to where it needs a person."""
        while self._states[saga_id].blocked is None:
            assert await self.deliver(saga_id)

    async def finish(self, saga_id: str, fates: Mapping[str, Fate] | None = None) -> None:
        """Drive a saga to its end."""
        while self._states[saga_id].live:
            if not await self.deliver(saga_id, fates):
                await self.wake(saga_id)


@asynccontextmanager
async def open_world(databases: Mapping[str, Database]) -> AsyncIterator[World]:
    """A world on four databases."""
    store = await _open_store(databases[ENGINE])
    try:
        async with open_services(databases) as services:
            yield World(store, services)
    finally:
        await store.close()


async def _open_store(database: Database) -> Store:
    if isinstance(database, Path):
        return await SQLiteStore.open(database)
    await migrate_postgres(database.url.reveal)
    return await PostgresStore.open(database.url.reveal)
