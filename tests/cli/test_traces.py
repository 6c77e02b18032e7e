"""The traces of orders through five processes on real servers, one of them killed in the middle."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Start
from tests.cli.test_processes import PARTS, SERVICES, Open, Settings, Shop, new_database, opened
from tests.eventually import eventually
from tests.servers import nats
from tests.servers.collector import Collected, Collector, collecting

pytestmark = pytest.mark.integration  # the programs themselves, as processes

__all__ = ["new_database", "opened"]

WITHIN = 30.0
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = "00f067aa0ba902b7"
ORDER = {"customer_id": "customer-1", "items": [{"product_id": "product-1", "quantity": 1, "price": 9.99}]}
REFUSED = {"customer_id": "customer-nowhere", "items": [{"product_id": "product-1", "quantity": 1, "price": 9.99}]}
FORWARD = {"reserve_inventory", "process_payment", "create_shipment"}


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as started:
        yield started


@pytest.fixture
def settings(tmp_path: Path, new_database: Callable[[], str], collector: Collector) -> Iterator[Settings]:
    databases = {f"{service.upper()}_DATABASE_URL": new_database() for service in SERVICES}
    traces = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with nats.running(tmp_path / "nats") as bus:
        yield {"DATABASE_URL": new_database(), "NATS_URL": bus.url, **databases, **traces}


def place(shop: Shop, order: Any, trace_id: str) -> str:
    """Place an order within a trace; where to follow it."""
    header = {"traceparent": f"00-{trace_id}-{CALLER}-01"}
    answer = shop.parts["api"].http.post("/api/v1/orders", json=order, headers=header)
    assert answer.status_code == 202, answer.text
    return str(answer.headers["location"])


async def reached(shop: Shop, location: str, step: str) -> None:
    """Until this step is under way."""

    async def there() -> bool | None:
        return True if shop.parts["api"].http.get(location).json()["current_step"] == step else None

    await eventually(there, WITHIN)


def only(spans: list[Collected]) -> dict[str, Collected]:
    """What is told of by the worker and the API, by name: each once."""
    told = [span for span in spans if span.kind != "consumer"]
    by_name = {span.name: span for span in told}
    assert len(by_name) == len(told), sorted(span.name for span in told)
    return by_name


def handled(spans: list[Collected]) -> set[tuple[str, str, str]]:
    """What participants did: who, what, and under which span. A command that was sent again may be there twice."""
    return {(span.service, span.name, span.parent) for span in spans if span.kind == "consumer"}


@pytest.mark.integration
async def test_one_trace_leads_through_all_processes_and_across_a_worker_that_is_killed(
    opened: Open, settings: Settings, collector: Collector
) -> None:
    undone = TRACE[::-1]
    with opened(settings) as shop:
        shop.start(*(part for part in PARTS if part != "shipment"))
        placed = [place(shop, ORDER, TRACE), place(shop, REFUSED, undone)]
        for location in placed:
            await reached(shop, location, "create_shipment")
        assert shop.parts["worker"].stop(signal.SIGKILL)[0] == -signal.SIGKILL
        shop.start("worker", "shipment")
        assert [await shop.end(location) for location in placed] == ["completed", "compensated"]
        shown = [shop.parts["api"].http.get(location).json() for location in placed]
        assert [saga["trace_id"] for saga in shown] == [TRACE, undone]

        collector.until(3, WITHIN, trace_id=TRACE, kind="consumer")
        collector.until(1, WITHIN, trace_id=TRACE, name="order_saga")
        check_completed(collector.until(1, WITHIN, trace_id=TRACE), shown[0])
        collector.until(5, WITHIN, trace_id=undone, kind="consumer")
        collector.until(1, WITHIN, trace_id=undone, name="order_saga")
        check_undone(collector.until(1, WITHIN, trace_id=undone))
        metrics = shop.parts["worker"].http.get("/metrics").text
        assert 'unwind_spans_total{outcome="exported"}' in metrics
        assert 'unwind_spans_total{outcome="failed"} 0.0' in metrics


async def test_what_waits_for_the_collector_goes_out_when_the_process_stops(start: Start, collector: Collector) -> None:
    told = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "600000"}
    server = start(**told, OTEL_SERVICE_NAME="shop")
    location = str(server.http.post("/api/v1/orders", json=ORDER).headers["location"])

    async def completed() -> bool | None:
        return server.http.get(location).json()["status"] == "completed" or None

    await eventually(completed, WITHIN)
    assert collector.spans == []
    assert server.stop()[0] == 0
    assert {span.name for span in collector.spans} >= {"POST /api/v1/orders", "order_saga", *FORWARD}
    assert {span.service for span in collector.spans} == {"shop"}


async def test_a_collector_that_is_not_there_keeps_nobody_waiting(start: Start) -> None:
    server = start(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="10")
    location = str(server.http.post("/api/v1/orders", json=ORDER).headers["location"])

    async def completed() -> bool | None:
        return server.http.get(location).json()["status"] == "completed" or None

    await eventually(completed, WITHIN)
    code, errors = server.stop()
    assert (code, "Traceback" in errors) == (0, False), errors


def check_completed(spans: list[Collected], shown: Any) -> None:
    told = only(spans)
    assert set(told) == {"POST /api/v1/orders", "order_saga", "complete_order", *FORWARD}
    request, saga = told["POST /api/v1/orders"], told["order_saga"]
    assert (request.kind, request.parent, request.service) == ("server", CALLER, "unwind-api")
    assert (saga.parent, saga.service) == (request.span_id, "unwind-worker")
    assert saga.attributes["unwind.saga.id"] == shown["saga_id"]
    assert saga.attributes["unwind.attribute.order_id"] == shown["context"]["order_id"]
    for step in (*FORWARD, "complete_order"):
        assert told[step].parent == saga.span_id
        assert saga.began <= told[step].began <= told[step].ended <= saga.ended
    assert handled(spans) == {
        ("inventory", "process inventory.reserve", told["reserve_inventory"].span_id),
        ("payment", "process payment.process", told["process_payment"].span_id),
        ("shipment", "process shipment.create", told["create_shipment"].span_id),
    }
    assert not any(span.failed or span.links for span in spans)


def check_undone(spans: list[Collected]) -> None:
    told = only(spans)
    undos = {"undo process_payment", "undo reserve_inventory"}
    assert set(told) == {"POST /api/v1/orders", "order_saga", *FORWARD, *undos}
    for name in undos:
        did = told[name.removeprefix("undo ")]
        assert told[name].links == ((did.trace_id, did.span_id),)
        assert told[name].parent == did.parent == told["order_saga"].span_id
        assert told[name].began >= did.ended
    assert {parent for _, _, parent in handled(spans)} == {told[name].span_id for name in (*FORWARD, *undos)}
    assert [name for name, span in told.items() if span.failed] == ["create_shipment"]
    assert told["create_shipment"].attributes["unwind.outcome"] == "refused"
    assert told["order_saga"].attributes["unwind.outcome"] == "compensated"
