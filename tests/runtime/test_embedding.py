"""A program that opens a worker itself, with a participant inside, as the guide shows it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.core.trips import booking, trip

from unwind.bootstrap import Embedded, Worker, open_worker
from unwind.errors import SettingsError
from unwind.runtime.declaring import Participant
from unwind.settings import Settings


@asynccontextmanager
async def opened(folder: Path, *tables: str) -> AsyncIterator[Worker]:
    settings = Settings(data_dir=folder, database=folder / "unwind.db")
    async with open_worker(settings, [trip(booking("flight"))], [Embedded(Participant("agency"), tables)]) as worker:
        yield worker


async def test_tables_that_were_changed_are_refused_by_the_participants_name(tmp_path: Path) -> None:
    async with opened(tmp_path, "create table booked (what text)"):
        pass
    with pytest.raises(SettingsError, match=r"participant agency: .*script 1 of the tables was changed"):
        async with opened(tmp_path, "create nonsense"):
            pass
