"""The order routes: place an order, look at one. Prices go from JSON text to cents without ever being a float."""

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from order_saga.application.context import MAX_ITEMS, MAX_NAME, MAX_QUANTITY, OrderView, place, show_order
from order_saga.application.order_saga import order_saga
from order_saga.domain.money import MAX_CENTS, from_cents
from order_saga.domain.order import ORDER_EVENTS, fold, order_stream
from unwind import InputError, NotFoundError
from unwind.http import (
    IDEMPOTENCY_KEY,
    TRACEPARENT,
    Answer,
    AnyRequest,
    Docs,
    TheEngine,
    TheQueries,
    read_json,
    submission,
)

_LONGEST_NUMBER = 64
"""Characters. More digits than any price has, few enough to cost nothing."""

Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME, description="Printable characters, not only blanks.")]
Price = Annotated[
    Raw,
    Meta(
        description="Of one piece; a number above 0 with at most two decimals that count.",
        extra_json_schema={
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": float(from_cents(MAX_CENTS)),
            "examples": [100.0, 19.99],
        },
    ),
]


class OrderItemRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of the order."""

    product_id: Name
    quantity: Annotated[int, Meta(ge=1, le=MAX_QUANTITY)]
    price: Price


class OrderRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """What is to be ordered, by whom. Of a name that stands twice in an object the last value counts."""

    customer_id: Name
    items: Annotated[list[OrderItemRequest], Meta(min_length=1, max_length=MAX_ITEMS)]
    begin_at: Annotated[datetime, Meta(tz=True)] | None = None
    """When to begin, at the earliest: a pre-order. Its deadline counts from then."""


class OrderAccepted(Struct, frozen=True):
    """The order will end: completed, or completely undone. Follow it at `Location`."""

    saga_id: str
    order_id: str
    status: str
    message: str


class _Stored(Struct):
    order_id: str


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_request = msgspec.json.Decoder(OrderRequest)
_stored = msgspec.json.Decoder(_Stored)
NewId = NamedDependency[SkipValidation[Callable[[], str]]]


def _decimal(price: Raw, field: str) -> Decimal:
    """The number as it was written. Raises InputError when it is not one, or not above 0."""
    text = bytes(price).decode()
    if text[0] not in "-0123456789":
        raise InputError("the price is not a JSON number, e.g. 100.0", field)
    if len(text) > _LONGEST_NUMBER:
        raise InputError(f"the price has more than {_LONGEST_NUMBER} characters", field)
    value = Decimal(text)
    if value <= 0:
        raise InputError("the price is not above 0", field)
    return value


@post(
    "/orders",
    status_code=202,
    docs=Docs(
        (
            Answer(
                202,
                "It is stored, and will be carried through or completely undone",
                OrderAccepted,
                headers={"Location": "Where to follow it"},
            ),
        ),
        (400, 413, 415, 422, 503),
        "orders",
        (IDEMPOTENCY_KEY, TRACEPARENT),
        OrderRequest,
    ),
    scope="start",
)
async def place_order(request: AnyRequest, engine: TheEngine, new_id: NewId) -> Response[OrderAccepted]:
    """Place an order.

    Reserves the goods, takes the payment, creates the shipment, completes the order; or undoes all of it.
    """
    order = await read_json(request, _request)
    items = [
        (item.product_id, item.quantity, _decimal(item.price, f"items[{number}].price"))
        for number, item in enumerate(order.items)
    ]
    context = place(new_id(), order.customer_id, items)
    asked = msgspec.json.encode(replace(context, order_id=""))
    given = submission(
        request, asked if order.begin_at is None else asked + msgspec.json.encode(order.begin_at - _EPOCH)
    )
    started = await engine.start(
        order_saga,
        context,
        saga_id=given.saga_id,
        request_hash=given.request_hash,
        traceparent=given.traceparent,
        begin_at=order.begin_at,
    )
    order_id = _stored.decode(started.state.context).order_id
    message = "Order creation scheduled" if started.state.scheduled else "Order creation started"
    accepted = OrderAccepted(started.saga_id, order_id, "pending", message)
    return Response(accepted, status_code=202, headers={"Location": f"/api/v1/sagas/{started.saga_id}"})


@get(
    "/orders/{order_id:str}",
    docs=Docs((Answer(200, "The order as it is now", OrderView),), (404, 422, 503), tag="orders"),
    scope="read",
)
async def show_order_now(order_id: FromPath[str], queries: TheQueries) -> Raw:
    """Show an order."""
    return await read_order(queries, order_id)


async def read_order(queries: TheQueries, order_id: str) -> Raw:
    """The JSON of an `OrderView`. Raises NotFoundError, UnavailableError."""
    try:
        known_as = str(UUID(order_id))
    except ValueError as error:
        raise NotFoundError("there is no such order") from error
    commits = await queries.commits(order_stream(known_as))
    order = fold(event for _, data in commits for event in ORDER_EVENTS.decode(data))
    saga = await queries.newest("order_id", known_as)
    carried = (None, None, None) if saga is None else (saga.saga_id, saga.started_at, saga.ended_at)
    return show_order(order, *carried)


order_routes = [place_order, show_order_now]
