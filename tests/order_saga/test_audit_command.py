"""`order-saga audit`: the books that the environment names, told to people and to programs."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest
from tests.order_saga.services import SERVICES, execute, files
from tests.order_saga.test_audit import order
from tests.order_saga.world import open_world
from typer.testing import CliRunner, Result

from order_saga.main import app
from unwind.settings import Database, Server

VARIABLES = {"engine": "DATABASE_URL", **{name: f"{name.upper()}_DATABASE_URL" for name in SERVICES}}


def environment(databases: Mapping[str, Database]) -> dict[str, str]:
    return {
        VARIABLES[name]: database.url.reveal if isinstance(database, Server) else f"sqlite:///{database}"
        for name, database in databases.items()
    }


def audit(databases: Mapping[str, Database], *options: str) -> Result:
    return CliRunner().invoke(app, ["audit", *options], env=environment(databases))


async def build(databases: Mapping[str, Database]) -> None:
    async with open_world(databases) as world:
        await world.start("done", order("done"))
        await world.finish("done")
        await world.start("open", order("open"))


@pytest.fixture
def built(databases: Mapping[str, Database]) -> Mapping[str, Database]:
    asyncio.run(build(databases))
    return databases


def test_books_that_agree(built: Mapping[str, Database]) -> None:
    found = audit(built, "--allow-live")
    assert (found.exit_code, found.stderr) == (0, "")
    open_saga, told = found.stdout.splitlines()
    assert open_saga == "open: unfinished: running"
    assert told.startswith(
        "2 sagas: 1 completed, 0 compensated, 1 unfinished; 0 violations (totals of money and stock not"
    )


def test_books_that_do_not_agree(built: Mapping[str, Database]) -> None:
    asyncio.run(execute(built["payment"], "update accounts set balance = balance - 1"))
    found = audit(built, "--allow-live", "--json")
    assert found.exit_code == 1
    told = msgspec.json.decode(found.stdout)
    assert (told["clean"], told["orders"], told["live"], told["effects"]) == (False, 2, 1, 3)
    assert told["unfinished"] == [{"saga_id": "open", "status": "running"}]
    assert [violation["subject"] for violation in told["violations"]] == ["c-1"]


def test_books_that_cannot_be_read(built: Mapping[str, Database]) -> None:
    asyncio.run(execute(built["inventory"], "drop table reservation_lines"))
    found = audit(built)
    assert (found.exit_code, found.stdout) == (2, "")
    assert found.stderr.startswith("order-saga: inventory: ")
    assert found.stderr.count("\n") == 1


def test_files_are_audited_without_the_driver_of_postgresql(tmp_path: Path) -> None:
    databases = files(tmp_path)
    asyncio.run(build(databases))
    program = (
        "import sys; sys.modules['asyncpg'] = None; from order_saga.main import app; app(['audit', '--allow-live'])"
    )
    told = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **environment(databases)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (told.returncode, told.stderr) == (0, "")
