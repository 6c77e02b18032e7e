"""The page on which a person places an order, with the scripted failures to choose from: to see one undone, live."""

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

from jinja2 import PackageLoader
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from order_saga.application.context import place
from order_saga.application.order_saga import order_saga
from order_saga.order_page import order_page
from order_saga.roads import ROADS, Road
from unwind import InputError
from unwind.dashboard import Form, Link, Pages, ThePages, read_form, see_other
from unwind.http import AnyRequest, TheEngine, submission

NewId = NamedDependency[SkipValidation[Callable[[], str]]]
_LONGEST_NUMBER = 20
"""Characters."""


ORDER_LINKS = (Link("Place an order", "/orders/new"),)
ORDER_TEMPLATES = PackageLoader("order_saga", "pages")


@get("/orders/new", scope="start")
async def order_form(pages: ThePages) -> Response[str]:
    """The form."""
    return _form(pages, {}, "")


@post("/orders/new", status_code=303, scope="start")
async def order_from_form(
    request: AnyRequest, pages: ThePages, engine: TheEngine, new_id: NewId
) -> Response[str] | Response[None]:
    """Place it, and go to its saga. What cannot be accepted is asked for again."""
    form = await read_form(request)
    try:
        context = place(new_id(), *_ordered(form))
    except InputError as error:
        return _form(pages, form, f"{error.field}: {error}")
    started = await engine.start(order_saga, context, traceparent=submission(request, b"").traceparent)
    return see_other(f"/sagas/{started.saga_id}")


order_pages = [order_form, order_from_form, order_page]


def _form(pages: Pages, form: Form, wrong: str) -> Response[str]:
    return pages.render("place_order.html", 422 if wrong else 200, roads=ROADS, form=form, wrong=wrong)


def _ordered(form: Form) -> tuple[str, list[tuple[str, int, Decimal]]]:
    """Customer and items of the road that was chosen, or what was typed. Raises InputError."""
    road = next((each for each in ROADS if each.name == form.get("road")), None)
    if road is None:
        typed = {name: form.get(name, "") for name in ("customer_id", "product_id", "quantity", "price")}
        road = Road("own", "", **typed)
    if not (road.quantity.isascii() and road.quantity.isdigit() and len(road.quantity) <= _LONGEST_NUMBER):
        raise InputError("give a whole number, e.g. 2", "quantity")
    return road.customer_id, [(road.product_id, int(road.quantity), _price(road.price))]


def _price(text: str) -> Decimal:
    try:
        price = Decimal(text) if len(text) <= _LONGEST_NUMBER else Decimal("NaN")
    except InvalidOperation:
        price = Decimal("NaN")
    if not price.is_finite() or price <= 0:
        raise InputError("give a number above 0, e.g. 19.99", "price")
    return price
