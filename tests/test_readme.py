"""The README and the documents it leads to: what they tell a reader to type works, and answers as they show."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.cli.conftest import run

from order_saga.main import application
from unwind.cli import read_settings

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
GUIDE = (ROOT / "docs" / "writing-a-saga.md").read_text()
SERVER = "localhost:8080"


def blocks(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def requests(block: str) -> Iterator[httpx.Request]:
    """What the curl commands of a block send."""
    for command in re.split(r"^curl ", block, flags=re.MULTILINE)[1:]:
        words = iter(shlex.split(command.replace("\\\n", " ")))
        url, headers, data = "", {}, None
        for word in words:
            match word:
                case "-s":
                    continue
                case "-H":
                    name, _, value = next(words).partition(": ")
                    headers[name] = value
                case "-d":
                    data = next(words)
                case _:
                    assert word.startswith(SERVER), f"the test does not know what curl does with {word!r}"
                    url = f"http://{word}"
        yield httpx.Request("GET" if data is None else "POST", url, headers=headers, content=data)


def answers(text: str) -> Iterator[Any]:
    """The JSON values in a text, numbers as they are written; what differs from one run to the next is made equal."""
    text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", "<instant>", text)
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", "<fresh id>", text)
    decoder = json.JSONDecoder(parse_float=str)
    while text := text.lstrip():
        value, end = decoder.raw_decode(text)
        yield value
        text = text[end:]


async def answer(client: httpx.AsyncClient, request: httpx.Request) -> str:
    """The body of the answer; to a question about a saga, as soon as the saga has ended."""
    saga = re.match(r"/api/v1/sagas/[^/]+", request.url.path)
    if request.method == "GET" and saga is not None:
        while (await client.get(saga[0])).json()["status"] not in {"completed", "compensated"}:
            continue  # the test's own time limit ends the wait
    response = await client.send(request)
    assert response.is_success, response.text
    return response.text


@pytest.fixture
async def client(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        application(read_settings({"UNWIND_DATA_DIR": str(tmp_path)})) as served,
        httpx.AsyncClient(transport=httpx.ASGITransport(served.app), base_url=f"http://{SERVER}") as client,
    ):
        yield client


async def test_the_commands_are_answered_as_shown_and_leave_what_the_audit_shows(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    shown = [
        (commands, answered)
        for (language, commands), (_, answered) in pairwise(blocks(README))
        if language == "sh" and commands.startswith("curl ")
    ]
    assert len(shown) == 7
    for commands, answered in shown:
        came = [await answer(client, request) for request in requests(commands)]
        assert list(answers("".join(came))) == list(answers(answered)), commands
    (listing,) = requests(re.findall(r"`(curl [^`]*)`", README)[0])
    assert "fc30f278-d5d7-5edd-a319-c015ce1ee36c" in await answer(client, listing)
    cancelled = "/api/v1/sagas/7b5d2e6a-4d61-527c-9b8f-4dcf8c466829"
    assert '"compensated"' in await answer(client, client.build_request("GET", cancelled))
    (totals,) = [text for language, text in blocks(README) if language == "text"]
    audit = run("audit", UNWIND_DATA_DIR=str(tmp_path))
    assert (audit.stdout, audit.returncode) == (totals, 0)


def test_the_guide_s_saga_and_its_test_run(tmp_path: Path) -> None:
    (program, output, test) = [text for language, text in blocks(GUIDE) if language in {"python", "text"}]
    (tmp_path / "trip.py").write_text(program)
    (tmp_path / "test_trip.py").write_text(test)
    ran = subprocess.run([sys.executable, "trip.py"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (ran.stdout, ran.stderr) == (output, "")
    alone = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}  # loading this house's plugins takes seconds
    command = [sys.executable, "-m", "pytest", "-q", "test_trip.py"]
    tested = subprocess.run(command, cwd=tmp_path, env=alone, capture_output=True, text=True, check=False)
    assert tested.returncode == 0, tested.stdout
    assert "1 passed" in tested.stdout


def test_the_readme_shows_a_part_of_the_guide_s_saga() -> None:
    parts = [text for language, text in blocks(README) if language == "python"]
    assert parts
    assert all(part in GUIDE for part in parts)


def test_the_readme_tells_every_setting_and_no_other() -> None:
    names = re.compile(r"\b(?:SERVER|DATABASE|NATS|REDIS|UNWIND)_[A-Z_]+\b")
    table = "".join(line for line in README.splitlines() if line.startswith("| `"))
    code = (ROOT / "src" / "unwind" / "settings.py").read_text()
    assert set(names.findall(table)) == {name for name in names.findall(code) if not name.endswith("_")}


def test_every_target_of_make_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE))
    assert {"run", "test"} <= named <= targets


def test_every_link_leads_somewhere() -> None:
    texts = [ROOT / "README.md", ROOT / "ARCHITECTURE.md", *(ROOT / "docs").glob("*.md")]
    links = [(text, link) for text in texts for link in re.findall(r"\]\(([\w./-]+)\)", text.read_text())]
    assert links
    assert [link for text, link in links if not (text.parent / link).exists()] == []
