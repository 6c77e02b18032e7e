"""The documentation says what is served, all of it, and needs nothing from elsewhere."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from jsonschema_rs import Draft202012Validator
from litestar import get
from tests.http.conftest import ORDER, Shop, check_problem
from tests.http.test_problems import ABOUT, parts

from order_saga.order_form import order_pages
from unwind.dashboard.app import asset, own_routes
from unwind.errors import DefinitionError
from unwind.http import create_app
from unwind.http.app import Guarded

UNDOCUMENTED = {("GET", "/docs"), ("GET", "/docs/style.css"), ("GET", "/schema/openapi.json")}
PAGES = {
    re.sub(r"\{(\w+):\w+\}", r"{\1}", path) for route in [asset, *own_routes, *order_pages] for path in route.paths
}
"""For people: no part of the API."""


def served(app: Any) -> set[tuple[str, str]]:
    """Method and path of every route of the application."""
    assert isinstance(app, Guarded)
    return {
        (method, re.sub(r"\{(\w+):\w+\}", r"{\1}", route.path))
        for route in app.inner.routes
        for method in route.methods
        if method != "OPTIONS"
    }


async def schema_of(shop: Shop) -> Any:
    return (await shop.http.get("/schema/openapi.json")).json()


def operations(schema: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, operation


async def test_every_route_is_documented_and_nothing_else(shop: Shop) -> None:
    documented = {(method, path) for method, path, _ in operations(await schema_of(shop))}
    assert {route for route in served(shop.app) if route[1] not in PAGES} - UNDOCUMENTED == documented


def test_a_route_without_documentation_cannot_be_served() -> None:
    @get("/silent", scope="read")
    async def silent() -> None: ...

    with pytest.raises(DefinitionError, match="docs"):
        create_app(ABOUT, *parts(), {}, routes=[silent])


async def test_the_document_is_openapi_3_1_whose_references_all_lead_somewhere(shop: Shop) -> None:
    schema = await schema_of(shop)
    assert schema["openapi"].startswith("3.1.")
    names = [operation["operationId"] for _, _, operation in operations(schema)]
    assert len(names) == len(set(names))
    text = (await shop.http.get("/schema/openapi.json")).text
    for name in set(re.findall(r'"#/components/schemas/([^"]+)"', text)):
        Draft202012Validator(schema["components"]["schemas"][name] | {"components": schema["components"]})
    for _, _, operation in operations(schema):
        assert operation["summary"].endswith(".")


async def test_answers_have_the_documented_shape(shop: Shop) -> None:
    schema = await schema_of(shop)

    def check(name: str, value: Any) -> None:
        reference = {"$ref": f"#/components/schemas/{name}", "components": schema["components"]}
        Draft202012Validator(reference).validate(value)

    check("OrderRequest", ORDER)
    accepted = (await shop.order()).json()
    check("OrderAccepted", accepted)
    check("SagaView", await shop.until(accepted["saga_id"], "completed"))
    check("Plan", (await shop.http.get(f"/api/v1/sagas/{accepted['saga_id']}/plan")).json())
    check("Explanation", (await shop.http.get(f"/api/v1/sagas/{accepted['saga_id']}/explain")).json())
    check("SagaHistory", await shop.history(accepted["saga_id"]))
    check("SagaList", (await shop.http.get("/api/v1/sagas")).json())
    check("OrderView", (await shop.http.get(f"/api/v1/orders/{accepted['order_id']}")).json())
    check("Problem", check_problem(await shop.order({}), 422, "validation"))
    check("Readiness", (await shop.http.get("/readyz")).json())


async def test_the_page_shows_every_operation_and_loads_nothing_from_elsewhere(shop: Shop) -> None:
    page = await shop.http.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for _, path, operation in operations(await schema_of(shop)):
        assert f'<section id="{operation["operationId"]}">' in page.text
        assert path in page.text
    assert "<script" not in page.text
    links = re.findall(r'(?:src|href)="([^"#][^"]*)"', page.text)
    assert {link for link in links if not link.startswith("/")} == set()
    for link in set(links):
        assert (await shop.http.get(link)).status_code == 200
    anchors = set(re.findall(r'href="#([^"]+)"', page.text))
    assert anchors <= set(re.findall(r'id="([^"]+)"', page.text))
