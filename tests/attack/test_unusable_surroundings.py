"""What a server stands on breaks: its participants' files at the start, its log while it runs."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import clean, run
from tests.runtime.rig import Rig, virtual
from tests.runtime.test_service import TRIP, service

from unwind.runtime import service as under_test


@pytest.mark.parametrize("name", ["inventory", "payment", "shipment"])
def test_a_participants_file_that_is_no_database_is_told_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.db").write_bytes(b"no database" * 1000)
    result = run("serve", UNWIND_DATA_DIR=str(tmp_path), SERVER_PORT="0")
    assert (result.returncode, result.stdout) == (2, "")
    file = f"{tmp_path}/{name}.db cannot be used as a database: file is not a database\n"
    told = f"order-saga: UNWIND_DATA_DIR: participant {name}: {file}"
    assert result.stderr == told


def test_a_log_that_nobody_reads_any_more_stops_no_work() -> None:
    program = (
        "import structlog\n"
        "from unwind.cli.logs import configure_logs\n"
        "from unwind.settings import Settings\n"
        "configure_logs(Settings())\n"
        "structlog.get_logger('test').warning('lost', reason='x' * 100_000)\n"
        "print('at work')\n"
    )
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as broken:
        command = [sys.executable, "-c", program]
        result = subprocess.run(command, env=clean(), stdout=subprocess.PIPE, stderr=broken, text=True, check=False)
    assert result.stdout == "at work\n"


@virtual
async def test_a_part_that_fails_is_told_although_it_cannot_be_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken:
        def critical(self, *_: object, **__: object) -> None:
            raise OSError("no space left")

    async def part() -> None:
        raise ZeroDivisionError

    worker, _ = service(Rig(TRIP))
    monkeypatch.setattr(under_test, "log", Broken())
    task = asyncio.create_task(part())
    await asyncio.wait([task])
    with pytest.raises(OSError, match="no space left"):
        worker._ended(task)
    assert isinstance(worker.failed.result(), ZeroDivisionError)
