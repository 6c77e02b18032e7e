"""What the order saga knows while it runs, how it begins from a request, and how the API shows it."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from order_saga.domain.money import MAX_CENTS, from_cents, to_cents
from order_saga.domain.order import Order, OrderItem, OrderStatus
from unwind import InputError

MAX_ITEMS = 1_000
MAX_QUANTITY = 1_000_000
MAX_NAME = 200


class OrderContext(Struct, frozen=True):
    """The order and what came of it so far. Money is in cents."""

    order_id: str
    customer_id: str
    items: tuple[OrderItem, ...]
    total: int
    reservation_id: str | None = None
    payment_id: str | None = None
    shipment_id: str | None = None


# ---------------------------------------------------------------------------------------------------- from the request


def place(order_id: str, customer_id: str, items: Iterable[tuple[str, int, Decimal]]) -> OrderContext:
    """The context of a new order; each item is product, quantity, price of one piece.

    Raises InputError naming the field at fault.
    """
    _check_name(customer_id, "customer_id")
    lines = tuple(_line(f"items[{number}]", *item) for number, item in enumerate(items))
    if not 1 <= len(lines) <= MAX_ITEMS:
        raise InputError(f"an order has 1 to {MAX_ITEMS} items, not {len(lines)}", "items")
    total = sum(line.quantity * line.price for line in lines)
    if total > MAX_CENTS:
        raise InputError(f"the order's total is larger than {from_cents(MAX_CENTS)}", "items")
    return OrderContext(order_id, customer_id, lines, total)


def _line(field: str, product_id: str, quantity: int, price: Decimal) -> OrderItem:
    _check_name(product_id, f"{field}.product_id")
    if not 1 <= quantity <= MAX_QUANTITY:
        raise InputError(f"the quantity is not between 1 and {MAX_QUANTITY}", f"{field}.quantity")
    try:
        cents = to_cents(price)
    except ValueError as error:
        raise InputError(f"the price {error}", f"{field}.price") from error
    if cents < 0:
        raise InputError("the price is negative", f"{field}.price")
    return OrderItem(product_id, quantity, cents)


def _check_name(name: str, field: str) -> None:
    if not name.strip() or len(name) > MAX_NAME or not name.isprintable():
        raise InputError(f"give 1 to {MAX_NAME} printable characters", field)


# ---------------------------------------------------------------------------------------------------------- to the API

Amount = Annotated[Raw, Meta(extra_json_schema={"type": "number"})]
"""A JSON number with two places, written digit by digit."""


class ItemView(Struct, frozen=True):
    """One line of an order as the API shows it."""

    product_id: str
    quantity: int
    price: Amount


class ContextView(Struct, frozen=True):
    """A saga's context as the API shows it."""

    order_id: str
    customer_id: str
    items: tuple[ItemView, ...]
    total: Amount
    reservation_id: str | None
    payment_id: str | None
    shipment_id: str | None


class OrderView(ContextView, frozen=True):
    """An order as the API shows it."""

    status: OrderStatus
    version: int
    saga_id: str | None
    """That carries it; so are the times. None where it was begun before sagas could be found by their order."""
    created_at: str | None
    ended_at: str | None


_context = msgspec.json.Decoder(OrderContext)


def show_context(stored: Raw) -> Raw:
    """The JSON of a `ContextView` for a stored context."""
    context = _context.decode(stored)
    return Raw(
        msgspec.json.encode(
            ContextView(
                context.order_id,
                context.customer_id,
                _items(context.items),
                _amount(context.total),
                context.reservation_id,
                context.payment_id,
                context.shipment_id,
            )
        )
    )


def show_order(order: Order, saga_id: str | None, created_at: str | None, ended_at: str | None) -> Raw:
    """The JSON of an `OrderView` for an order; the rest is of the saga that carries it."""
    return Raw(
        msgspec.json.encode(
            OrderView(
                order.order_id,
                order.customer_id,
                _items(order.items),
                _amount(order.total),
                order.reservation_id,
                order.payment_id,
                order.shipment_id,
                order.status,
                order.version,
                saga_id,
                created_at,
                ended_at,
            )
        )
    )


def _items(items: tuple[OrderItem, ...]) -> tuple[ItemView, ...]:
    return tuple(ItemView(item.product_id, item.quantity, _amount(item.price)) for item in items)


def _amount(cents: int) -> Raw:
    return Raw(str(from_cents(cents)).encode())
