"""Which orders are placed: most go well, a share of them takes the roads that fail on purpose."""

from fractions import Fraction

import msgspec

from order_saga.roads import ROADS, Road

FAILING = tuple(road for road in ROADS if road.name in {"nowhere", "broke", "stock", "undeliverable", "flaky", "card"})
"""Refused by each of the services, or failing for some attempts: all of them end by themselves."""
_CUSTOMERS, _PRODUCTS = 1_000, 100
"""Among which orders are spread: rows that everybody wants would be what is measured."""


def order(number: int, failing: Fraction) -> bytes:
    """The body of the order with this number, the first being 0. `failing` is the share that takes a failing road."""
    road = road_of(number, failing)
    if road is None:
        customer, product = f"customer-load-{number % _CUSTOMERS}", f"product-load-{number % _PRODUCTS}"
        road = Road("", "", customer, product)
    item = {"product_id": road.product_id, "quantity": int(road.quantity), "price": msgspec.Raw(road.price.encode())}
    return msgspec.json.encode({"customer_id": road.customer_id, "items": [item]})


def road_of(number: int, failing: Fraction) -> Road | None:
    """The failing road that it takes; None: all goes well. The share is kept at every point, and roads take turns."""
    before, after = int(number * failing), int((number + 1) * failing)
    return FAILING[before % len(FAILING)] if after > before else None
