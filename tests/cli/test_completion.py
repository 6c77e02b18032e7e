"""The Tab key, as bash presses it: what is offered, and that a server that is away offers nothing, quietly."""

import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.cli.conftest import Server, clean, serving

pytestmark = pytest.mark.integration  # the programs themselves, as processes

CLOSED = "http://127.0.0.1:9"
SCRIPTS = Path(sysconfig.get_path("scripts"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


def offered(line: str, **settings: str) -> list[str]:
    """What bash would be told for this line, the last word of which is being typed."""
    program, *words = line.split(" ")
    variable = f"_{program.replace('-', '_').upper()}_COMPLETE"
    asked = {variable: "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    ran = subprocess.run(
        [SCRIPTS / program], env=clean(**asked, **settings), capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout.split()


def place(server: Server) -> str:
    order = {"customer_id": "customer-1", "items": [{"product_id": "product-1", "quantity": 1, "price": 20}]}
    return str(server.http.post("/api/v1/orders", json=order).json()["saga_id"])


def test_commands_and_options_are_offered() -> None:
    assert {"sagas", "doctor", "diagram", "migrate"} <= set(offered("unwind "))
    assert offered("unwind sagas wa") == ["watch"]
    assert "--rate" in offered("order-saga load --ra")
    assert offered("order-saga participant p") == ["payment"]
    assert set(offered("unwind diagram --format ")) == {"mermaid", "svg"}


def test_statuses_are_offered_also_after_a_comma() -> None:
    assert offered("unwind sagas list --status co") == ["completed", "compensating", "compensated"]
    assert offered("unwind sagas watch --status blocked,pa") == ["blocked,paused"]


def test_sagas_and_definitions_are_what_the_server_knows(server: Server) -> None:
    saga_id = place(server)
    for command in ("show", "watch", "cancel"):
        assert offered(f"unwind sagas {command} {saga_id[:6]}", UNWIND_URL=server.url) == [saga_id]
    assert offered(f"unwind sagas explain --url {server.url} {saga_id[:6]}", UNWIND_URL=CLOSED) == [saga_id]
    assert offered("unwind sagas list --definition o", UNWIND_URL=server.url) == ["order_saga"]
    assert offered("unwind sagas list --definition x", UNWIND_URL=server.url) == []


@pytest.mark.parametrize("settings", [{"UNWIND_URL": CLOSED}, {"UNWIND_URL": "no address"}, {"UNWIND_API_KEY": "ä"}])
def test_a_server_that_cannot_be_asked_offers_nothing(settings: dict[str, str]) -> None:
    assert offered("unwind sagas show ", **settings) == []


@pytest.mark.parametrize("program", ["unwind", "order-saga"])
def test_bash_is_told_how_to_ask(program: str) -> None:
    # Else typer looks for the shell among the processes above, and who knows what runs the tests.
    named = clean(_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    shown = subprocess.run(
        [SCRIPTS / program, "--show-completion", "bash"], env=named, capture_output=True, text=True, check=True
    ).stdout
    assert f"_{program.replace('-', '_').upper()}_COMPLETE=complete_bash" in shown
    assert shown.rstrip().endswith(f"_completion {program}")
