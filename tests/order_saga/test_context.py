"""From the request into the saga and from the saga to the API: checked on the way in, exact on the way out."""

from decimal import Decimal

import msgspec
import pytest
from msgspec import Raw

from order_saga.application.context import MAX_ITEMS, MAX_QUANTITY, OrderContext, place, show_context, show_order
from order_saga.domain.money import MAX_CENTS, from_cents
from order_saga.domain.order import OrderCreated, OrderItem, fold
from unwind import InputError

PRICE = Decimal("19.99")


def test_an_order_begins_with_its_total_in_cents() -> None:
    order = place("o-1", "c-1", [("p-1", 2, PRICE), ("p-2", 1, Decimal("100.0"))])
    assert order == OrderContext("o-1", "c-1", (OrderItem("p-1", 2, 1_999), OrderItem("p-2", 1, 10_000)), 13_998)


@pytest.mark.parametrize(
    ("customer", "items", "field"),
    [
        ("", [("p", 1, PRICE)], "customer_id"),
        (" ", [("p", 1, PRICE)], "customer_id"),
        ("c\x00", [("p", 1, PRICE)], "customer_id"),
        ("c\ud800", [("p", 1, PRICE)], "customer_id"),
        ("c" * 201, [("p", 1, PRICE)], "customer_id"),
        ("c", [], "items"),
        ("c", [("p", 1, PRICE)] * (MAX_ITEMS + 1), "items"),
        ("c", [("p", MAX_QUANTITY, from_cents(MAX_CENTS))], "items"),
        ("c", [("p", 1, PRICE), ("", 1, PRICE)], "items[1].product_id"),
        ("c", [("p", 0, PRICE)], "items[0].quantity"),
        ("c", [("p", -1, PRICE)], "items[0].quantity"),
        ("c", [("p", MAX_QUANTITY + 1, PRICE)], "items[0].quantity"),
        ("c", [("p", 1, Decimal("-0.01"))], "items[0].price"),
        ("c", [("p", 1, Decimal("0.001"))], "items[0].price"),
        ("c", [("p", 1, Decimal("NaN"))], "items[0].price"),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(
    customer: str, items: list[tuple[str, int, Decimal]], field: str
) -> None:
    with pytest.raises(InputError) as error:
        place("o-1", customer, items)
    assert error.value.field == field


def test_the_api_shows_a_context_with_exact_prices() -> None:
    order = place("o-1", "c-1", [("p-1", 1, Decimal("10000000000000.00")), ("p-2", 0 + 1, Decimal(0))])
    shown = bytes(show_context(Raw(msgspec.json.encode(order))))
    assert shown == (
        b'{"order_id":"o-1","customer_id":"c-1",'
        b'"items":[{"product_id":"p-1","quantity":1,"price":10000000000000.00},'
        b'{"product_id":"p-2","quantity":1,"price":0.00}],"total":10000000000000.00,'
        b'"reservation_id":null,"payment_id":null,"shipment_id":null}'
    )


def test_the_api_shows_an_order_with_its_status() -> None:
    order = fold([OrderCreated("o-1", "c-1", (OrderItem("p-1", 2, 1_999),), 3_998)])
    shown = msgspec.json.decode(show_order(order, "s-1", "2026-01-02T03:04:05.000000Z", None))
    assert (shown["saga_id"], shown["created_at"], shown["ended_at"]) == ("s-1", "2026-01-02T03:04:05.000000Z", None)
    assert shown["status"] == "created"
    assert shown["version"] == 1
    assert shown["items"] == [{"product_id": "p-1", "quantity": 2, "price": 19.99}]
