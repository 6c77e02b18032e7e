"""`unwind sagas bulk`, `count` and `list --attribute`: against a server in a process of its own."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Server, serving
from tests.eventually import eventually
from typer.testing import CliRunner, Result

from unwind.cli import bulk
from unwind.cli.main import app

pytestmark = pytest.mark.integration  # the programs themselves, as processes

ITEMS = [{"product_id": "product-slow", "quantity": 1, "price": 5}]
_customers = iter(range(10_000))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LOOK", 0.01)


def unwind(server: Server, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, ["sagas", *arguments], env={"UNWIND_URL": server.url}, input=typed)


def held(server: Server, count: int) -> tuple[str, list[str]]:
    """A customer of their own, with orders that stay as they are: their sagas are paused."""
    customer = f"customer-{next(_customers)}"
    saga_ids = []
    for _ in range(count):
        answer = server.http.post("/api/v1/orders", json={"customer_id": customer, "items": ITEMS})
        saga_ids.append(answer.json()["saga_id"])
        assert server.http.post(f"/api/v1/sagas/{saga_ids[-1]}/pause").status_code == 202
    return f"customer_id={customer}", saga_ids


def acts(server: Server, saga_id: str) -> list[tuple[str, str]]:
    history = server.http.get(f"/api/v1/sagas/{saga_id}/history").json()
    return [(act["act"], act["reason"]) for act in history["acts"]]


# -------------------------------------------------------------------------------------------------------------- looking


def test_sagas_are_listed_and_counted_by_attributes(server: Server) -> None:
    customer, saga_ids = held(server, 2)
    listed = unwind(server, "list", "--attribute", customer, "--attribute", "total=500").stdout
    assert all(saga_id in listed for saga_id in saga_ids)
    assert len(listed.splitlines()) == 3
    assert len(unwind(server, "list", "--attribute", customer, "--attribute", "total=501").stdout.splitlines()) == 1
    counted = unwind(server, "count", "--attribute", customer)
    assert (counted.exit_code, counted.stdout.splitlines()) == (
        0,
        ["2 sagas", "  paused: 2", "  total of order_saga, together: 1000"],
    )
    assert json.loads(unwind(server, "count", "--attribute", customer, "--json").stdout)["count"] == 2
    assert unwind(server, "count", "--attribute", customer, "--status", "blocked").stdout == "0 sagas\n"


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("list", "--attribute", "colour=red"), 1, "no definition has such an attribute; there are customer_id"),
        (("list", "--attribute", "customer_id"), 2, "give a name and a value"),
        (("list", "--attribute", "=x"), 2, "give a name and a value"),
        (("count", "--attribute", "total=1", "--attribute", "total=2"), 2, "give it once"),
        (("list", "--definition", ""), 2, "--definition is empty"),
        (("count", "--status", ""), 2, "--status is empty"),
        (("bulk", "cancel"), 1, 'it names no sagas: give a condition, or "all": true'),
        (("bulk", "cancel", "--yes", "--status", ""), 2, "--status is empty"),
        (("bulk", "cancel", "--yes", "--status", "blocked", "--from", " "), 2, "--from is empty"),
        (("bulk", "cancel", "--yes", "--status", "happy"), 1, "filter.status[0]"),
        (("bulk", "cancel", "--yes", "--all", "--status", "blocked"), 1, "give one of the two"),
        (("bulk", "cancel", "--yes", "--all", "--expect", "9999"), 1, "it would apply to"),
        (("bulk", "show", "unknown"), 1, "each is known only to the process that took it"),
        (("bulk", "stop", ".."), 2, "'..' names no run"),
        (("bulk", "cancel", "--all", "--url", "http://127.0.0.1:9"), 3, "nobody answers"),
    ],
)
def test_what_is_wrong_is_told_with_the_usual_exit_codes(
    server: Server, arguments: tuple[str, ...], code: int, why: str
) -> None:
    result = unwind(server, *arguments)
    assert (result.exit_code, result.stdout) == (code, "")
    assert why in result.stderr


# --------------------------------------------------------------------------------------------------------------- acting


def test_a_dry_run_shows_and_does_nothing(server: Server) -> None:
    customer, saga_ids = held(server, 2)
    result = unwind(server, "bulk", "cancel", "--attribute", customer, "--dry-run")
    assert (result.exit_code, result.stdout.splitlines()) == (
        0,
        [
            "The filter fits:",
            "2 sagas",
            "  paused: 2",
            "  total of order_saga, together: 1000",
            "cancel would be tried on 2 of them",
            "  total of order_saga, together: 1000",
        ],
    )
    shown = unwind(server, "bulk", "cancel", "--attribute", customer, "--dry-run", "--json")
    assert json.loads(shown.stdout)["applies_to"] == 2
    assert [acts(server, saga_id)[-1][0] for saga_id in saga_ids] == ["paused", "paused"]


@pytest.mark.parametrize("typed", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_done(server: Server, typed: str) -> None:
    customer, [saga_id] = held(server, 1)
    result = unwind(server, "bulk", "cancel", "--attribute", customer, typed=typed)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "cancel would be tried on 1 of them" in result.stderr
    assert "Cancel 1 sagas?" in result.stderr
    assert "nothing was done; --yes acts without asking" in result.stderr
    assert acts(server, saga_id)[-1][0] == "paused"


@pytest.mark.parametrize(("arguments", "typed"), [((), "y\n"), (("--yes",), None), (("--yes", "--expect", "2"), None)])
def test_with_a_yes_it_is_done_and_followed_to_its_end(
    server: Server, arguments: tuple[str, ...], typed: str | None
) -> None:
    customer, saga_ids = held(server, 2)
    command = ("bulk", "resume", "--attribute", customer, "--reason", "the mill is rebuilt", "--per-second", "100")
    result = unwind(server, *command, *arguments, typed=typed)
    assert (result.exit_code, result.stdout) == (0, "resume of 2 sagas is done: 2 applied, 0 refused, 0 left\n")
    assert re.search(r"Run \S+ has begun; unwind sagas bulk stop \S+ ends it$", result.stderr, re.MULTILINE)
    for saga_id in saga_ids:
        assert ("resumed", "the mill is rebuilt") in acts(server, saga_id)


def test_where_some_are_refused_it_ends_with_one_and_names_them(server: Server) -> None:
    customer, [saga_id] = held(server, 1)
    assert server.http.post(f"/api/v1/sagas/{saga_id}/resume").status_code == 202
    result = unwind(server, "bulk", "retry", "--attribute", customer, "--yes")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert lines[0] == "retry of 1 sagas is done: 0 applied, 1 refused, 0 left"
    assert saga_id in lines[2]
    assert "nothing in it is blocked" in lines[2]


def test_where_there_is_nothing_to_do_nobody_is_asked(server: Server) -> None:
    customer, _ = held(server, 1)
    result = unwind(server, "bulk", "retry", "--attribute", customer)
    assert (result.exit_code, result.stdout) == (0, "There is nothing to do.\n")


async def test_a_run_that_is_not_waited_for_is_shown_and_stopped(server: Server) -> None:
    customer, _ = held(server, 5)
    begun = unwind(
        server, "bulk", "cancel", "--attribute", customer, "--yes", "--no-wait", "--per-second", "1", "--json"
    )
    run_id = json.loads(begun.stdout)["id"]
    assert begun.exit_code == 0
    assert "cancel of 5 sagas is " in unwind(server, "bulk", "show", run_id).stdout
    assert unwind(server, "bulk", "stop", run_id, "--reason", "the wrong ones").exit_code == 0

    async def interrupted() -> Any:
        shown = unwind(server, "bulk", "show", run_id).stdout
        return shown if "is interrupted" in shown else None

    assert "stopped by an operator: the wrong ones\n" in await eventually(interrupted, within=10)


def test_who_stops_waiting_is_told_that_the_run_goes_on(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    customer, _ = held(server, 1)
    request = httpx.Client.request

    def interrupted(client: httpx.Client, method: str, *args: Any, **kwargs: Any) -> httpx.Response:
        if method == "GET":
            raise KeyboardInterrupt
        return request(client, method, *args, **kwargs)

    monkeypatch.setattr(httpx.Client, "request", interrupted)
    result = unwind(server, "bulk", "cancel", "--attribute", customer, "--yes")
    assert result.exit_code == 1
    assert re.search(r"the run goes on: unwind sagas bulk show \S+, or stop \S+", result.stderr)


def test_it_is_there_in_a_real_terminal_s_program(server: Server) -> None:
    customer, _ = held(server, 1)
    program = [sys.executable, "-c", "from unwind.cli.main import app; app()", "sagas", "bulk", "cancel"]
    result = subprocess.run(
        [*program, "--attribute", customer, "--url", server.url],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout) == (1, "")
    assert "nothing was done" in result.stderr
    assert "Traceback" not in result.stderr


# ------------------------------------------------------------------------------------------------------------- stopping


def test_a_graceful_stop_ends_a_run_between_two_acts_and_the_log_says_how_far_it_came(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        customer, _ = held(server, 4)
        command = ("bulk", "cancel", "--attribute", customer, "--yes", "--no-wait", "--per-second", "1")
        assert unwind(server, *command).exit_code == 0
        assert server.process.told("bulk_begun")
        code, errors = server.stop()
    assert code == 0
    [line] = [line for line in errors.splitlines() if "bulk_ended" in line]
    figures = {name: count for name, count in json.loads(line).items() if name in {"applied", "refused", "left"}}
    assert sum(figures.values()) == 4
    assert figures["left"] >= 2
    assert "the process was stopped" in line
