"""`order-saga load`: orders by the clock, each followed to its end, and an honest report of what was not so."""

import asyncio
import json
import os
import pty
import signal
import subprocess
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import COMMAND, Server, clean, run, serving
from tests.cli.test_watch import read_all
from tests.eventually import eventually
from tests.servers.process import free_port

from order_saga.load.orders import FAILING, order, road_of
from order_saga.load.tally import Latencies, Tally, latencies

pytestmark = pytest.mark.integration  # the programs themselves, as processes

CLOSED = "http://127.0.0.1:9"


def quiet(directory: Path, **settings: str) -> AbstractContextManager[Server]:
    """A server that logs nothing of single sagas: nobody reads it, and a full pipe would hold it up."""
    return serving(directory, UNWIND_LOG_LEVEL="warning", **settings)


def loaded(url: str, *arguments: str) -> tuple[int, Any, str]:
    """Its exit code, its report, and what it said besides."""
    ran = run("load", "--json", *arguments, UNWIND_URL=url)
    return ran.returncode, json.loads(ran.stdout or "null"), ran.stderr


def accepted(server: Server) -> int:
    return int(server.http.get("/api/v1/sagas/count").json()["count"])


def until(what: Callable[[], bool]) -> None:
    async def ask() -> bool | None:
        return what() or None

    asyncio.run(eventually(ask, within=30))


# ----------------------------------------------------------------------------------------------------- what is placed


def test_the_share_that_fails_is_kept_at_every_point_and_the_roads_take_turns() -> None:
    roads = [road_of(number, Fraction(1, 10)) for number in range(120)]
    taken = [road for road in roads if road is not None]
    assert len(taken) == 12
    assert all(sum(road is not None for road in roads[at : at + 10]) == 1 for at in range(0, 120, 10))
    assert Counter(road.name for road in taken) == {road.name: 2 for road in FAILING}
    assert [road_of(number, Fraction(0)) for number in range(9)] == [None] * 9
    assert None not in [road_of(number, Fraction(1)) for number in range(9)]
    assert {"nowhere", "broke", "stock", "undeliverable", "flaky", "card"} == {road.name for road in FAILING}


def test_orders_are_spread_over_customers_and_products() -> None:
    orders = [json.loads(order(number, Fraction(0))) for number in range(200)]
    assert len({each["customer_id"] for each in orders}) == 200
    assert len({each["items"][0]["product_id"] for each in orders}) == 100


def test_latencies_are_some_that_were_measured() -> None:
    assert latencies([]) == Latencies()
    assert latencies([0.004]) == Latencies(4.0, 4.0, 4.0, 4.0)
    assert latencies([each / 1_000 for each in range(100, 0, -1)]) == Latencies(50.0, 95.0, 99.0, 100.0)


def test_a_rate_is_kept_when_nothing_was_late_or_left_out() -> None:
    tally = Tally(10.0, 2)
    tally.send(0.9, 0.0)
    assert not tally.summary().kept_rate
    assert tally.summary(interrupted=True).kept_rate
    tally.send(0.9, 0.1)
    assert tally.summary().kept_rate
    tally.send(1.1, 0.2)
    assert not tally.summary().kept_rate


# -------------------------------------------------------------------------------------------------- against a server


def test_every_order_is_followed_to_its_end(tmp_path: Path) -> None:
    with quiet(tmp_path) as server:
        code, report, errors = loaded(server.url, "--rate", "100", "--orders", "60", "--failing", "20%")
        assert (code, errors, accepted(server)) == (0, "", 60)
        assert (report["accepted"], report["not_accepted"], report["not_sent"]) == (60, 0, 0)
        # Of twelve that fail, four kinds are undone, and two work after some attempts.
        assert report["ended"] == {"compensated": 8, "completed": 52}
        assert report["not_ended"] == {}
        assert report["to_end_ms"]["max"] > report["to_end_ms"]["p50"] > 0
        assert report["to_accept_ms"]["p99"] >= report["to_accept_ms"]["p50"] > 0
        server.stop()
    audit = run("audit", UNWIND_DATA_DIR=str(tmp_path / "data"))
    assert audit.stdout == "60 sagas: 52 completed, 8 compensated, 0 unfinished; 0 violations\n"


