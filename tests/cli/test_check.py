"""`unwind check`: the definitions of a deploy against a database in use; its verdict, its exit code, its one line."""

import asyncio
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw
from msgspec.json import encode
from msgspec.structs import replace
from tests.cli.conftest import clean, serving
from tests.cli.test_sagas import place, reached
from tests.core.trips import Trip, booking, trip
from typer.testing import CliRunner, Result

from unwind.cli.main import app
from unwind.core.decide import decide
from unwind.core.messages import Moment, Start
from unwind.core.state import NEW
from unwind.ports import StreamAppend, Unit
from unwind.runtime.unit import Decided, make_unit
from unwind.stores.migrations.postgres import migrate_postgres
from unwind.stores.sqlite import SQLiteStore

OURS = "order_saga.application.order_saga:order_saga"
DEFINITIONS = """
from order_saga.application.order_saga import order_saga
from unwind import Saga

steps = [plan.step for plan in order_saga.plans]
newer = Saga("order_saga", version=2, context=order_saga.context_type, steps=steps)
both = [order_saga, newer]
changed = Saga("order_saga", version=1, context=order_saga.context_type, steps=steps[:1])
number = 7
mixed = (order_saga, number)
empty = []

class Shop:
    saga = order_saga

def every():
    print("this is nobody's JSON")
    return (order_saga, newer)

def broken():
    raise LookupError("no such plan")

def demanding(argument):
    return order_saga

async def later():
    return order_saga
"""
MODULES = {
    "shop_definitions.py": DEFINITIONS,
    "shop_exits.py": "raise SystemExit('bye')",
    "shop_torn.py": "def (:",
    "shop_needy.py": "import no_such_library.inner",
    "shop_wrong.py": "from unwind import Saga\nwrong = Saga('x', context=int, steps=[])",
    "shop_angry.py": "raise RuntimeError('line one\\nline two')",
}
TRIP = trip(booking("flight"), booking("hotel"))


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A directory with an application's modules in it, which are forgotten afterwards."""
    for name, text in MODULES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield
    for name in MODULES:
        sys.modules.pop(name.removesuffix(".py"), None)


def check(database: Path | str, *arguments: str) -> Result:
    url = database if isinstance(database, str) else f"sqlite:///{database}"
    return CliRunner().invoke(app, ["check", *arguments], env=clean(DATABASE_URL=url))


def refused(database: Path | str, *arguments: str) -> str:
    """Its one line, after checking that it is one, and the code."""
    result = check(database, *arguments)
    assert isinstance(result.exception, SystemExit), result.exception
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1), result.output
    assert result.stderr.startswith("unwind: ")
    return result.stderr.removeprefix("unwind: ").rstrip("\n")


