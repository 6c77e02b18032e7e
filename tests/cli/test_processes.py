"""The application as several processes on real servers: orders pass through all of them, and each may come and go."""

import asyncio
import os
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.cli.conftest import Server, begun, ready, run, serving
from tests.eventually import eventually
from tests.servers import nats, postgres, valkey

WITHIN = 30.0
SERVICES = ("inventory", "payment", "shipment")
PARTS = {
    "api": ("api",),
    "worker": ("worker",),
    **{service: ("participant", service) for service in SERVICES},
}
ORDER = {"customer_id": "customer-1", "items": [{"product_id": "product-1", "quantity": 1, "price": 9.99}]}
SLOW = {"customer_id": "customer-1", "items": [{"product_id": "product-slow", "quantity": 1, "price": 9.99}]}
REFUSED = {"customer_id": "customer-nowhere", "items": [{"product_id": "product-1", "quantity": 1, "price": 9.99}]}
Settings = Mapping[str, str]
_numbers = count(1)


class Shop:
    """The processes of one application."""

    def __init__(self, folder: Path, settings: Settings, stack: ExitStack) -> None:
        self._folder = folder
        self._settings = settings
        self._stack = stack
        self.parts: dict[str, Server] = {}

    def start(self, *names: str) -> None:
        """Start these parts, or start them again."""
        begun_now = [
            self._stack.enter_context(begun(self._folder, *PARTS[name], **{"SERVER_PORT": "0", **self._settings}))
            for name in names
        ]
        for name, process in zip(names, begun_now, strict=True):
            self.parts[name] = self._stack.enter_context(ready(process))

    def another(self, name: str) -> Server:
        """One more of a part."""
        return self._stack.enter_context(serving(self._folder, *PARTS[name], **self._settings))

    def place(self, order: Any, api: Server | None = None) -> str:
        """Place an order; where to follow it."""
        answer = (api or self.parts["api"]).http.post("/api/v1/orders", json=order)
        assert answer.status_code == 202, answer.text
        return str(answer.headers["location"])

    async def end(self, location: str, api: Server | None = None) -> str:
        """How the order's saga ends."""
        http = (api or self.parts["api"]).http

        async def ended() -> str | None:
            saga = http.get(location).json()
            return str(saga["status"]) if saga["status"] in {"completed", "compensated"} else None

        return await eventually(ended, WITHIN)