def test_what_has_not_ended_in_time_is_told_and_the_exit_code_says_so(tmp_path: Path) -> None:
    with quiet(tmp_path) as server:
        code, report, errors = loaded(server.url, "--rate", "50", "--orders", "6", "--failing", "100", "--wait", "1.5")
    assert code == 1
    assert sum(report["not_ended"].values()) >= 1
    assert "not ended within --wait" in errors


def test_a_server_that_wants_to_be_asked_later_is_asked_later(tmp_path: Path) -> None:
    with quiet(tmp_path, UNWIND_RATE_LIMIT="5", UNWIND_RATE_BURST="5") as server:
        code, report, _ = loaded(server.url, "--rate", "100", "--orders", "12")
    assert (code, report["accepted"], report["ended"]) == (0, 12, {"completed": 12})
    assert report["refused"].keys() == {"429"}
    assert report["to_accept_ms"]["max"] >= 1_000


def test_a_server_that_goes_and_comes_back_has_each_order_once(tmp_path: Path) -> None:
    port = str(free_port())
    with quiet(tmp_path, SERVER_PORT=port) as first:
        command = [*COMMAND, "load", "--rate", "30", "--orders", "90", "--json"]
        with subprocess.Popen(command, env=clean(UNWIND_URL=first.url), stdout=subprocess.PIPE, text=True) as load:
            until(lambda: accepted(first) > 5)
            first.stop(signal.SIGKILL)
            with quiet(tmp_path, SERVER_PORT=port) as second:
                output, _ = load.communicate()
                assert accepted(second) == 90
    report = json.loads(output)
    assert (load.returncode, report["ended"]) == (0, {"completed": 90})
    assert report["no_answer"] > 0


def test_a_rate_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    with quiet(tmp_path) as server:
        code, report, errors = loaded(server.url, "--rate", "5000", "--seconds", "1", "--in-flight", "1")
    assert (code, report["kept_rate"]) == (0, False)
    assert report["not_sent"] > 0
    assert "the rate was not kept" in errors


def test_ctrl_c_ends_it_with_a_report(tmp_path: Path) -> None:
    with quiet(tmp_path) as server:
        command = [*COMMAND, "load", "--rate", "20", "--seconds", "600", "--json"]
        with subprocess.Popen(
            command, env=clean(UNWIND_URL=server.url), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as load:
            until(lambda: accepted(server) > 5)
            load.send_signal(signal.SIGINT)
            output, errors = load.communicate()
    report = json.loads(output)
    assert load.returncode == 130
    assert report["interrupted"]
    assert 5 <= report["accepted"] <= 12_000 - report["not_sent"]
    assert errors == f"order-saga: stopped after {12_000 - report['not_sent']} of 12000 orders\n"


def test_a_person_sees_it_go_on(tmp_path: Path) -> None:
    with quiet(tmp_path) as server:
        mine, its = pty.openpty()
        terminal = {"TERM": "xterm", "COLUMNS": "120", "LINES": "40", "UNWIND_URL": server.url}
        command = [*COMMAND, "load", "--rate", "20", "--orders", "20"]
        with subprocess.Popen(command, env=clean(**terminal), stdout=subprocess.PIPE, stderr=its, text=True) as load:
            os.close(its)
            shown = read_all(mine)
            report, _ = load.communicate()
    assert load.returncode == 0
    assert "20/20" in shown
    assert "p95 ms" in shown
    assert [line.split()[:2] for line in report.splitlines()[1:3]] == [["accepted", "20"], ["ended", "20"]]


@pytest.mark.parametrize("share", ["many", "101%", "-1", "1/0"])
def test_a_share_that_makes_no_sense_is_refused(share: str) -> None:
    assert loaded(CLOSED, "--failing", share)[0] == 2


def test_nobody_there_is_told_at_once() -> None:
    code, report, errors = loaded(CLOSED)
    assert (code, report) == (3, None)
    assert errors.startswith(f"order-saga: nobody answers at {CLOSED}")
