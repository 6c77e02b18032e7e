"""How a process behaves towards what it depends on: down at the start, gone later, full, or set up wrongly."""

import resource
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Server, Start, begun, ready, serving
from tests.eventually import eventually
from tests.servers import valkey
from tests.servers.process import free_port

pytestmark = pytest.mark.integration  # the programs themselves, as processes

WITHIN = 15.0
PASSWORD = "s3cret-w0rd"


async def readiness(server: Server, is_so: Callable[[Any], bool]) -> httpx.Response:
    """The answer about its readiness, as soon as it is so."""

    async def ask() -> httpx.Response | None:
        answer = server.http.get("/readyz")
        return answer if is_so(answer.json()["checks"]) else None

    return await eventually(ask, WITHIN)


@pytest.mark.integration
def test_what_is_down_at_the_start_is_waited_for_and_told_at_growing_intervals(tmp_path: Path) -> None:
    redis = valkey.Valkey(tmp_path / "redis", password=PASSWORD)
    settings = {"UNWIND_BUS": "redis", "REDIS_ADDR": redis.address, "REDIS_PASSWORD": PASSWORD}
    with begun(tmp_path, "serve", SERVER_PORT="0", UNWIND_LOG_FORMAT="json", **settings) as process:
        lines = process.told('"waiting"', 2)
        assert all(f"Redis at {redis.address}" in line and PASSWORD not in line for line in lines)
        assert [f'"again_in_s": {pause}' in line for pause, line in zip((0.5, 1.0), lines, strict=True)] == [True] * 2
        redis.start()
        try:
            with ready(process) as server:
                assert server.http.get("/readyz").json()["checks"]["bus"] == {"status": "ok", "error": None}
                assert server.stop()[0] == 0
        finally:
            redis.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_waits_is_alive_not_ready_and_can_be_stopped(tmp_path: Path, number: signal.Signals) -> None:
    settings = {"UNWIND_BUS": "redis", "REDIS_ADDR": f"127.0.0.1:{free_port()}"}
    port = free_port()
    with begun(tmp_path, "serve", SERVER_PORT=str(port), **settings) as process:
        process.told("waiting")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as http:
            for path in ("/health", "/livez"):
                assert (http.get(path).status_code, http.get(path).json()) == (200, {"status": "ok"})
            readiness = http.get("/readyz")
            assert (readiness.status_code, readiness.json()["status"]) == (503, "unavailable")
            order = http.post("/api/v1/orders", json={})
            assert (order.status_code, order.headers["retry-after"]) == (503, "2")
            assert order.headers["content-type"] == "application/problem+json"
            assert order.json()["type"] == "/problems/unavailable"
        process.send_signal(number)
        out, errors = process.communicate()
        assert (process.returncode, out) == (0, "")
        assert "Traceback" not in errors


@pytest.mark.integration
@pytest.mark.parametrize("given", ["", "wrong-" + PASSWORD])
def test_a_wrong_password_of_redis_ends_the_process_with_one_line(tmp_path: Path, given: str) -> None:
    with valkey.running(tmp_path / "redis", password=PASSWORD) as redis:
        for bus in ("redis", "memory"):
            settings = {"UNWIND_BUS": bus, "REDIS_ADDR": redis.address, "REDIS_PASSWORD": given}
            with begun(tmp_path, "serve", SERVER_PORT="0", **settings) as process:
                out, errors = process.communicate()
            assert (process.returncode, out) == (2, "")
            assert errors.startswith("order-saga: REDIS_PASSWORD: ")
            assert errors.count("\n") == 1
            assert PASSWORD not in errors


@pytest.mark.integration
async def test_without_redis_as_a_cache_a_process_is_ready_and_says_that_it_is_degraded(tmp_path: Path) -> None:
    redis = valkey.Valkey(tmp_path / "redis")
    with serving(tmp_path, "serve", REDIS_ADDR=redis.address) as server:
        answer = await readiness(server, lambda checks: checks["redis"]["status"] == "degraded")
        assert (answer.status_code, answer.json()["status"]) == (200, "ok")
        redis.start()
        try:
            answer = await readiness(server, lambda checks: checks["redis"]["status"] == "ok")
            assert answer.status_code == 200
            redis.kill()
            await readiness(server, lambda checks: checks["redis"]["status"] == "degraded")
        finally:
            redis.stop()


@pytest.mark.integration
async def test_a_process_whose_bus_goes_away_is_not_ready_until_it_is_back(tmp_path: Path) -> None:
    with valkey.running(tmp_path / "redis") as redis:
        settings = {"UNWIND_BUS": "redis", "REDIS_ADDR": redis.address}
        with serving(tmp_path, "serve", **settings) as server:
            assert server.http.get("/readyz").status_code == 200
            redis.kill()
            answer = await readiness(server, lambda checks: checks["bus"]["status"] == "unavailable")
            assert answer.status_code == 503
            redis.start()
            answer = await readiness(server, lambda checks: checks["bus"]["status"] == "ok")
            assert answer.status_code == 200


async def test_a_process_whose_disk_is_full_is_not_ready_until_there_is_room(start: Start) -> None:
    server = start()
    assert server.http.get("/readyz").json()["checks"]["store"]["status"] == "ok"
    # No file may grow beyond this: to a program that is what a full disk looks like.
    before = resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))
    answer = await readiness(server, lambda checks: checks["store"]["status"] == "unavailable")
    assert answer.status_code == 503
    assert server.http.get("/api/v1/sagas").status_code == 200, "it still reads"
    resource.prlimit(server.process.pid, resource.RLIMIT_FSIZE, before)
    answer = await readiness(server, lambda checks: checks["store"]["status"] == "ok")
    assert answer.status_code == 200
