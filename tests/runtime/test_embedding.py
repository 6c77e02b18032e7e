"""A program that opens a worker itself, with a participant inside, as the guide shows it."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from sqlite3 import Connection

import pytest
import structlog
from tests.core.trips import Book, Trip, Unbook, booking, trip

from unwind.bootstrap import Embedded, Worker, open_worker
from unwind.core.steps import Retry
from unwind.errors import SettingsError
from unwind.runtime.declaring import HandlerCall, Participant
from unwind.settings import Settings

SAGA = trip(booking("flight", retry=Retry.none()))
agency = Participant[Connection]("agency")


@agency.handles(Book)
def book(tx: Connection, command: Book, call: HandlerCall) -> None:
    secret = f"{command.part} of Ada"
    raise LookupError(len(secret))


@agency.undoes(Unbook)
def unbook(tx: Connection, command: Unbook, call: HandlerCall) -> None:
    return None


@asynccontextmanager
async def opened(folder: Path, *tables: str) -> AsyncIterator[Worker]:
    settings = Settings(data_dir=folder, database=folder / "unwind.db")
    async with open_worker(settings, [SAGA], [Embedded(agency, tables)]) as worker:
        yield worker


async def test_tables_that_were_changed_are_refused_by_the_participants_name(tmp_path: Path) -> None:
    async with opened(tmp_path, "create table booked (what text)"):
        pass
    with pytest.raises(SettingsError, match=r"participant agency: .*script 1 of the tables was changed"):
        async with opened(tmp_path, "create nonsense"):
            pass


async def test_the_bug_of_a_handler_is_told_on_stderr_without_the_payload(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with opened(tmp_path) as worker:
        started = await worker.engine.start(SAGA, Trip(traveller="Ada", codes=("secret-code",)))
        assert (await worker.engine.ended(started.saga_id)).status == "compensated"
    told = capsys.readouterr()
    assert told.out == ""
    [line] = [json.loads(line) for line in told.err.splitlines()]
    assert line["event"] == "handler_failed"
    assert line["exception"][0]["exc_type"] == "LookupError"
    assert "secret-code" not in told.err
    assert "of Ada" not in told.err


async def test_a_program_that_has_configured_its_log_has_it_as_it_was(tmp_path: Path) -> None:
    lines = structlog.testing.LogCapture()
    structlog.configure([lines])
    try:
        async with opened(tmp_path) as worker:
            started = await worker.engine.start(SAGA, Trip())
            await worker.engine.ended(started.saga_id)
    finally:
        structlog.reset_defaults()
    assert "saga_started" in [line["event"] for line in lines.entries]
