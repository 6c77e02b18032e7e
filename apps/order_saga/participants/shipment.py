"""The shipment service: hands orders to a carrier and calls shipments off."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from order_saga.application.commands import CancelShipment, CreateShipment, ShipmentCreated, ShipmentFailed
from order_saga.participants.scripted import SLOW_PRODUCTS, UNDELIVERABLE_CUSTOMERS, UNDELIVERABLE_PRODUCTS
from order_saga.participants.tx import Handle, Tx
from unwind import HandlerCall, Participant

SCHEMA = Path(__file__).with_name("shipment.sql").read_text(encoding="utf-8")
POSTGRES_SCHEMA = Path(__file__).with_name("shipment.postgres.sql").read_text(encoding="utf-8")

CREATE = """
insert into shipments (saga_id, shipment_id, order_id, customer_id, contents)
select saga_id, shipment_id, order_id, customer_id, contents from given
"""
CALL_OFF = "update shipments set status = 'cancelled' where saga_id in (select saga_id from given)"

shipment = Participant[Handle]("shipment")


async def ask_carrier(command: CreateShipment, _call: HandlerCall) -> None:
    """Wait for the carrier, outside of any transaction."""
    seconds = max(SLOW_PRODUCTS.get(item.product_id, 0.0) for item in command.items)
    if seconds:
        await asyncio.sleep(seconds)


@shipment.handles_many(CreateShipment, prepare=ask_carrier)
async def create(
    handle: Handle, commands: Sequence[CreateShipment], calls: Sequence[HandlerCall]
) -> Sequence[ShipmentCreated | ShipmentFailed]:
    """Hand the items of each order to the carrier, unless nobody delivers them or there."""
    answers: list[ShipmentCreated | ShipmentFailed] = []
    sent: list[tuple[str, CreateShipment]] = []
    for command, call in zip(commands, calls, strict=True):
        obstacle = _obstacle(command)
        if obstacle:
            answers.append(ShipmentFailed(obstacle))
            continue
        answers.append(ShipmentCreated(_shipment_id(call.saga_id)))
        sent.append((call.saga_id, command))
    await Tx(handle).fetch(
        CREATE,
        saga_id=[saga_id for saga_id, _ in sent],
        shipment_id=[_shipment_id(saga_id) for saga_id, _ in sent],
        order_id=[command.order_id for _, command in sent],
        customer_id=[command.customer_id for _, command in sent],
        contents=[_contents(command) for _, command in sent],
    )
    return answers


@shipment.undoes_many(CancelShipment)
async def cancel(handle: Handle, _commands: Sequence[CancelShipment], calls: Sequence[HandlerCall]) -> None:
    """Call shipments off; their rows stay."""
    await Tx(handle).fetch(CALL_OFF, saga_id=[call.saga_id for call in calls])


def _shipment_id(saga_id: str) -> str:
    return f"shipment-{saga_id}"


def _obstacle(command: CreateShipment) -> str:
    """Why it cannot be delivered; empty: it can."""
    if command.customer_id in UNDELIVERABLE_CUSTOMERS:
        return f"no carrier delivers to the address of {command.customer_id}"
    refused = next((item.product_id for item in command.items if item.product_id in UNDELIVERABLE_PRODUCTS), "")
    return refused and f"no carrier takes {refused}"


def _contents(command: CreateShipment) -> str:
    """Quantity by product, as JSON."""
    contents = Counter[str]()
    for item in command.items:
        contents[item.product_id] += item.quantity
    return msgspec.json.encode(contents).decode()
