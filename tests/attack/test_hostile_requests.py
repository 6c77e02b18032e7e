"""Requests of somebody who means harm: nothing breaks, and nothing is logged that anybody could provoke."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs
from tests.http.conftest import Shop, check_problem
from tests.http.conftest import shop as shop  # noqa: PLC0414 - a fixture


@pytest.fixture(autouse=True)
async def logged(shop: Shop) -> AsyncIterator[list[Any]]:
    structlog.reset_defaults()
    with capture_logs() as logs:
        yield logs


@pytest.mark.parametrize("act", ["cancel", "pause", "resume"])
async def test_an_order_is_no_saga(shop: Shop, logged: list[Any], act: str) -> None:
    order_id = (await shop.order()).json()["order_id"]
    response = await shop.http.post(f"/api/v1/sagas/order-{order_id}/{act}")
    check_problem(response, 404, "not-found")
    assert [line["event"] for line in logged if line["log_level"] != "info"] == []


@pytest.mark.parametrize("path", ["/api/v1/orders", "/api/v1/sagas/any/cancel"])
async def test_a_client_that_goes_away_in_the_middle_of_its_body_leaves_no_trace(
    shop: Shop, logged: list[Any], path: str
) -> None:
    coming = iter([{"type": "http.request", "body": b"{", "more_body": True}, {"type": "http.disconnect"}])
    sent: list[Any] = []

    async def receive() -> Any:
        return next(coming)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), (b"content-type", b"application/json"), (b"content-length", b"100")],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
    await shop.app(scope, receive, send)
    assert sent[0]["status"] == 400
    assert json.loads(sent[1]["body"])["type"] == "/problems/malformed"
    assert logged == []
    assert await shop.stored() == 0


async def test_the_documented_prices_satisfy_the_documented_schema_as_validators_compute_it(shop: Shop) -> None:
    """They divide floats: 19.99 is no multiple of 0.01 to them."""
    document = (await shop.http.get("/schema/openapi.json")).json()
    price = document["components"]["schemas"]["OrderItemRequest"]["properties"]["price"]
    for example in price["examples"]:
        assert price["exclusiveMinimum"] < example <= price["maximum"]
        assert (example / price.get("multipleOf", example)).is_integer()
