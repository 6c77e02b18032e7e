"""`unwind dead-letters`, against the HTTP application over a bus that some letters are on."""

import json
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner, Result

from unwind.cli.main import app

LETTERS = [
    {
        "id": f"{number}-0/commands.payment",
        "topic": "commands.payment",
        "reason": f"no handler \x1b[31m{number}",
        "set_aside_at": "2026-11-28T01:02:03.000000Z",
        "size": 9,
        "messages": [{"id": f"s{number}/pay/do", "name": "payment.pay", "saga_id": f"s{number}", "payload": {}}],
        "unreadable": None,
    }
    for number in range(250)
]


class Office:
    """Answers as the API does, and remembers what it was asked."""

    def __init__(self) -> None:
        self.letters: list[dict[str, Any]] = list(LETTERS)
        self.asked: list[tuple[str, list[str], str]] = []

    def __call__(self, method: str, url: str, params: dict[str, Any], content: bytes | None) -> httpx.Response:
        if method == "GET":
            limit, after = params["limit"], params.get("after")
            left = [letter for letter in self.letters if after is None or self._place(letter) > self._place(after)]
            page = left[:limit]
            following = page[-1]["id"] if len(left) > limit else None
            told: dict[str, Any] = {"dead_letters": page, "total": len(self.letters), "next": following}
        else:
            body = json.loads(content or b"")
            self.asked.append((url.rpartition("/")[2], body["ids"], body["reason"]))
            there = {letter["id"] for letter in self.letters}
            told = {
                "done": [each for each in body["ids"] if each in there],
                "missing": [each for each in body["ids"] if each not in there],
            }
        return httpx.Response(200, content=json.dumps(told))

    @staticmethod
    def _place(letter: Any) -> int:
        return int((letter if isinstance(letter, str) else letter["id"]).partition("-")[0])


@pytest.fixture
def office(monkeypatch: pytest.MonkeyPatch) -> Office:
    office = Office()

    def request(_: Any, method: str, url: str, *, params: Any, content: Any, headers: Any) -> httpx.Response:
        assert headers is not None
        return office(method, url, params, content)

    monkeypatch.setattr(httpx.Client, "request", request)
    return office


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["dead-letters", *arguments])


def test_letters_are_listed_with_the_way_to_the_next_page(office: Office) -> None:
    told = run("list", "--limit", "2")
    assert told.exit_code == 0
    lines = told.stdout.splitlines()
    assert lines[0].split() == ["id", "set_aside_at", "topic", "message", "effect", "reason"]
    assert lines[1].startswith("0-0/commands.payment")
    assert "s0/pay/do" in lines[1]
    assert "\x1b" not in told.stdout
    assert "250 in all" in told.stderr
    assert "further: --after 1-0/commands.payment" in told.stderr
    assert json.loads(run("list", "--json").stdout)["total"] == len(office.letters)


def test_what_cannot_be_read_and_what_holds_many_is_listed_too(office: Office) -> None:
    message = LETTERS[0]["messages"][0]  # type: ignore[index]
    office.letters = [{**LETTERS[0], "messages": []}, {**LETTERS[1], "messages": [message] * 3}]
    lines = run("list").stdout.splitlines()
    assert "cannot be read" in lines[1]
    assert "payment.pay and 2 more" in lines[2]


def test_chosen_letters_are_put_back(office: Office) -> None:
    told = run("redrive", LETTERS[0]["id"], "7-7/x", "--reason", "починили")  # type: ignore[arg-type]
    assert told.exit_code == 1, "one of those that were named is not there"
    assert office.asked == [("redrive", [LETTERS[0]["id"], "7-7/x"], "починили")]
    assert told.stdout == "0-0/commands.payment: put back\n"
    assert told.stderr == "7-7/x: not there\n"


def test_when_each_letter_that_was_named_is_there_it_ends_with_zero(office: Office) -> None:
    assert run("redrive", LETTERS[0]["id"], LETTERS[1]["id"]).exit_code == 0  # type: ignore[arg-type]


def test_all_letters_are_thrown_away_a_hundred_at_a_time(office: Office) -> None:
    told = run("discard", "--all")
    assert told.exit_code == 0
    assert [len(ids) for _, ids, _ in office.asked] == [100, 100, 50]
    assert len(told.stdout.splitlines()) == 250
    office.letters.clear()
    assert run("discard", "--all").stderr == "there are no dead letters\n"


@pytest.mark.parametrize("arguments", [(), ("1-0/x", "--all")])
def test_which_letters_must_be_said(office: Office, arguments: tuple[str, ...]) -> None:
    told = run("redrive", *arguments)
    assert told.exit_code == 2
    assert "which letters?" in told.stderr
    assert office.asked == []
