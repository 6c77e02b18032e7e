"""The inventory service: holds goods for orders and lets them go."""

from collections import Counter
from pathlib import Path
from sqlite3 import Connection

from order_saga.application.commands import InventoryReserved, ReleaseInventory, ReservationFailed, ReserveInventory
from order_saga.participants.scripted import DEFAULT_STOCK, FLAKY_PRODUCTS, STOCK
from unwind import HandlerCall, Participant, TryAgain

SCHEMA = Path(__file__).with_name("inventory.sql").read_text(encoding="utf-8")

inventory = Participant[Connection]("inventory")


@inventory.handles(ReserveInventory)
def reserve(tx: Connection, command: ReserveInventory, call: HandlerCall) -> InventoryReserved | ReservationFailed:
    """Hold every item, or refuse; a refusal takes back what was held so far, with the kit's savepoint."""
    if call.attempt <= max(FLAKY_PRODUCTS.get(item.product_id, 0) for item in command.items):
        raise TryAgain("the warehouse does not answer")
    reservation = f"reservation-{call.saga_id}"
    tx.execute(
        "insert into reservations (saga_id, reservation_id, order_id) values (?, ?, ?)",
        (call.saga_id, reservation, command.order_id),
    )
    wanted: Counter[str] = Counter()
    for item in command.items:
        wanted[item.product_id] += item.quantity
    for product, quantity in wanted.items():
        if not _hold(tx, product, quantity):
            return ReservationFailed(f"{product} is out of stock: {_available(tx, product)} of {quantity} available")
        tx.execute("insert into reservation_lines values (?, ?, ?)", (call.saga_id, product, quantity))
    return InventoryReserved(reservation)


@inventory.undoes(ReleaseInventory)
def release(tx: Connection, _command: ReleaseInventory, call: HandlerCall) -> None:
    """Let go of what is held; the goods are available again."""
    opened = "update reservations set status = 'released' where saga_id = ? and status = 'open'"
    if tx.execute(opened, (call.saga_id,)).rowcount:
        tx.execute(
            "update stock set reserved = reserved - line.quantity from reservation_lines as line"
            " where line.saga_id = ? and line.product_id = stock.product_id",
            (call.saga_id,),
        )


def _hold(tx: Connection, product: str, quantity: int) -> bool:
    known = "insert into stock (product_id, on_hand) values (?, ?) on conflict do nothing"
    tx.execute(known, (product, STOCK.get(product, DEFAULT_STOCK)))
    held = "update stock set reserved = reserved + ?2 where product_id = ?1 and on_hand - reserved >= ?2"
    return tx.execute(held, (product, quantity)).rowcount == 1


def _available(tx: Connection, product: str) -> int:
    row = tx.execute("select on_hand - reserved from stock where product_id = ?", (product,)).fetchone()
    return int(row[0])
