"""The examples run as their READMEs say, and print what these show."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = sorted(path for path in (ROOT / "examples").iterdir() if path.is_dir() and not path.name.startswith("__"))
SERVES = {"own_service"}
"""They end when they are told to; tests/test_own_service.py asks it."""
PRINTS = [path for path in EXAMPLES if path.name not in SERVES]


def test_there_are_examples() -> None:
    assert {path.name for path in EXAMPLES} >= {"approval", "conditional", "own_service", "parallel", "pivot", "trip"}


@pytest.mark.integration  # the examples themselves, as processes
@pytest.mark.parametrize("folder", PRINTS, ids=lambda path: path.name)
def test_an_example_prints_what_its_readme_shows(folder: Path) -> None:
    readme = (folder / "README.md").read_text()
    [command] = re.findall(r"`\.venv/bin/python (\S+)` prints:", readme)
    [shown] = re.findall(r"```text\n(.*?)```", readme, re.DOTALL)
    ran = subprocess.run([sys.executable, command], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.returncode) == (shown, 0), ran.stderr


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_a_readme_fits_on_a_screen_and_is_found(folder: Path) -> None:
    assert len((folder / "README.md").read_text().splitlines()) <= 40
    assert f"examples/{folder.name}" in (ROOT / "docs" / "writing-a-saga.md").read_text()
