"""Calls and their sagas in a trace, in one process; and a process that tells none."""

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.conftest import ORDER, Shop
from tests.servers.collector import Collected, Collector, collecting

from order_saga.main import application
from unwind.cli import read_settings
from unwind.runtime.trace_context import span_id_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CALLER = f"00-{TRACE}-00f067aa0ba902b7-01"
WITHIN = 30.0


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """A collector that the environment names."""
    with collecting() as started:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", started.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "20")
        yield started


@pytest.fixture
async def traced(tmp_path: Path, collector: Collector) -> AsyncIterator[Shop]:
    given = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    url = "http://traces.example/trace/{trace_id}"
    settings = read_settings({"DATABASE_URL": f"sqlite:///{tmp_path}/unwind.db", "UNWIND_TRACE_URL": url, **given})
    async with application(settings) as served:
        transport = httpx.ASGITransport(served.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Shop(client, served.app)


async def heard(collector: Collector, count: int, **having: Any) -> list[Collected]:
    """What has come in; meanwhile the application goes on."""
    return await asyncio.to_thread(collector.until, count, WITHIN, **having)


async def test_an_order_is_under_the_call_that_placed_it(traced: Shop, collector: Collector) -> None:
    accepted = await traced.order(traceparent=CALLER)
    saga = await traced.until(accepted.json()["saga_id"], "completed")
    assert saga["trace_id"] == TRACE
    [call] = await heard(collector, 1, kind="server")
    [told] = await heard(collector, 1, name="order_saga")
    assert (call.trace_id, call.parent, call.name) == (TRACE, CALLER[36:52], "POST /api/v1/orders")
    assert call.attributes["http.response.status_code"] == 202
    assert call.attributes["unwind.request_id"] == accepted.headers["x-request-id"]
    assert (told.trace_id, told.parent, told.span_id) == (TRACE, call.span_id, span_id_of(saga["saga_id"]))
    await heard(collector, 3, trace_id=TRACE, kind="consumer")


async def test_a_call_outside_of_any_trace_begins_one(traced: Shop, collector: Collector) -> None:
    saga = await traced.until((await traced.order()).json()["saga_id"], "completed")
    [call] = await heard(collector, 1, kind="server")
    assert (call.trace_id, call.parent) == (saga["trace_id"], "")


async def test_an_order_from_the_form_is_under_its_call_too(traced: Shop, collector: Collector) -> None:
    order = {"customer_id": "customer-1", "product_id": "product-1", "quantity": "1", "price": "19.99"}
    placed = await traced.http.post("/orders/new", data=order, headers={"Origin": "http://localhost"})
    assert placed.status_code == 303, placed.text
    saga = await traced.until(placed.headers["location"].rpartition("/")[2], "completed")
    [call] = await heard(collector, 1, kind="server")
    assert (call.trace_id, call.name) == (saga["trace_id"], "POST /orders/new")


async def test_reads_are_told_of_only_where_their_caller_does(traced: Shop, collector: Collector) -> None:
    assert (await traced.http.get("/api/v1/sagas", headers={"traceparent": "nonsense"})).status_code == 200
    assert (await traced.http.get("/health")).status_code == 200
    assert (await traced.http.get("/api/v1/sagas/nobody", headers={"traceparent": CALLER})).status_code == 404
    [call] = await heard(collector, 1)
    assert (call.name, call.failed) == ("GET /api/v1/sagas/{saga_id}", False)
    assert call.attributes["http.response.status_code"] == 404


async def test_what_the_caller_does_not_record_is_not_told(traced: Shop, collector: Collector) -> None:
    accepted = await traced.order(traceparent=CALLER[:-1] + "0")
    saga = await traced.until(accepted.json()["saga_id"], "completed")
    assert saga["trace_id"] == TRACE
    await traced.until((await traced.order()).json()["saga_id"], "completed")
    await heard(collector, 1, name="order_saga")
    assert {span.trace_id for span in collector.spans}.isdisjoint({TRACE})


async def test_the_page_of_a_saga_leads_to_its_trace(traced: Shop) -> None:
    saga_id = (await traced.order(traceparent=CALLER)).json()["saga_id"]
    page = (await traced.http.get(f"/sagas/{saga_id}")).text
    assert f'<a href="http://traces.example/trace/{TRACE}">{TRACE}</a>' in page


async def test_without_a_collector_the_callers_context_is_kept_as_it_came(shop: Shop) -> None:
    accepted = await shop.order(traceparent=CALLER)
    saga = await shop.until(accepted.json()["saga_id"], "completed")
    assert saga["trace_id"] == TRACE
    assert (await shop.saga((await shop.order()).json()["saga_id"]))["trace_id"] is None
    page = (await shop.http.get(f"/sagas/{saga['saga_id']}")).text
    assert TRACE in page
    assert f"{TRACE}</a>" not in page


OFF = f"""
import asyncio, sys
from order_saga.application.order_saga import order_saga
from order_saga.main import application
from unwind import bootstrap
from unwind.cli import read_settings
from unwind.buses.memory import MemoryBus
from unwind.runtime.journal import Journal
import httpx

async def main():
    async with bootstrap.open_worker(read_settings({{"UNWIND_DATA_DIR": sys.argv[1]}}), [order_saga]) as worker:
        assert worker.tracing is None
        assert type(worker.engine.loop._dispatcher._bus) is MemoryBus
        assert [type(saw.__self__) for saw in worker.engine.telemetry.hear] == [Journal]
    async with application(read_settings({{"UNWIND_DATA_DIR": sys.argv[1]}})) as served:
        assert served.app._serve is served.app.inner
        transport = httpx.ASGITransport(served.app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            answer = await client.post("/api/v1/orders", json={ORDER!r}, headers={{"traceparent": {CALLER!r}}})
            assert answer.status_code == 202
    ours = ("opentelemetry.sdk", "opentelemetry.trace", "opentelemetry.exporter", "requests", "google")
    found = [name for name in sys.modules if name.startswith(ours)]  # Litestar takes some constants, if they are there
    assert not found, found

asyncio.run(main())
"""


def test_off_nothing_of_it_is_there(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OTEL_", "UNWIND_"))}
    command = [sys.executable, "-c", OFF, str(tmp_path)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
