"""The inventory service: holds goods for orders and lets them go."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from order_saga.application.commands import InventoryReserved, ReleaseInventory, ReservationFailed, ReserveInventory
from order_saga.participants.scripted import DEFAULT_STOCK, FLAKY_PRODUCTS, STOCK
from order_saga.participants.tx import Handle, Tx
from unwind import HandlerCall, Participant, TryAgain

SCHEMA = Path(__file__).with_name("inventory.sql").read_text(encoding="utf-8")
POSTGRES_SCHEMA = Path(__file__).with_name("inventory.postgres.sql").read_text(encoding="utf-8")

# Takes new products in and locks known ones, always in the same order: replicas that want the same goods wait for one
# another, never in a ring. What it says of a product holds until the commit.
LOOK = """
insert into stock (product_id, on_hand)
select product_id, on_hand from given where true order by product_id
    on conflict (product_id) do update set reserved = stock.reserved
returning product_id, on_hand - reserved
"""
HOLD = """
update stock set reserved = reserved + given.quantity from given where stock.product_id = given.product_id
"""
RESERVE = """
insert into reservations (saga_id, reservation_id, order_id) select saga_id, reservation_id, order_id from given
"""
RESERVE_LINES = """
insert into reservation_lines (saga_id, product_id, quantity) select saga_id, product_id, quantity from given
"""
RELEASE = """
update reservations set status = 'released' where status = 'open' and saga_id in (select saga_id from given)
returning saga_id
"""
# An insert that always meets its rows: unlike an update of many it takes them in order.
LET_GO = """
insert into stock (product_id, on_hand, reserved)
select product_id, held, held
  from (select product_id, cast(sum(quantity) as bigint) as held
          from reservation_lines where saga_id in (select saga_id from given) group by product_id) as lines
 where true order by product_id
    on conflict (product_id) do update set reserved = stock.reserved - excluded.reserved
"""

inventory = Participant[Handle]("inventory")


class _Reservation(NamedTuple):
    saga_id: str
    reservation_id: str
    order_id: str
    lines: Mapping[str, int]
    """Quantity by product."""


@inventory.handles_many(ReserveInventory)
async def reserve(
    handle: Handle, commands: Sequence[ReserveInventory], calls: Sequence[HandlerCall]
) -> Sequence[InventoryReserved | ReservationFailed]:
    """Hold all that an order wants, or nothing and refuse; the orders have their turn as they came."""
    if any(call.attempt <= _failures(command) for command, call in zip(commands, calls, strict=True)):
        raise TryAgain("the warehouse does not answer")
    tx = Tx(handle)
    wanted = [_wanted(command) for command in commands]
    available = await _available(tx, set().union(*wanted))
    answers: list[InventoryReserved | ReservationFailed] = []
    made: list[_Reservation] = []
    for command, call, lines in zip(commands, calls, wanted, strict=True):
        short = next((product for product, quantity in lines.items() if quantity > available[product]), None)
        if short is not None:
            reason = f"{short} is out of stock: {available[short]} of {lines[short]} available"
            answers.append(ReservationFailed(reason))
            continue
        available.subtract(lines)
        reservation = _Reservation(call.saga_id, f"reservation-{call.saga_id}", command.order_id, lines)
        answers.append(InventoryReserved(reservation.reservation_id))
        made.append(reservation)
    await _write(tx, made)
    return answers


@inventory.undoes_many(ReleaseInventory)
async def release(handle: Handle, _commands: Sequence[ReleaseInventory], calls: Sequence[HandlerCall]) -> None:
    """Let go of what is held; the goods are available again."""
    tx = Tx(handle)
    released = await tx.fetch(RELEASE, saga_id=[call.saga_id for call in calls])
    await tx.fetch(LET_GO, saga_id=[saga_id for (saga_id,) in released])


def _failures(command: ReserveInventory) -> int:
    return max(FLAKY_PRODUCTS.get(item.product_id, 0) for item in command.items)


def _wanted(command: ReserveInventory) -> Counter[str]:
    wanted = Counter[str]()
    for item in command.items:
        wanted[item.product_id] += item.quantity
    return wanted


async def _available(tx: Tx, products: set[str]) -> Counter[str]:
    """Pieces that are not reserved, by product; nobody else can change that now."""
    asked = list(products)
    rows = await tx.fetch(LOOK, product_id=asked, on_hand=[STOCK.get(product, DEFAULT_STOCK) for product in asked])
    return Counter(dict(rows))


async def _write(tx: Tx, made: Sequence[_Reservation]) -> None:
    held = Counter[str]()
    for each in made:
        held.update(each.lines)
    lines = [(each.saga_id, product, quantity) for each in made for product, quantity in each.lines.items()]
    await tx.fetch(HOLD, product_id=list(held), quantity=list(held.values()))
    await tx.fetch(
        RESERVE,
        saga_id=[each.saga_id for each in made],
        reservation_id=[each.reservation_id for each in made],
        order_id=[each.order_id for each in made],
    )
    await tx.fetch(
        RESERVE_LINES,
        saga_id=[saga_id for saga_id, _, _ in lines],
        product_id=[product for _, product, _ in lines],
        quantity=[quantity for _, _, quantity in lines],
    )
