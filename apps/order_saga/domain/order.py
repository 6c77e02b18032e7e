"""The order: an event-sourced aggregate, created → reserved → paid → shipped → completed, or cancelled on the way.

The tags are the names under which the events are stored and published; a stored name never changes its meaning.
"""

from collections.abc import Iterable
from functools import reduce
from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from unwind import EventCodec

CATEGORY = "order"
"""Category of the orders' streams in the log."""

OrderStatus = Literal["new", "created", "reserved", "paid", "shipped", "completed", "cancelled"]


def order_stream(order_id: str) -> str:
    """The stream of an order, which no saga's stream can collide with."""
    return f"{CATEGORY}-{order_id}"


class OrderItem(Struct, frozen=True):
    """One line of an order."""

    product_id: str
    quantity: int
    price: int
    """Of one piece, in cents."""


class OrderCreated(Struct, frozen=True, tag="order.created/1"):
    """The order was accepted."""

    order_id: str
    customer_id: str
    items: tuple[OrderItem, ...]
    total: int
    """In cents."""


class OrderReserved(Struct, frozen=True, tag="order.reserved/1"):
    """Its items are held."""

    order_id: str
    reservation_id: str


class OrderPaid(Struct, frozen=True, tag="order.paid/1"):
    """The customer was charged."""

    order_id: str
    payment_id: str
    amount: int
    """In cents."""


class OrderShipped(Struct, frozen=True, tag="order.shipped/1"):
    """A carrier has the items."""

    order_id: str
    shipment_id: str


class OrderCompleted(Struct, frozen=True, tag="order.completed/1"):
    """All is done; nothing can be undone any more."""

    order_id: str


class OrderCancelled(Struct, frozen=True, tag="order.cancelled/1"):
    """All that was done is undone."""

    order_id: str


OrderEvent = OrderCreated | OrderReserved | OrderPaid | OrderShipped | OrderCompleted | OrderCancelled
ORDER_EVENTS: EventCodec[OrderEvent] = EventCodec(OrderEvent)


class Order(Struct, frozen=True):
    """An order folded from its events. `version` counts them."""

    order_id: str = ""
    version: int = 0
    status: OrderStatus = "new"
    customer_id: str = ""
    items: tuple[OrderItem, ...] = ()
    total: int = 0
    """In cents."""
    reservation_id: str | None = None
    payment_id: str | None = None
    shipment_id: str | None = None


NEW_ORDER = Order()

_MAY_FOLLOW: dict[type[OrderEvent], tuple[OrderStatus, ...]] = {
    OrderCreated: ("new",),
    OrderReserved: ("created",),
    OrderPaid: ("reserved",),
    OrderShipped: ("paid",),
    OrderCompleted: ("shipped",),
    OrderCancelled: ("created", "reserved", "paid", "shipped"),
}


class IllegalTransitionError(Exception):
    """An event that cannot follow on the order's state: the stream was not written by this program."""


def evolve(order: Order, event: OrderEvent) -> Order:
    """The order after one more event. Raises IllegalTransitionError, naming the order, its status and the event."""
    if order.status not in _MAY_FOLLOW[type(event)] or order.order_id not in {"", event.order_id}:
        raise IllegalTransitionError(
            f"order {order.order_id or event.order_id} is {order.status} at version {order.version}: "
            f"{type(event).__name__} of order {event.order_id} cannot follow"
        )
    version = order.version + 1
    match event:
        case OrderCreated():
            return Order(event.order_id, version, "created", event.customer_id, event.items, event.total)
        case OrderReserved():
            return replace(order, version=version, status="reserved", reservation_id=event.reservation_id)
        case OrderPaid():
            return replace(order, version=version, status="paid", payment_id=event.payment_id)
        case OrderShipped():
            return replace(order, version=version, status="shipped", shipment_id=event.shipment_id)
        case OrderCompleted():
            return replace(order, version=version, status="completed")
        case OrderCancelled():
            return replace(order, version=version, status="cancelled")
        case _:
            assert_never(event)


def fold(events: Iterable[OrderEvent], order: Order = NEW_ORDER) -> Order:
    """Apply events to an order. Raises IllegalTransitionError."""
    return reduce(evolve, events, order)
