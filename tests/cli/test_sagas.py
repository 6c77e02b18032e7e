"""`unwind sagas`: what the API tells and offers, from a terminal; against a server in a process of its own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import Server, serving
from tests.eventually import eventually
from typer.testing import CliRunner, Result

from unwind.cli.api import Answer
from unwind.cli.main import app
from unwind.cli.sagas import sagas
from unwind.http.acts import act_routes

ITEMS = [{"product_id": "product-1", "quantity": 1, "price": 20}]
NOBODY = "00000000-0000-7000-8000-000000000000"
ACTS = {next(iter(route.paths)).split("/")[3] for route in act_routes}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


def unwind(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["sagas", *arguments], env={"UNWIND_URL": server.url})


def said(server: Server, *arguments: str) -> str:
    result = unwind(server, *arguments)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def refused(server: Server, *arguments: str) -> tuple[int, str]:
    result = unwind(server, *arguments)
    assert result.stdout == ""
    assert all(line.startswith("unwind: ") for line in result.stderr.splitlines())
    return result.exit_code, result.stderr


def place(server: Server, customer: str) -> str:
    answer = server.http.post("/api/v1/orders", json={"customer_id": customer, "items": ITEMS})
    return str(answer.json()["saga_id"])


async def reached(server: Server, saga_id: str, status: str) -> Any:
    async def ask() -> Any:
        told = server.http.get(f"/api/v1/sagas/{saga_id}").json()
        return told if told["status"] == status else None

    return await eventually(ask, within=20)


@pytest.fixture
async def blocked(server: Server) -> Any:
    return await reached(server, place(server, "customer-closed"), "blocked")


@pytest.fixture
async def completed(server: Server) -> str:
    return str((await reached(server, place(server, "customer-123"), "completed"))["saga_id"])


def test_every_act_of_the_api_has_its_command() -> None:
    names = ((command.name, command.callback) for command in sagas.registered_commands)
    commands = {name or getattr(callback, "__name__", "") for name, callback in names}
    assert {"signal" if act == "signals" else act for act in ACTS} < commands
    assert commands >= {"list", "show", "history", "plan", "explain"}


async def test_sagas_are_listed_and_filtered(server: Server, blocked: Any, completed: str) -> None:
    everything = said(server, "list", "--all")
    assert blocked["saga_id"] in everything
    assert completed in everything
    only = said(server, "list", "--status", "blocked", "--definition", "order_saga", "--from", "2020-01-01T00:00:00Z")
    assert blocked["saga_id"] in only
    assert completed not in only
    [heads] = said(server, "list", "--to", "2020-01-01T00:00:00Z").splitlines()
    assert heads.split() == ["saga_id", "definition", "definition_version", "status", "started_at", "ended_at"]


async def test_a_page_says_how_to_go_on(server: Server, blocked: Any, completed: str) -> None:
    page = unwind(server, "list", "--limit", "1")
    first, cursor = page.stdout, re.findall(r"--cursor (\S+)", page.stderr)[0]
    assert len(first.splitlines()) == 2
    assert said(server, "list", "--limit", "1", "--cursor", cursor).splitlines()[1] not in first


async def test_a_saga_is_shown_as_it_is_and_as_it_was(server: Server, completed: str) -> None:
    shown = said(server, "show", completed)
    assert f"saga_id: {completed}\nstatus: completed\n" in shown
    assert '"customer_id": "customer-123"' in shown
    assert "\npaused: no\n" in shown
    assert "\nchildren: none\n" in shown
    assert "status: running" in said(server, "show", completed, "--at", "3")


async def test_the_answer_is_printed_to_the_letter(server: Server, completed: str) -> None:
    for what in ("show", "history", "plan", "explain"):
        path = f"/api/v1/sagas/{completed}" + ("" if what == "show" else f"/{what}")
        theirs, ours = server.http.get(path).json(), json.loads(said(server, what, completed, "--json"))
        assert theirs.keys() == ours.keys()
    assert json.loads(said(server, "list", "--json"))["sagas"]


async def test_history_plan_and_explanation_are_told(server: Server, blocked: Any) -> None:
    saga_id = blocked["saga_id"]
    history = said(server, "history", saga_id).splitlines()
    assert history[0].split()[:4] == ["step_name", "direction", "attempt", "status"]
    assert any(line.split()[1:3] == ["blocked", "process_payment"] for line in history)
    plan = said(server, "plan", saga_id)
    assert "Left to do: nothing" in plan
    assert "Still to be undone, in this order:\n  process_payment: payment.refund, outstanding" in plan
    assert "No cancel: it is being undone already." in plan
    told = said(server, "explain", saga_id)
    assert "the undo of process_payment needs a person" in told
    assert "  resolve: Takes the undo of process_payment as done by hand" in told
    assert "cancel:" not in told


async def test_a_blocked_saga_is_retried_and_resolved(server: Server, blocked: Any, tmp_path: Path) -> None:
    saga_id, order = blocked["saga_id"], blocked["context"]["order_id"]
    command = tmp_path / "command.json"
    command.write_text(json.dumps({"type": "payment.refund", "order_id": order}))
    assert "Retry ordered" in said(server, "retry", saga_id, "--command-file", str(command), "--reason", "open again")
    again = await reached(server, saga_id, "blocked")
    assert again["version"] > blocked["version"]
    assert "Resolved by hand" in said(server, "resolve", saga_id, "--evidence", "a cheque", "--reference", "ticket 7")
    assert (await reached(server, saga_id, "compensated"))["left_undone"] == []
    attempts, acts = said(server, "history", saga_id).split("\n\n")
    [by_hand] = [line for line in attempts.splitlines() if "compensated by hand" in line]
    assert by_hand.split()[:2] == ["process_payment", "undo"]
    assert acts.splitlines()[0].split()[-1] == "reference"
    assert acts.rstrip().endswith("ticket 7")


async def test_an_undo_is_skipped(server: Server, blocked: Any) -> None:
    assert "Skipped" in said(server, "skip", blocked["saga_id"], "--reason", "a cent", "--step", "process_payment")
    assert (await reached(server, blocked["saga_id"], "compensated"))["left_undone"] == ["process_payment"]


async def test_a_saga_is_paused_resumed_and_cancelled(server: Server, blocked: Any) -> None:
    saga_id, version = blocked["saga_id"], str(blocked["version"])
    assert said(server, "pause", saga_id, "--expect", version) == (
        "Saga paused: nothing new begins until it is resumed (paused)\n"
    )
    code, errors = refused(server, "resume", saga_id, "--expect", version)
    assert (code, "has moved on" in errors) == (1, True)
    assert json.loads(said(server, "resume", saga_id, "--json"))["status"] == "resumed"
    assert "being undone already: nothing changed" in said(server, "cancel", saga_id, "--reason", "the customer called")


async def test_a_signal_that_nobody_waits_for_is_refused(server: Server, blocked: Any) -> None:
    code, errors = refused(server, "signal", blocked["saga_id"], "approval", '{"approved":true}', "--key", "k-1")
    assert (code, "waits for no signal 'approval'" in errors) == (1, True)


def test_what_the_server_refuses_ends_with_one_and_says_why(server: Server) -> None:
    assert refused(server, "show", NOBODY)[0] == 1
    code, errors = refused(server, "list", "--status", "happy")
    assert (code, "  status: 'happy' is none of" in errors) == (1, True)
    assert refused(server, "show", "../orders?x#y")[0] == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ("retry", NOBODY, "--command", "{"),
        ("retry", NOBODY, "--command-file", "/does/not/exist"),
        ("resolve", NOBODY, "--evidence", "e", "--reply", "nope"),
        ("signal", NOBODY, "approval", "yes"),
        ("show", NOBODY, "--url", "localhost"),
    ],
)
def test_what_makes_no_sense_ends_with_two(server: Server, arguments: tuple[str, ...]) -> None:
    assert refused(server, *arguments)[0] == 2


def test_a_reason_is_asked_for_where_there_must_be_one(server: Server) -> None:
    assert unwind(server, "skip", NOBODY).exit_code == 2
    assert unwind(server, "resolve", NOBODY).exit_code == 2


def test_nobody_there_ends_with_three_and_says_where_it_looked(server: Server) -> None:
    code, errors = refused(server, "list", "--url", "http://127.0.0.1:9")
    assert (code, "http://127.0.0.1:9" in errors, "UNWIND_URL" in errors) == (3, True, True)


def test_another_server_is_told_apart(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for answer in (httpx.Response(200, text="<html>hello</html>"), httpx.Response(502, json={"error": "bad gateway"})):
        monkeypatch.setattr(httpx.Client, "request", lambda *_, answer=answer, **__: answer)
        code, errors = refused(server, "show", NOBODY)
        assert (code, "is it the right server?" in errors) == (1, True)


async def test_what_people_wrote_does_nothing_to_the_terminal(
    server: Server, blocked: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = "\x1b[31m[red]\u202e evil"
    told = {
        "headline": hostile,
        "sentences": [hostile],
        "may": [{"act": "a", "possible": True, "consequence": hostile}],
    }
    answer = httpx.Response(200, content=json.dumps(told))
    monkeypatch.setattr(httpx.Client, "request", lambda *_, **__: answer)
    shown = said(server, "explain", blocked["saga_id"])
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "[red]" in shown


# ------------------------------------------------------------------------------------------------------------ circuits


def circuits(server: Server, *arguments: str) -> Result:
    return CliRunner().invoke(app, ["circuits", *arguments], env={"UNWIND_URL": server.url})


@pytest.mark.usefixtures("completed")
def test_who_answers_is_told(server: Server) -> None:
    told = circuits(server)
    assert (told.exit_code, told.stderr) == (0, "")
    lines = {line.split()[0]: line.split()[1] for line in told.stdout.splitlines()}
    assert lines == {"service": "state", "inventory": "closed", "payment": "closed", "shipment": "closed"}
    told = circuits(server, "--json")
    assert json.loads(told.stdout)["hears_answers"] is True


def test_where_nobody_answers_the_circuits_are_not_known() -> None:
    told = CliRunner().invoke(app, ["circuits", "--url", "http://127.0.0.1:9"])
    assert (told.exit_code, told.stdout) == (3, "")


def test_a_process_that_hears_no_answers_says_where_to_ask(monkeypatch: pytest.MonkeyPatch) -> None:
    body = {"worker": "api-1", "hears_answers": False, "circuits": []}
    monkeypatch.setattr("unwind.cli.circuits.call", lambda *_: Answer("", body))
    told = CliRunner().invoke(app, ["circuits"])
    assert told.exit_code == 0
    assert told.stderr == "api-1 leaves answers to the workers: ask their /metrics\n"


# ------------------------------------------------------------------------------------------------------------- workers


def test_who_works_is_told(server: Server) -> None:
    told = CliRunner().invoke(app, ["workers"], env={"UNWIND_URL": server.url})
    assert (told.exit_code, told.stderr) == (0, "")
    head, line = told.stdout.splitlines()
    assert head.split()[:3] == ["id", "role", "state"]
    assert line.split()[1:3] == ["all", "there"]
    told = CliRunner().invoke(app, ["workers", "--json"], env={"UNWIND_URL": server.url})
    assert len(json.loads(told.stdout)["workers"]) == 1
