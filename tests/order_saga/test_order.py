"""The order's aggregate: every legal road through its events, and no other."""

from itertools import product

import msgspec
import pytest

from order_saga.domain.order import (
    NEW_ORDER,
    ORDER_EVENTS,
    IllegalTransitionError,
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    OrderEvent,
    OrderItem,
    OrderPaid,
    OrderReserved,
    OrderShipped,
    evolve,
    fold,
)
from unwind import CodecError

CREATED = OrderCreated("o-1", "c-1", (OrderItem("p-1", 2, 1_999),), 3_998)
ROAD: list[OrderEvent] = [
    CREATED,
    OrderReserved("o-1", "r-1"),
    OrderPaid("o-1", "p-1", 3_998),
    OrderShipped("o-1", "s-1"),
    OrderCompleted("o-1"),
]
CANCELLED = OrderCancelled("o-1")
LEGAL = {*(tuple(ROAD[:length]) for length in range(1, 6)), *((*ROAD[:length], CANCELLED) for length in range(1, 5))}


@pytest.mark.parametrize("length", range(1, 6))
def test_exactly_the_legal_roads_are_accepted(length: int) -> None:
    accepted = set()
    for events in product([*ROAD, CANCELLED], repeat=length):
        try:
            fold(events)
        except IllegalTransitionError:
            continue
        accepted.add(events)
    assert accepted == {road for road in LEGAL if len(road) == length}


def test_a_completed_order_knows_what_was_done_for_it() -> None:
    order = fold(ROAD)
    assert (order.status, order.version, order.customer_id, order.total) == ("completed", 5, "c-1", 3_998)
    assert (order.reservation_id, order.payment_id, order.shipment_id) == ("r-1", "p-1", "s-1")


def test_an_illegal_event_is_named_with_the_order_and_its_status() -> None:
    with pytest.raises(IllegalTransitionError, match="order o-1 is created at version 1: OrderPaid of order o-1"):
        evolve(fold([CREATED]), OrderPaid("o-1", "p-1", 1))


def test_another_orders_event_is_illegal() -> None:
    with pytest.raises(IllegalTransitionError, match="of order o-2 cannot follow"):
        evolve(fold([CREATED]), OrderReserved("o-2", "r-2"))


def test_a_new_order_has_nothing() -> None:
    assert fold([]) is NEW_ORDER


def test_events_are_stored_under_names_that_never_change() -> None:
    stored = ORDER_EVENTS.encode([*ROAD, CANCELLED])
    assert ORDER_EVENTS.decode(stored) == [*ROAD, CANCELLED]
    assert [event["type"] for event in msgspec.json.decode(stored)] == [
        "order.created/1",
        "order.reserved/1",
        "order.paid/1",
        "order.shipped/1",
        "order.completed/1",
        "order.cancelled/1",
    ]
    assert msgspec.json.decode(stored)[0] == {
        "type": "order.created/1",
        "order_id": "o-1",
        "customer_id": "c-1",
        "items": [{"product_id": "p-1", "quantity": 2, "price": 1_999}],
        "total": 3_998,
    }


def test_an_unknown_event_is_reported() -> None:
    with pytest.raises(CodecError, match=r"order\.lost/1"):
        ORDER_EVENTS.decode(b'[{"type":"order.lost/1"}]')