def unit_of(saga: Any, saga_id: str, now: int, context: Any = None) -> Any:
    """A saga's beginning, to be committed."""
    start = Start(saga_id, Raw(encode(context or Trip())), definition_hash=saga.hash)
    made = decide(saga, NEW, start, Moment(now, 0.0, "w"))
    return make_unit(Decided(saga, NEW, made.state, made.events, made.records, None, False), now, 1)


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A file with three live trips, which nobody has open."""
    path = tmp_path / "sagas.db"

    async def fill() -> None:
        store = await SQLiteStore.open(path)
        await store.commit([unit_of(TRIP, f"trip-{number}", 1_700_000_000_000_000) for number in range(3)])
        await store.close()

    asyncio.run(fill())
    return path


# ------------------------------------------------------------------------------------------------------------- verdicts


async def test_a_database_in_use_is_checked_while_its_sagas_go_on(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        saga_id = (await reached(server, place(server, "customer-closed"), "blocked"))["saga_id"]
        database = tmp_path / "data" / "unwind.db"
        good = await asyncio.to_thread(check, database, OURS)
        assert good.exit_code == 0, good.output
        assert f"1 blocked at the undo of process_payment ({saga_id}): comes to its end" in good.stdout
        assert good.stdout.endswith("No saga would be stranded.\n")

        newer = await asyncio.to_thread(check, database, "shop_definitions:newer")
        assert newer.exit_code == 1
        assert f": STRANDS 1 live saga ({saga_id}): none of the definitions given\n" in newer.stdout
        assert newer.stdout.endswith("A deploy of these definitions would strand 1 saga.\n")

        both = await asyncio.to_thread(check, database, "shop_definitions:both")
        assert both.exit_code == 0
        assert place(server, "customer-123")


def test_a_changed_definition_is_named_with_what_differs(database: Path, tmp_path: Path) -> None:
    (tmp_path / "shop_changed.py").write_text(
        "from tests.core.trips import booking, trip\nsaga = trip(booking('hotel'), booking('flight'))"
    )
    result = check(database, "shop_changed:saga")
    sys.modules.pop("shop_changed")
    assert result.exit_code == 1
    changed = trip(booking("hotel"), booking("flight"))
    assert result.stdout.splitlines() == [
        f"{changed.revision}: 0 live sagas",
        "  begun with a made-up context: comes to its end; turned round 4 times on the way",
        f"{TRIP.revision}: STRANDS 3 live sagas (trip-2, trip-1, trip-0): none of the definitions given",
        f"  {changed.revision} is given in its place: it was changed without a new version",
        "    step flight was number 1, and is number 2 now",
        "A deploy of these definitions would strand 3 sagas.",
    ]


def test_code_that_would_block_a_saga_is_told_with_its_reason(database: Path, tmp_path: Path) -> None:
    (tmp_path / "shop_buggy.py").write_text(
        "from tests.core.trips import booking, trip\n"
        "from tests.runtime.test_rehearsal import raising\n"
        "saga = trip(booking('flight'), raising('hotel', 'compensate', ValueError('no\\x1b[2Jcode')))"
    )
    result = check(database, "shop_buggy:saga")
    report = json.loads(check(database, "shop_buggy:saga", "--json").stdout)
    sys.modules.pop("shop_buggy")
    assert result.exit_code == 1
    assert "  3 running: flight, outstanding (trip-2, trip-1, trip-0): comes to its end; turned round " in result.stdout
    assert (
        "ERROR: hotel, turned round at hotel, outstanding: hotel.compensate raised ValueError: no\ufffd"
        in result.stdout
    )
    assert (report["good"], report["strands"]) == (False, 3)
    [finding] = report["definitions"][0]["groups"][0]["findings"]
    assert (finding["severity"], finding["way"], finding["step"]) == ("error", "back", "hotel")


def test_a_definition_that_would_not_start_and_logs_that_are_not_understood_are_told(tmp_path: Path) -> None:
    path = tmp_path / "sagas.db"

    async def fill(*units: Unit) -> None:
        store = await SQLiteStore.open(path)
        await store.register([("trip", 1, "another")])
        await store.commit(units)
        await store.close()

    asyncio.run(fill())
    result = check(path, "tests.cli.test_check:TRIP")
    assert result.exit_code == 1
    why = "sagas were begun with another definition of this version"
    assert result.stdout.splitlines()[-2:] == [
        f"trip@1: REFUSES TO START: {why}; give the changed one the next version",
        "A process with these definitions would not start.",
    ]
    spoilt = StreamAppend("trip-1", "saga", 1, 1, b'[{"type":"saga_started/99"}]')
    asyncio.run(fill(replace(unit_of(TRIP, "trip-1", 1_700_000_000_000_000), head=spoilt)))
    result = check(path, "tests.cli.test_check:TRIP")
    assert result.exit_code == 1
    assert "  ERROR: this program does not understand the log of 1 saga, such as\n    trip-1: stored" in result.stdout


def test_the_report_is_json_and_nothing_else(database: Path) -> None:
    result = check(database, "shop_definitions:every", "tests.cli.test_check:TRIP", "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report.keys() == {"good", "strands", "refuses", "warnings", "definitions", "unknown"}
    assert [(each["revision"].partition("#")[0], each["sagas"]) for each in report["definitions"]] == [
        ("order_saga@1", 0),
        ("order_saga@2", 0),
        ("trip@1", 3),
    ]
    assert "this is nobody's JSON" in result.stderr


def test_what_steps_print_is_no_part_of_the_report(tmp_path: Path) -> None:
    (tmp_path / "shop_chatty.py").write_text(
        "from tests.core.trips import Book, booking, trip\n"
        "def execute(self, context):\n    print('chatty')\n    return Book(self.name)\n"
        "saga = trip(booking('flight', execute=execute))"
    )
    result = check("", "shop_chatty:saga", "--definitions-only", "--json")
    sys.modules.pop("shop_chatty")
    assert json.loads(result.stdout)["good"]
    assert "chatty" in result.stderr


def test_warnings_count_where_they_are_asked_to(tmp_path: Path) -> None:
    (tmp_path / "shop_picky.py").write_text(
        "from tests.runtime.test_rehearsal import Picky\nfrom tests.core.trips import trip\nsaga = trip(Picky())"
    )
    lenient = check("sqlite:////nowhere", "shop_picky:saga", "--definitions-only")
    strict = check("sqlite:////nowhere", "shop_picky:saga", "--definitions-only", "--strict")
    sys.modules.pop("shop_picky")
    assert (lenient.exit_code, strict.exit_code) == (0, 1)
    assert "    warning: picky, going forward at picky, outstanding: could not rehearse its reply: " in lenient.stdout
    assert lenient.stdout.endswith("No saga would be stranded; 1 warning.\n")


def test_definitions_alone_need_no_database() -> None:
    result = check("sqlite:////nowhere/at/all.db", OURS, "--definitions-only")
    assert result.exit_code == 0
    assert "begun with a made-up context: comes to its end" in result.stdout


def test_a_check_leaves_the_file_as_it_was(database: Path) -> None:
    before = database.read_bytes()
    assert check(database, "tests.cli.test_check:TRIP").exit_code == 0
    assert database.read_bytes() == before
    assert not database.with_name("data").exists()


@pytest.mark.parametrize("attribute", ["both", "every", "Shop.saga", "newer", "empty"])
def test_an_attribute_may_be_a_saga_several_or_a_function(attribute: str) -> None:
    assert check("", f"shop_definitions:{attribute}", "--definitions-only").exit_code == 0


def test_a_saga_that_is_given_twice_counts_once() -> None:
    result = check("", OURS, "shop_definitions:both", "--definitions-only", "--json")
    assert len(json.loads(result.stdout)["definitions"]) == 2


# ------------------------------------------------------------------------------------------------------------ bad input


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("shop_definitions", "'shop_definitions' is not of the form MODULE:ATTRIBUTE, such as shop.sagas:order_saga"),
        ("shop_definitions:", "is not of the form MODULE:ATTRIBUTE"),
        (":saga", "is not of the form MODULE:ATTRIBUTE"),
        ("", "'' is not of the form MODULE:ATTRIBUTE"),
        ("../shop:saga", "is not of the form MODULE:ATTRIBUTE"),
        ("shop_definitions.py:both", "there is no module 'shop_definitions.py'"),
        ("no_such_module:saga", "no_such_module:saga: there is no module 'no_such_module'"),
        ("order_saga.none:saga", "there is no module 'order_saga.none'"),
        ("shop_needy:saga", "there is no module 'no_such_library', which it imports; install it here"),
        ("shop_definitions:none", "shop_definitions:none: there is no 'none' in it"),
        ("shop_definitions:Shop.none", "there is no 'none' in it"),
        ("shop_definitions:number", "shop_definitions:number is an int; give a Saga, a list or tuple of them, or"),
        ("shop_definitions:mixed", "is a tuple with an int in it; give a Saga"),
        ("shop_definitions:later", "is a function; give a Saga"),
        ("shop_definitions:broken", "calling it raised LookupError: no such plan"),
        ("shop_definitions:demanding", "calling it raised TypeError: demanding() missing 1 required"),
        ("shop_exits:saga", "importing it raised SystemExit: bye"),
        ("shop_torn:saga", "importing it raised SyntaxError: "),
        ("shop_wrong:saga", "importing it raised DefinitionError: saga x: it has no steps"),
        ("shop_angry:saga", "importing it raised RuntimeError: line one line two"),
    ],
)
def test_what_names_no_definition_is_refused_in_one_line(database: Path, place: str, why: str) -> None:
    assert why in refused(database, place)


def test_two_definitions_of_one_version_are_refused(database: Path) -> None:
    said = refused(database, OURS, "shop_definitions:changed")
    assert said == (
        "shop_definitions:changed: there are two different definitions of order_saga version 1; number the versions"
    )


def test_a_file_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "sagas.db"
    assert refused(path, OURS) == f"DATABASE_URL: there is no database {path}; name the file that is in use"
    assert not path.parent.exists()


def test_a_file_that_was_not_migrated_is_left_as_it_is(database: Path) -> None:
    for version in (1, 0):
        down = CliRunner().invoke(
            app, ["migrate", "down", "--to", str(version), "--yes"], env=clean(DATABASE_URL=f"sqlite:///{database}")
        )
        assert down.exit_code == 0
        said = refused(database, OURS)
        assert f"{database} has schema {version} and this program needs " in said
        assert said.endswith("; run: unwind migrate up")


def test_what_is_no_database_of_ours_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.db"
    path.write_bytes(b"this is not a database" * 100)
    assert refused(path, OURS) == f"DATABASE_URL: {path} cannot be used as a database: file is not a database"
    assert "DATABASE_URL: mysql://" in refused("mysql://u:secret@h/d", OURS)
    assert "DATABASE_URL" in refused(str(tmp_path), OURS)


def test_a_server_that_does_not_answer_is_told_without_the_password() -> None:
    said = refused("postgres://nobody:secret@127.0.0.1:1/sagas?sslmode=disable", OURS)
    assert said.startswith("PostgreSQL at 127.0.0.1:1/sagas cannot be reached: ")
    assert "secret" not in said


def test_help_tells_how_it_exits() -> None:
    output = " ".join(CliRunner().invoke(app, ["check", "--help"]).output.replace("│", "").split())
    assert "Exits with 0 when none would be stranded, 1 when one would, 2 when the call makes no sense" in output


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.mark.integration
def test_a_postgresql_that_was_not_migrated_is_refused(postgres_url: str) -> None:
    said = refused(postgres_url, OURS)
    assert said.endswith("it has no tables yet; run: unwind migrate up")


@pytest.mark.integration
def test_live_sagas_on_postgresql_are_checked(postgres_url: str) -> None:
    from unwind.stores.postgres.store import PostgresStore  # noqa: PLC0415

    async def fill() -> None:
        await migrate_postgres(postgres_url)
        store = await PostgresStore.open(postgres_url)
        await store.commit([unit_of(TRIP, f"trip-{number:03}", 1_700_000_000_000_000) for number in range(250)])
        await store.close()

    asyncio.run(fill())
    good = check(postgres_url, "tests.cli.test_check:TRIP")
    assert good.exit_code == 0, good.output
    assert "250 running: flight, outstanding (trip-249, trip-248, trip-247, …): comes to its end" in good.stdout
    bad = check(postgres_url, OURS)
    assert bad.exit_code == 1
    assert f"{TRIP.revision}: STRANDS 250 live sagas" in bad.stdout
