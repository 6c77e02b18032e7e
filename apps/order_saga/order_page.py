"""The page of one order, and the way to it from its saga."""

from collections.abc import Sequence
from urllib.parse import quote

import msgspec
from litestar import Response, get
from litestar.params import FromPath

from order_saga.api import read_order
from order_saga.application.order_saga import order_saga
from unwind.dashboard import Link, SagaView, ThePages
from unwind.http import TheQueries


class _Named(msgspec.Struct):
    order_id: str


_stored = msgspec.json.Decoder(_Named)
_order = msgspec.json.Decoder(float_hook=str)
"""Amounts stay as they are written: a float would round them."""


@get("/orders/{order_id:str}", scope="read")
async def order_page(order_id: FromPath[str], pages: ThePages, queries: TheQueries) -> Response[str]:
    """The order as its own stream of events has it."""
    return pages.render("order.html", order=_order.decode(await read_order(queries, order_id)))


def order_of(saga: SagaView) -> Sequence[Link]:
    """The order that a saga carries through."""
    if saga.definition != order_saga.name:
        return ()
    order_id = _stored.decode(saga.context).order_id
    return (Link(f"Order {order_id}", f"/orders/{quote(order_id, safe='')}"),)
