"""docs/changing-a-saga.md: its definitions, its commands and what they answer, as they stand there."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

from tests.cli.conftest import clean

GUIDE = (Path(__file__).parents[2] / "docs" / "changing-a-saga.md").read_text("utf-8")
UNWIND = [sys.executable, "-c", "from unwind.cli.main import app; app()"]
BEGIN = """
import asyncio
from tests.cli.test_check import unit_of
from trips import Trip, trip_1
from unwind.stores.sqlite import SQLiteStore

async def main():
    store = await SQLiteStore.open("sagas.db")
    await store.commit([unit_of(trip_1, "ID", 0, Trip("ada"))])
    await store.close()

asyncio.run(main())
"""


def block(language: str) -> str:
    [found] = re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)
    return str(found)


def test_the_guide_s_commands_answer_as_it_shows(tmp_path: Path) -> None:
    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        settings = clean(DATABASE_URL="sqlite:///sagas.db", PYTHONPATH=str(Path(__file__).parents[2]))
        return subprocess.run(command, cwd=tmp_path, env=settings, capture_output=True, text=True, check=False)

    (tmp_path / "trips.py").write_text(block("python"))
    (tmp_path / "begin.py").write_text(BEGIN)
    begun = run(sys.executable, "begin.py")
    assert begun.returncode == 0, begun.stderr
    both, alone = [shlex.split(line) for line in block("sh").splitlines()]
    good = run(*UNWIND, *both[1:])
    assert (good.returncode, good.stderr) == (0, "")
    assert good.stdout.endswith("No saga would be stranded.\n")
    stranding = run(*UNWIND, *alone[1:])
    assert stranding.returncode == 1
    assert re.sub("#[0-9a-f]{12}", "#HASH", stranding.stdout) == block("text")
