"""docs/cli.md and the commands agree: which there are, that each prints JSON, how each exits."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from tests.cli.test_doctor import without_ours
from typer.testing import CliRunner

from order_saga.load.command import INTERRUPTED as LOAD_INTERRUPTED
from order_saga.main import app as order_saga
from unwind.cli.api import REFUSED, SILENT, WRONG
from unwind.cli.main import app as unwind
from unwind.cli.watch import COMPENSATED, INTERRUPTED, UNENDED

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
APPS = {"unwind": unwind, "order-saga": order_saga}
CLOSED = "http://127.0.0.1:9"
WITHOUT_JSON = {
    "order-saga serve": "runs until told to stop; its log is JSON where nobody looks on",
    "order-saga api": "likewise",
    "order-saga worker": "likewise",
    "order-saga participant": "likewise",
}
CODES = {0, REFUSED, WRONG, SILENT, COMPENSATED, UNENDED, INTERRUPTED}


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, under its whole name."""

    def of(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        below = getattr(command, "commands", {})
        for part, each in below.items():
            yield from of(each, f"{name} {part}")
        if not below:
            yield name, command

    for name, app in APPS.items():
        yield from of(typer.main.get_command(app), name)


COMMANDS = dict(commands())


def rows(heading: str) -> list[list[str]]:
    """The rows of the table that begins with this cell."""
    [table] = [part for part in DOCS.split("\n\n") if part.startswith(f"| {heading} |")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]


EXITS = {name.strip("`"): {int(code) for code in re.findall(r"\d+", codes)} for name, _, codes in rows("command")}


def documented(name: str) -> str:
    """Where it is documented: what both programs have stands there once."""
    return re.sub(r"^order-saga (?=migrate|keys)", "unwind ", name)


def needed(command: Any) -> list[str]:
    """The least that it can be called with, whether it makes sense or not."""
    words: list[str] = []
    for parameter in command.params:
        if parameter.required:
            value = {"service": "payment", "scope": "read"}.get(parameter.name, "../x")
            words += [value] if parameter.param_type_name == "argument" else [parameter.opts[0], value]
    return words


def options(name: str) -> set[str]:
    return {option for parameter in COMMANDS[name].params for option in parameter.opts}


def exited(name: str, *more: str, **settings: str) -> int:
    program, *words = name.split()
    arguments = [*words, *needed(COMMANDS[name]), *more]
    return CliRunner().invoke(APPS[program], arguments, env=without_ours(settings)).exit_code


def test_every_command_is_documented_and_no_other() -> None:
    assert EXITS.keys() == {documented(name) for name in COMMANDS}


def test_every_exit_code_is_documented_and_no_other() -> None:
    assert {int(code) for code, _ in rows("code")} == CODES
    assert INTERRUPTED == LOAD_INTERRUPTED
    assert set().union(*EXITS.values()) == CODES
    assert all({0, WRONG} <= codes for codes in EXITS.values())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_prints_json(name: str) -> None:
    assert ("--json" in options(name)) == (name not in WITHOUT_JSON)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_codes_that_its_help_tells_are_documented(name: str) -> None:
    told = " ".join((COMMANDS[name].help or "").split())
    sentences = re.findall(r"[Ee]xits with (.*?)(?:\.(?: |$)|$)", told)
    codes = {int(code) for sentence in sentences for code in re.findall(r"(?:^|, |or |; |with )(\d+)\b", sentence)}
    assert codes <= EXITS[documented(name)]


@pytest.mark.parametrize("name", [name for name in COMMANDS if "--url" in options(name)])
def test_nobody_there_is_an_exit_code_of_its_own(name: str) -> None:
    chooses = name.startswith("unwind dead-letters") and not name.endswith("list")
    code = exited(name, "--url", CLOSED, *(["x"] if chooses else []))
    assert code == SILENT
    assert code in EXITS[documented(name)]


@pytest.mark.parametrize("name", [name for name in COMMANDS if "--url" not in options(name)])
def test_a_setting_that_is_none_is_an_exit_code_too(name: str) -> None:
    code = exited(name, UNWIND_NONSENSE="1")
    assert code in EXITS[documented(name)]
    drawn = name == "order-saga diagram"  # needs no settings
    assert code == (0 if drawn else REFUSED if name.endswith("doctor") else WRONG)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_is_none_makes_no_sense(name: str) -> None:
    assert exited(name, "--nonsense") == WRONG


def test_migrations_are_told_as_json(tmp_path: Path) -> None:
    def migrated(*arguments: str) -> tuple[int, Any]:
        env = without_ours({"UNWIND_DATA_DIR": str(tmp_path)})
        result = CliRunner().invoke(unwind, ["migrate", *arguments, "--json"], env=env, input="y\n")
        return result.exit_code, json.loads(result.stdout)

    code, before = migrated("status")
    assert (code, before["schema"], before["migrations"][0]["applied"]) == (1, 0, False)
    assert migrated("up") == (0, {"database": before["database"], "from": 0, "to": before["newest"]})
    assert migrated("up")[1]["from"] == before["newest"]
    code, after = migrated("status")
    assert (code, all(each["applied"] for each in after["migrations"])) == (0, True)
    assert migrated("down", "--to", "1")[1] == {"database": before["database"], "from": before["newest"], "to": 1}
