"""What holds for every answer: errors are problems, headers are safe, and what is wrong with us stays with us."""

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
import structlog
from litestar import get
from structlog.testing import capture_logs
from tests.core.trips import trip
from tests.eventually import eventually
from tests.http.conftest import ORDER, Shop, check_problem

from unwind.buses.memory import MemoryBus
from unwind.errors import (
    CodecError,
    DefinitionError,
    InputError,
    OverloadedError,
    RejectedError,
    UnavailableError,
)
from unwind.http import About, Answer, AnyRequest, Docs, create_app, create_watch_app
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries
from unwind.runtime.readiness import Check
from unwind.runtime.telemetry import Telemetry
from unwind.stores.memory import MemoryStore

ABOUT = About("Trips", "1", "For tests")
raised: dict[str, Exception] = {
    "overloaded": OverloadedError("too much", 7),
    "unavailable": UnavailableError("no answer"),
    "rejected": RejectedError("value out of range for column secret"),
    "input": InputError("too large", "context"),
    "codec": CodecError("secret shape"),
    "definition": DefinitionError("secret definition"),
    "bug": KeyError("secret key"),
}


@get("/raise/{what:str}", docs=Docs((Answer(200, "Never"),)), scope="read")
async def raising(request: AnyRequest) -> None:
    """Raise what is asked for."""
    raise raised[request.path_params["what"]]


def parts() -> tuple[Engine, Queries]:
    store = MemoryStore(lambda: 0)
    clock = SystemClock()
    engine = Engine(store, MemoryBus(clock), [trip()], clock=clock, worker="w", new_id=str, jitter=lambda: 0.5)
    return engine, Queries(store)


def client_of(app: Callable[..., Any]) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://localhost"
    )


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    engine, queries = parts()
    async with client_of(create_app(ABOUT, engine, queries, {}, routes=[raising])) as client:
        yield client


@pytest.mark.parametrize(
    ("what", "status", "name", "retry_after"),
    [
        ("overloaded", 503, "overloaded", "7"),
        ("unavailable", 503, "unavailable", "2"),
        ("rejected", 422, "validation", None),
        ("input", 422, "validation", None),
    ],
)
async def test_each_error_of_ours_has_its_answer(
    client: httpx.AsyncClient, what: str, status: int, name: str, retry_after: str | None
) -> None:
    response = await client.get(f"/api/v1/raise/{what}")
    check_problem(response, status, name)
    assert response.headers.get("retry-after") == retry_after
    assert "secret" not in response.text


async def test_what_only_looks_does_not_speak_of_storing(shop: Shop) -> None:
    asked = check_problem(await shop.http.get("/api/v1/sagas?limit=0"), 422, "validation")
    assert asked["detail"] == "not acceptable: limit"
    sent = check_problem(await shop.http.post("/api/v1/sagas/bulk", json={"action": "foo"}), 422, "validation")
    assert sent["detail"] == "not acceptable: action; nothing was stored"


async def test_a_body_that_is_no_object_is_told_as_a_whole(shop: Shop) -> None:
    told = check_problem(await shop.http.post("/api/v1/orders", json=[]), 422, "validation")
    assert told["detail"] == "not acceptable: the body; nothing was stored"
    assert told["errors"] == [{"field": "$", "reason": "Expected object, got array"}]


@pytest.mark.parametrize("what", ["codec", "definition", "bug"])
async def test_what_is_not_understood_is_logged_and_shown_as_an_id(client: httpx.AsyncClient, what: str) -> None:
    structlog.reset_defaults()
    with capture_logs() as logs:
        response = await client.get(f"/api/v1/raise/{what}")
    problem = check_problem(response, 500, "internal")
    assert "secret" not in response.text
    assert [(line["request_id"], line["exc_info"]) for line in logs] == [(problem["request_id"], raised[what])]


