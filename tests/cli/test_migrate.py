"""`migrate`, as typed: status, up, down, create; what they print and how they exit."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import clean
from typer.testing import CliRunner, Result

from order_saga.main import app as order_saga
from unwind.cli.main import app as unwind
from unwind.stores.migrations.revisions import SQLITE, newest

HEAD = newest(SQLITE)


def migrate(path: Path, *arguments: str, typed: str = "") -> Result:
    settings = clean(DATABASE_URL=f"sqlite:///{path}")
    return CliRunner().invoke(unwind, ["migrate", *arguments], env=settings, input=typed)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sagas.db"


def test_a_database_is_brought_up_and_says_so(path: Path) -> None:
    before = migrate(path, "status")
    assert (before.exit_code, path.exists()) == (1, False)
    assert before.output.startswith(f"{path}: schema 0 of {HEAD}, behind; run: unwind migrate up\n  001  initial ")
    assert before.output.endswith("to come\n")
    up = migrate(path, "up")
    assert (up.exit_code, up.output) == (0, f"{path}: schema 0 → {HEAD}\n")
    again = migrate(path, "up")
    assert (again.exit_code, again.output) == (0, f"{path}: schema {HEAD} already\n")
    after = migrate(path, "status")
    assert after.exit_code == 0
    assert after.output.startswith(f"{path}: schema {HEAD} of {HEAD}, the newest\n")
    assert after.output.endswith("applied\n")


def test_down_asks_since_data_is_lost(path: Path) -> None:
    migrate(path, "up")
    for typed in ("", "n\n"):
        refused = migrate(path, "down", typed=typed)
        assert refused.exit_code == 1
        assert f"{path}: back from schema {HEAD} to {HEAD - 1}, and what it held is lost" in refused.output
        assert migrate(path, "status").exit_code == 0
    assert migrate(path, "down", typed="y\n").output.endswith(f"{path}: schema {HEAD} → {HEAD - 1}\n")
    assert migrate(path, "down", "--to", "1", "--yes").exit_code == 0
    assert migrate(path, "down", "--to", "0", "--yes").output == f"{path}: schema 1 → 0\n"
    assert migrate(path, "down", "--yes").output == f"{path}: schema 0 already\n"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["up", "--to", "999"], f"--to: this program knows schema {HEAD} and none above it"),
        (["up", "--to", "0"], f"--to: the database has schema {HEAD}; to go back to 0, use down"),
        (["down", "--to", "999"], f"--to: the database has schema {HEAD}; to come to 999, use up"),
        (["create", "../x"], "NAME: '../x' is no name for a migration; use a few words such as add_priorities"),
    ],
)
def test_a_wish_that_makes_no_sense_is_refused_in_one_line(path: Path, arguments: list[str], why: str) -> None:
    migrate(path, "up")
    refused = migrate(path, *arguments)
    assert (refused.exit_code, refused.stderr) == (2, f"unwind: {why}\n")
    assert migrate(path, "status").exit_code == 0


def test_what_is_no_database_of_ours_is_refused_in_one_line(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 100)
    for command in ("status", "up", "down"):
        refused = migrate(path, command, *(["--yes"] if command == "down" else []))
        assert refused.exit_code == 2
        assert refused.stderr == f"unwind: {path} cannot be used as a database: file is not a database\n"


def test_a_server_that_does_not_answer_is_told_without_the_password() -> None:
    settings = clean(DATABASE_URL="postgres://nobody:secret@127.0.0.1:1/sagas?sslmode=disable")
    for command in ("status", "up", "down"):
        failed = CliRunner().invoke(unwind, ["migrate", command], env=settings)
        assert failed.exit_code == 1
        assert failed.stderr.startswith("unwind: PostgreSQL at 127.0.0.1:1/sagas cannot be reached: ")
        assert failed.stderr.count("\n") == 1
        assert "secret" not in failed.output + failed.stderr


def test_the_application_has_it_too_under_its_own_name(path: Path) -> None:
    status = CliRunner().invoke(order_saga, ["migrate", "status"], env=clean(DATABASE_URL=f"sqlite:///{path}"))
    assert status.exit_code == 1
    assert "run: order-saga migrate up" in status.output


def test_help_tells_how_it_exits() -> None:
    output = CliRunner().invoke(unwind, ["migrate", "status", "--help"]).output
    assert "Exits with 0 when it is the newest, 1 when it is behind" in " ".join(output.split())


def test_the_other_commands_do_not_load_it() -> None:
    program = "import sys, order_saga.main; print(*sorted({'alembic', 'sqlalchemy', 'asyncpg'} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout == "\n"
