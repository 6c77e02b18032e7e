"""The three services on files of their own, asked directly: each call is one message answered in one transaction."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw

from order_saga.participants import inventory, payment, shipment
from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.saga import Command
from unwind.ports import Message
from unwind.runtime.participant import Participant, answer, open_message
from unwind.stores.sqlite.barrier import SQLiteParticipantStore

SERVICES: dict[str, tuple[Participant[Any], str]] = {
    "inventory": (inventory.inventory, inventory.SCHEMA),
    "payment": (payment.payment, payment.SCHEMA),
    "shipment": (shipment.shipment, shipment.SCHEMA),
}
STEPS: dict[str, tuple[str, Direction]] = {
    "inventory.reserve": ("reserve_inventory", "do"),
    "inventory.release": ("reserve_inventory", "undo"),
    "payment.process": ("process_payment", "do"),
    "payment.refund": ("process_payment", "undo"),
    "shipment.create": ("create_shipment", "do"),
    "shipment.cancel": ("create_shipment", "undo"),
}


class Services:
    """The services, open."""

    def __init__(self, stores: Mapping[str, SQLiteParticipantStore]) -> None:
        self._stores = stores

    async def ask(self, saga_id: str, command: Command, attempt: int = 1) -> Answer:
        """What the command's service answers."""
        name = str(command.__struct_config__.tag)
        step, direction = STEPS[name]
        return await self.send(
            Message(
                effect_id(saga_id, step, direction),
                name,
                Raw(msgspec.json.encode(command)),
                saga_id,
                step,
                direction,
                attempt,
            )
        )

    async def send(self, message: Message) -> Answer:
        """What the service of a message answers."""
        participant, _ = SERVICES[message.name.partition(".")[0]]
        job = open_message(participant, message)
        store = self._stores[participant.service]
        (given,) = await answer(store, [job])
        if given is None:
            assert job.route.prepare is not None
            job.prepared = await job.route.prepare(job.command, job.call())
            (given,) = await answer(store, [job])
        assert given is not None
        return given

    async def rows(self, service: str, query: str, *parameters: object) -> list[tuple[Any, ...]]:
        """What a query finds in a service's database."""
        return await self._stores[service].read(lambda database: database.execute(query, parameters).fetchall())


@asynccontextmanager
async def open_services(folder: Path) -> AsyncIterator[Services]:
    """Open `inventory.db`, `payment.db` and `shipment.db` in a folder."""
    async with AsyncExitStack() as stack:
        stores = {}
        for name, (_, schema) in SERVICES.items():
            stores[name] = await SQLiteParticipantStore.open(folder / f"{name}.db", schema)
            stack.push_async_callback(stores[name].close)
        yield Services(stores)
