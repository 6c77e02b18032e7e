"""`unwind sagas watch`: each change of a saga as it comes, from a server that may go and come back."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Program, Server, clean, serving
from tests.servers.process import free_port

pytestmark = pytest.mark.integration  # the programs themselves, as processes

COMMAND = [sys.executable, "-c", "from unwind.cli.main import app; app()", "sagas", "watch"]
NOBODY = "00000000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@contextmanager
def watching(url: str, *arguments: str) -> Iterator[Program]:
    with Program([*COMMAND, *arguments], clean(UNWIND_URL=url)) as process:
        try:
            yield process
        finally:
            process.kill()


def watched(url: str, *arguments: str) -> tuple[int, list[Any], str]:
    """Its exit code, the lines that it printed, and what it said besides."""
    with watching(url, *arguments) as process:
        output, errors = process.communicate()
    return process.returncode, [json.loads(line) for line in output.splitlines()], errors


def place(server: Server, customer: str = "customer-1", product: str = "product-1") -> str:
    order = {"customer_id": customer, "items": [{"product_id": product, "quantity": 1, "price": 20}]}
    answer = server.http.post("/api/v1/orders", json=order)
    return str(answer.json()["saga_id"])


def test_a_saga_is_followed_to_its_end_one_line_for_each_change(server: Server) -> None:
    code, lines, errors = watched(server.url, place(server, product="product-slow"))
    assert (code, errors) == (0, "")
    versions = [line["version"] for line in lines]
    assert versions == sorted(set(versions))
    assert [line["status"] for line in lines][-1] == "completed"
    assert "running" in {line["status"] for line in lines}


def test_the_exit_code_says_that_it_was_undone(server: Server) -> None:
    code, lines, _ = watched(server.url, place(server, "customer-broke"), "--json")
    assert (code, lines[-1]["status"]) == (4, "compensated")


def test_a_saga_that_needs_a_person_is_watched_until_the_time_is_up(server: Server) -> None:
    saga_id = place(server, "customer-closed")
    with watching(server.url) as process:
        next_of(process, saga_id, "blocked")
    code, [line], errors = watched(server.url, saga_id, "--timeout", "0.1")
    assert (code, line["status"]) == (5, "blocked")
    assert errors == f"unwind: {saga_id} has not ended in time: blocked\n"


def test_what_needs_a_person_and_what_is_live_is_listed_with_what_becomes_of_it(server: Server) -> None:
    with watching(server.url, "--definition", "order_saga") as process:
        blocked = place(server, "customer-closed")
        assert next_of(process, blocked, "blocked")["was"] in {None, "running", "compensating"}
        slow = place(server, product="product-slow")
        assert next_of(process, slow, "running")["was"] in {None, "pending"}
        assert next_of(process, slow, None)["was"] == "running"
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate()
    assert (process.returncode, output, errors) == (130, "", "")


def next_of(process: Program, saga_id: str, status: str | None) -> Any:
    assert process.stdout is not None
    for line in process.stdout:
        row = json.loads(line)
        if (row["saga_id"], row["status"]) == (saga_id, status):
            return row
    pytest.fail("it ended")


def test_conditions_choose_what_is_listed(server: Server) -> None:
    saga_id = place(server)
    code, lines, _ = watched(
        server.url, "--status", "completed,running", "--attribute", "customer_id=customer-1", "--timeout", "3"
    )
    assert code == 0
    assert saga_id in {line["saga_id"] for line in lines}
    assert {line["status"] for line in lines} <= {"completed", "running", None}


def test_a_server_that_goes_and_comes_back_is_waited_for(tmp_path: Path) -> None:
    port = str(free_port())
    with serving(tmp_path, SERVER_PORT=port) as first:
        saga_id = place(first, product="product-slow")
        with watching(first.url, saga_id) as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["status"] in {"pending", "running"}
            first.stop()
            process.told("asking again until there is an answer")
            with serving(tmp_path, SERVER_PORT=port):
                process.told("answers again")
                output, _ = process.communicate()
    assert process.returncode == 0
    assert json.loads(output.splitlines()[-1])["status"] == "completed"


@pytest.mark.parametrize("arguments", [(NOBODY,), (), (NOBODY, "--timeout", "30")])
def test_a_server_that_was_never_there_is_not_waited_for(arguments: tuple[str, ...]) -> None:
    code, lines, errors = watched(f"http://127.0.0.1:{free_port()}", *arguments)
    assert (code, lines) == (3, [])
    assert errors.startswith("unwind: nobody answers at http://127.0.0.1:")


def test_what_asking_again_would_not_change_ends_it(server: Server) -> None:
    code, lines, errors = watched(server.url, NOBODY)
    assert (code, lines) == (1, [])
    assert errors.startswith("unwind: There is no such thing")
    assert watched(server.url, NOBODY, "--status", "blocked")[0] == 2
    assert watched("ftp://localhost", NOBODY)[0] == 2


def test_a_person_sees_its_history(server: Server) -> None:
    saga_id = place(server, product="product-slow")
    mine, its = pty.openpty()
    terminal = {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"}
    with subprocess.Popen([*COMMAND, saga_id], env=clean(UNWIND_URL=server.url, **terminal), stdout=its) as process:
        os.close(its)
        shown = read_all(mine)
    assert process.returncode == 0
    assert f"{saga_id}  order_saga  running" in shown
    assert f"{saga_id}  order_saga  completed" in shown
    assert "create_shipment" in shown
    assert '{"saga_id"' not in shown


def read_all(terminal: int) -> str:
    """Until nobody has it open any more, which Linux tells as an error."""
    found = b""
    while True:
        try:
            part = os.read(terminal, 65_536)
        except OSError:
            part = b""
        if not part:
            os.close(terminal)
            return found.decode()
        found += part
