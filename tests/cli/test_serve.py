"""`order-saga serve` as an operator meets it: how it starts, how it refuses to, and how it stops."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from tests.cli.conftest import Server, Start, clean, run
from tests.eventually import eventually

pytestmark = pytest.mark.integration  # the programs themselves, as processes

ORDER = {"customer_id": "customer-1", "items": [{"product_id": "product-1", "quantity": 1, "price": 9.99}]}
SLOW = {"customer_id": "customer-1", "items": [{"product_id": "product-slow", "quantity": 1, "price": 9.99}]}
WITHIN = 90.0
IN_TIME = 10.0
"""Seconds. The time of a step runs, thirty seconds, whether a process is there or not. Who is ready by then can still
ask again, after five, and the slowest carrier answer, in three; later it may be right to undo an order."""


def placed(server: Server, order: Any) -> str:
    response = server.http.post("/api/v1/orders", json=order)
    assert response.status_code == 202
    location: str = response.headers["location"]
    return location


async def ended(server: Server, location: str) -> str:
    """The status in which the saga ends."""

    async def end() -> str | None:
        status = server.http.get(location).json()["status"]
        return str(status) if status in {"completed", "compensated"} else None

    return await eventually(end, WITHIN)


def ends(begun_at: float) -> set[str]:
    """How a saga begun then may end whose next process is ready now."""
    return {"completed"} if monotonic() - begun_at < IN_TIME else {"completed", "compensated"}


def check_refusal(result: subprocess.CompletedProcess[str], told: str) -> None:
    """One clear line, exit code 2, nothing else."""
    assert result.returncode == 2, result.stderr
    assert result.stdout == ""
    assert re.fullmatch(r"order-saga: [^\n]+\n", result.stderr)
    assert told in result.stderr


async def test_it_says_where_it_is_and_serves_there(start: Start) -> None:
    server = start()
    assert re.fullmatch(
        r"order-saga is ready at (http://127\.0\.0\.1:\d+) \(dashboard: \1/, documentation: \1/docs\)\n",
        server.announced,
    )
    assert server.http.get("/docs").status_code == 200
    assert server.http.get("/readyz").status_code == 200
    assert await ended(server, placed(server, ORDER)) == "completed"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_stops_it_with_exit_code_0_and_without_noise(start: Start, number: signal.Signals) -> None:
    server = start(UNWIND_LOG_LEVEL="warning")
    await ended(server, placed(server, ORDER))
    assert server.stop(number) == (0, "")


async def test_what_is_under_way_when_it_stops_is_carried_on_by_the_next(start: Start) -> None:
    first = start(UNWIND_LOG_LEVEL="warning")
    begun_at = monotonic()
    location = placed(first, SLOW)
    assert first.stop() == (0, "")
    second = start()
    possible = ends(begun_at)
    assert await ended(second, location) in possible


async def test_what_is_under_way_when_it_is_killed_is_carried_on_by_the_next(start: Start, tmp_path: Path) -> None:
    first = start()
    begun_at = monotonic()
    locations = [placed(first, ORDER) for _ in range(20)]
    first.process.kill()
    first.process.wait()
    second = start()
    possible = ends(begun_at)
    found = [await ended(second, location) for location in locations]
    assert set(found) <= possible
    second.stop()
    audit = run("audit", UNWIND_DATA_DIR=str(tmp_path / "data"))
    assert (audit.returncode, audit.stderr) == (0, "")
    assert f"20 sagas: {found.count('completed')} completed" in audit.stdout


async def test_the_log_tells_of_each_saga_in_json_where_it_is_no_terminal(start: Start) -> None:
    server = start()
    location = placed(server, ORDER)
    assert await ended(server, location) == "completed"
    code, errors = server.stop()
    lines = [json.loads(line) for line in errors.splitlines()]
    of_saga = [line for line in lines if line.get("saga_id") == location.rpartition("/")[2]]
    assert code == 0
    assert [line["event"] for line in of_saga] == ["saga_started", "saga_completed"]
    assert all(line["correlation_id"] and line["definition"] == "order_saga" for line in of_saga)


async def test_the_log_is_for_people_when_asked(start: Start) -> None:
    server = start(UNWIND_LOG_FORMAT="console", UNWIND_LOG_LEVEL="debug")
    assert await ended(server, placed(server, ORDER)) == "completed"
    _, errors = server.stop()
    assert "saga_completed" in errors
    assert not any(line.startswith("{") for line in errors.splitlines())


async def test_a_log_of_warnings_has_no_lines_for_each_saga(start: Start) -> None:
    server = start(UNWIND_LOG_LEVEL="warning")
    assert await ended(server, placed(server, ORDER)) == "completed"
    assert "saga_" not in server.stop()[1]


def test_logs_are_json_when_asked(start: Start) -> None:
    server = start(UNWIND_LOG_FORMAT="json", UNWIND_LOG_LEVEL="debug")
    code, errors = server.stop()
    assert code == 0
    assert all(line.startswith("{") for line in errors.splitlines())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SERVER_PORT", "eighty"),
        ("DATABASE_URL", "mysql://localhost/orders"),
        ("PAYMENT_DATABASE_URL", "mysql://localhost/orders"),
        ("NATS_URL", "localhost:4222"),
        ("SERVER_HOST", "no.such.host.invalid"),
        ("UNWIND_HOST", "no.such.host.invalid"),
        ("UNWIND_DATA_DRI", "data"),
    ],
)
def test_settings_that_make_no_sense_are_told_in_one_line(tmp_path: Path, name: str, value: str) -> None:
    settings = {"UNWIND_DATA_DIR": str(tmp_path), "SERVER_PORT": "0", name: value}
    check_refusal(run("serve", **settings), f"{name}: ")
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_used_are_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no database, it is a text of more than a hundred characters " * 9)
    (tmp_path / "directory.db").mkdir()
    for settings, told in (
        ({"DATABASE_URL": f"sqlite:///{tmp_path}/file/unwind.db"}, "DATABASE_URL"),
        (
            {"DATABASE_URL": f"sqlite:///{tmp_path}/directory.db"},
            f"DATABASE_URL: {tmp_path}/directory.db is a directory",
        ),
        ({"DATABASE_URL": f"sqlite:///{tmp_path}/file"}, "not a database"),
        ({"UNWIND_DATA_DIR": f"{tmp_path}/file"}, f"UNWIND_DATA_DIR: {tmp_path}/file cannot be used as a directory"),
        (
            {"DATABASE_URL": f"sqlite:///{tmp_path}/a.db", "UNWIND_DATA_DIR": f"{tmp_path}/file"},
            f"UNWIND_DATA_DIR: participant inventory: {tmp_path}/file cannot be used as a directory",
        ),
        (
            {"UNWIND_DATA_DIR": f"{tmp_path}/d", "PAYMENT_DATABASE_URL": f"sqlite:///{tmp_path}/file"},
            f"PAYMENT_DATABASE_URL: participant payment: {tmp_path}/file cannot be used as a database",
        ),
    ):
        check_refusal(run("serve", SERVER_PORT="0", **settings), told)


def test_a_port_in_use_is_told_in_one_line_before_anything_is_opened(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        check_refusal(run("serve", SERVER_PORT=port, UNWIND_DATA_DIR=str(tmp_path / "data")), "SERVER_PORT: ")
    assert list(tmp_path.iterdir()) == []


def test_an_application_that_fails_ends_the_process_with_exit_code_1() -> None:
    program = """
import asyncio, os
from contextlib import asynccontextmanager
from unwind.cli import Served, serve

@asynccontextmanager
async def application(settings):
    failed = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(failed.set_result, RuntimeError("a part ended"))
    yield Served(None, failed)

serve("test", os.environ, application)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], env=clean(SERVER_PORT="0"), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (1, "")


def test_an_error_at_start_that_is_not_about_settings_is_one_line_and_exit_code_1() -> None:
    program = """
import os
from unwind.cli import serve
from unwind import DefinitionError

def application(settings):
    raise DefinitionError("the definition was changed")

serve("test", os.environ, application)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], env=clean(SERVER_PORT="0"), capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stderr) == (1, "test: the definition was changed\n")