Open = Callable[[Settings], AbstractContextManager[Shop]]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens a shop on a migrated database."""

    @contextmanager
    def opens(settings: Settings) -> Iterator[Shop]:
        migrated = run("migrate", "up", **settings)
        assert migrated.returncode == 0, migrated.stderr
        with ExitStack() as stack:
            yield Shop(tmp_path, settings, stack)

    return opens


@pytest.fixture(params=["nats", "redis"])
def settings(request: pytest.FixtureRequest, tmp_path: Path, new_database: Callable[[], str]) -> Iterator[Settings]:
    """On NATS every service has a PostgreSQL database of its own, on Redis an SQLite file."""
    if request.param == "nats":
        databases = {f"{service.upper()}_DATABASE_URL": new_database() for service in SERVICES}
        with nats.running(tmp_path / "nats") as bus, valkey.running(tmp_path / "redis") as cache:
            yield {"DATABASE_URL": new_database(), "NATS_URL": bus.url, "REDIS_ADDR": cache.address, **databases}
    else:
        with valkey.running(tmp_path / "redis") as cache:
            yield {"DATABASE_URL": new_database(), "REDIS_ADDR": cache.address, "UNWIND_BUS": "redis"}


@pytest.fixture
def new_database(postgres_server_url: str) -> Iterator[Callable[[], str]]:
    """Makes databases that are gone after the test."""
    names: list[str] = []

    def made() -> str:
        names.append(f"shop_{os.getpid()}_{next(_numbers)}")
        asyncio.run(_execute(postgres_server_url, f"create database {names[-1]}"))
        return urlsplit(postgres_server_url)._replace(path=f"/{names[-1]}").geturl()

    yield made
    for name in names:
        asyncio.run(_execute(postgres_server_url, f"drop database {name} with (force)"))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.mark.integration
async def test_orders_go_through_five_processes(opened: Open, settings: Settings) -> None:
    with opened({**settings, "UNWIND_LOG_LEVEL": "warning"}) as shop:
        shop.start(*PARTS)
        placed = [shop.place(order) for order in (ORDER, REFUSED) * 10]
        assert [await shop.end(location) for location in placed] == ["completed", "compensated"] * 10
        history = shop.parts["api"].http.get(f"{placed[1]}/history").json()["history"]
        assert [(entry["step_name"], entry["status"]) for entry in history] == [
            ("reserve_inventory", "completed"),
            ("process_payment", "completed"),
            ("create_shipment", "failed"),
            ("process_payment", "compensated"),
            ("reserve_inventory", "compensated"),
        ]
        for name, part in shop.parts.items():
            assert part.http.get("/readyz").status_code == 200
            checks = set(part.http.get("/readyz").json()["checks"])
            own = {"store", "worker"} if name in {"api", "worker"} else {name, "participant"}
            own |= {"definitions"} if name == "worker" else set()
            assert checks - {"redis"} == own | {"bus"}
            assert b"unwind_commands_total" in part.http.get("/metrics").content
        assert shop.parts["worker"].http.post("/api/v1/orders", json=ORDER).status_code == 404
        for part in shop.parts.values():
            assert part.stop() == (0, "")


@pytest.mark.integration
async def test_any_number_of_each_may_run(opened: Open, settings: Settings) -> None:
    with opened(settings) as shop:
        shop.start(*PARTS)
        other = shop.another("api")
        shop.another("worker")
        placed = [shop.place(ORDER, api) for api in (shop.parts["api"], other) * 10]
        assert {await shop.end(location, other) for location in placed} == {"completed"}
        slow = shop.place(SLOW)
        cancelled = other.http.post(f"{slow}/cancel", json={})
        assert cancelled.status_code == 202
        assert await shop.end(slow) == "compensated"


@pytest.mark.integration
async def test_each_stops_in_order_while_work_is_going_on_and_the_next_carries_on(
    opened: Open, settings: Settings
) -> None:
    with opened(settings) as shop:
        shop.start(*PARTS)
        placed = []
        for name in PARTS:
            placed += [shop.place(order) for order in (ORDER, SLOW, REFUSED) * 10]
            code, errors = shop.parts[name].stop()
            assert (code, "Traceback" in errors) == (0, False), errors
            shop.start(name)
        assert [await shop.end(location) for location in placed] == ["completed", "completed", "compensated"] * 50


@pytest.mark.integration
async def test_servers_that_are_down_at_the_start_are_waited_for_by_each(
    tmp_path: Path, open_folder: Path, opened: Open
) -> None:
    database, bus = postgres.Postgres(open_folder / "pg"), nats.Nats(tmp_path / "nats")
    settings = {"DATABASE_URL": database.url("postgres"), "NATS_URL": bus.url}
    database.start()
    with opened(settings) as shop, ExitStack() as stack:
        stack.callback(database.stop)
        stack.callback(bus.stop)
        database.stop()
        named = {
            name: stack.enter_context(begun(tmp_path, *part, SERVER_PORT="0", **settings))
            for name, part in PARTS.items()
        }
        for name in ("api", "worker"):
            named[name].told(f"PostgreSQL at 127.0.0.1:{database.port}/postgres", 2)
        for name in SERVICES:
            named[name].told(f"NATS at 127.0.0.1:{bus.port}", 2)
        database.start()
        for name in ("api", "worker"):
            named[name].told(f"NATS at 127.0.0.1:{bus.port}")
        bus.start()
        for name, process in named.items():
            shop.parts[name] = stack.enter_context(ready(process))
        assert await shop.end(shop.place(ORDER)) == "completed"


def killed(server: postgres.Postgres, _: ExitStack) -> None:
    """It is gone, and connections tell so."""
    server.kill()


def frozen(server: postgres.Postgres, stack: ExitStack) -> None:
    """It answers nothing any more, and no connection tells so."""
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
    for pid in (server.pid, *map(int, children)):
        os.kill(pid, signal.SIGSTOP)
        stack.callback(os.kill, pid, signal.SIGCONT)


@pytest.mark.integration
@pytest.mark.parametrize("fault", [killed, frozen])
async def test_each_stops_in_bounded_time_though_its_servers_are_down(
    tmp_path: Path, open_folder: Path, opened: Open, fault: Callable[[postgres.Postgres, ExitStack], None]
) -> None:
    database = postgres.Postgres(open_folder / "pg")
    with nats.running(tmp_path / "nats") as bus, ExitStack() as stack:
        stack.callback(database.kill)
        database.start()
        url = database.url("postgres")
        shop = stack.enter_context(opened({"DATABASE_URL": url, "NATS_URL": bus.url, "PAYMENT_DATABASE_URL": url}))
        shop.start(*PARTS)
        for order in (ORDER, SLOW) * 10:
            shop.place(order)
        fault(database, stack)
        bus.kill()
        for part in shop.parts.values():
            part.process.send_signal(signal.SIGTERM)
        for part in shop.parts.values():
            _, errors = part.process.communicate(timeout=WITHIN)
            assert (part.process.returncode, "Traceback" in errors) == (0, False), errors


@pytest.mark.integration
@pytest.mark.slow
async def test_orders_sit_out_an_outage_that_is_longer_than_all_their_attempts(
    opened: Open, settings: Settings
) -> None:
    # A shipment has one attempt of 30 seconds: without its service, orders would be undone by then.
    with opened(settings) as shop:
        shop.start(*(part for part in PARTS if part != "shipment"))
        http, worker = shop.parts["api"].http, shop.parts["worker"].http
        placed = [shop.place(ORDER) for _ in range(10)]

        async def parked() -> bool | None:
            shown = [http.get(location).json()["parked"] for location in placed]
            return True if all(each and each["participant"] == "shipment" for each in shown) else None

        await eventually(parked, 60)
        explained = http.get(f"{placed[0]}/explain").json()["headline"]
        assert explained.startswith("Parked for")
        assert 'unwind_circuit_state{service="shipment"} 2.0' in worker.get("/metrics").text
        shop.start("shipment")

        async def over() -> bool | None:
            statuses = {http.get(location).json()["status"] for location in placed}
            return True if statuses == {"completed"} else None

        await eventually(over, 90)
        for location in placed:
            entries = http.get(f"{location}/history").json()["history"]
            assert [(entry["status"], entry["attempt"]) for entry in entries] == [("completed", 1)] * 4
        assert http.get("/api/v1/circuits").json()["hears_answers"] is False


def test_a_service_says_on_which_database_it_is_when_it_is_ready(opened: Open, settings: Settings) -> None:
    with opened(settings) as shop:
        shop.start("payment")
        told = shop.parts["payment"].announced
        url = settings.get("PAYMENT_DATABASE_URL", "")
        place = urlsplit(url).netloc.rpartition("@")[2] + urlsplit(url).path if url else "payment.db"
        assert told.endswith(f"{place})\n")
        assert "database: " in told
        assert "postgres@" not in told
