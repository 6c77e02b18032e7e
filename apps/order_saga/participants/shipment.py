"""The shipment service: hands orders to a carrier and calls shipments off."""

import asyncio
import json
from pathlib import Path
from sqlite3 import Connection

from order_saga.application.commands import CancelShipment, CreateShipment, ShipmentCreated, ShipmentFailed
from order_saga.participants.scripted import SLOW_PRODUCTS, UNDELIVERABLE_CUSTOMERS, UNDELIVERABLE_PRODUCTS
from unwind import HandlerCall, Participant

SCHEMA = Path(__file__).with_name("shipment.sql").read_text(encoding="utf-8")

shipment = Participant[Connection]("shipment")


async def ask_carrier(command: CreateShipment, _call: HandlerCall) -> None:
    """Wait for the carrier, outside of any transaction."""
    seconds = max(SLOW_PRODUCTS.get(item.product_id, 0.0) for item in command.items)
    if seconds:
        await asyncio.sleep(seconds)


@shipment.handles(CreateShipment, prepare=ask_carrier)
def create(tx: Connection, command: CreateShipment, call: HandlerCall) -> ShipmentCreated | ShipmentFailed:
    """Hand the items to the carrier, unless nobody delivers them or there."""
    if command.customer_id in UNDELIVERABLE_CUSTOMERS:
        return ShipmentFailed(f"no carrier delivers to the address of {command.customer_id}")
    contents: dict[str, int] = {}
    for item in command.items:
        if item.product_id in UNDELIVERABLE_PRODUCTS:
            return ShipmentFailed(f"no carrier takes {item.product_id}")
        contents[item.product_id] = contents.get(item.product_id, 0) + item.quantity
    shipment_id = f"shipment-{call.saga_id}"
    tx.execute(
        "insert into shipments (saga_id, shipment_id, order_id, customer_id, contents) values (?, ?, ?, ?, ?)",
        (call.saga_id, shipment_id, command.order_id, command.customer_id, json.dumps(contents)),
    )
    return ShipmentCreated(shipment_id)


@shipment.undoes(CancelShipment)
def cancel(tx: Connection, _command: CancelShipment, call: HandlerCall) -> None:
    """Call the shipment off; its row stays."""
    tx.execute("update shipments set status = 'cancelled' where saga_id = ?", (call.saga_id,))