@pytest.mark.parametrize(
    ("method", "path", "status", "name"),
    [
        ("GET", "/nothing", 404, "not-found"),
        ("GET", "/api/v1", 404, "not-found"),
        ("GET", "/api/v1/nothing", 404, "not-found"),
        ("POST", "/docs/../x", 404, "not-found"),
        ("GET", "/%00", 404, "not-found"),
        ("DELETE", "/api/v1/orders", 405, "method-not-allowed"),
        ("PUT", "/health", 405, "method-not-allowed"),
        ("GET", "/api/v1/orders", 405, "method-not-allowed"),
        ("BREW", "/health", 405, "method-not-allowed"),
    ],
)
async def test_what_is_not_served_is_a_problem_too(shop: Shop, method: str, path: str, status: int, name: str) -> None:
    response = await shop.http.request(method, path)
    check_problem(response, status, name)
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize("path", ["/health", "/api/v1/orders", "/api/v1/sagas?limit=x", "/api/v1/sagas/x/cancel"])
async def test_options_tells_the_methods(shop: Shop, path: str) -> None:
    response = await shop.http.options(path)
    assert response.status_code == 204
    assert "OPTIONS" in response.headers["allow"]


@pytest.mark.parametrize("path", ["/health", "/docs", "/nothing", "/api/v1/sagas", "/api/v1/sagas?limit=x"])
async def test_every_answer_has_security_headers_and_an_id_of_its_own(shop: Shop, path: str) -> None:
    one, other = await shop.http.get(path), await shop.http.get(path)
    assert one.headers["x-request-id"] != other.headers["x-request-id"]
    assert one.headers["x-content-type-options"] == "nosniff"
    policy = one.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert "access-control-allow-origin" not in one.headers


@pytest.mark.parametrize("host", ["[", "]", "a b", "", "x" * 5_000, "evil.example/..", "\x7f", "[::1", "a:b:c"])
async def test_a_hostile_host_header_is_refused_or_without_effect(shop: Shop, host: str) -> None:
    headers = {b"Host": host.encode()}
    nothing = await shop.http.get("/api/v1/nothing", headers=headers)
    check_problem(nothing, nothing.status_code, {400: "malformed", 404: "not-found"}[nothing.status_code])
    order = await shop.http.post("/api/v1/orders", json=ORDER, headers=headers)
    if order.status_code == 202:
        assert order.headers["location"].startswith("/api/v1/sagas/")
    else:
        check_problem(order, order.status_code, {400: "malformed", 403: "forbidden"}[order.status_code])


async def test_health_is_ok_and_readiness_tells_of_each_dependency(shop: Shop) -> None:
    for path in ("/health", "/livez"):
        response = await shop.http.get(path)
        assert (response.status_code, response.json()) == (200, {"status": "ok"})
    ready = await shop.http.get("/readyz")
    assert ready.status_code == 200
    checks = {name: check["status"] for name, check in ready.json()["checks"].items()}
    assert checks == dict.fromkeys(("store", "inventory", "payment", "shipment", "worker", "definitions"), "ok")


async def up() -> None:
    """A dependency that answers."""


async def down() -> None:
    """A dependency that does not."""
    raise UnavailableError("connection refused")


@pytest.mark.parametrize(
    ("needed", "code", "status", "of_the_cache"),
    [(True, 503, "unavailable", "unavailable"), (False, 200, "ok", "degraded")],
)
async def test_a_dependency_that_does_not_answer_makes_it_not_ready_if_it_is_needed(
    needed: bool, code: int, status: str, of_the_cache: str
) -> None:
    checks = {"store": Check(up), "cache": Check(down, needed)}
    for app in (create_app(ABOUT, *parts(), checks), create_watch_app(checks, Telemetry())):
        async with client_of(app) as client:
            response = await client.get("/readyz")
        assert response.status_code == code
        assert response.json() == {
            "status": status,
            "checks": {
                "store": {"status": "ok", "error": None},
                "cache": {"status": of_the_cache, "error": "connection refused"},
            },
        }


async def test_a_process_that_only_is_watched_answers_nothing_else() -> None:
    async with client_of(create_watch_app({"store": Check(up)}, Telemetry())) as client:
        for path in ("/health", "/livez", "/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 200
        check_problem(await client.post("/api/v1/orders", json={}), 404, "not-found")
        assert (await client.get("/docs")).status_code == 404


async def test_metrics_are_in_the_form_that_prometheus_reads(shop: Shop) -> None:
    saga_id = (await shop.order()).json()["saga_id"]
    await shop.until(saga_id, "completed")

    async def counted() -> httpx.Response | None:  # a moment after the store can show it
        response = await shop.http.get("/metrics")
        return response if 'saga_completed_total{definition="order_saga"} 1.0' in response.text.splitlines() else None

    response = await eventually(counted, 10)
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
