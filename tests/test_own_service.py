"""The example of a service of one's own: it starts, answers as its README shows, and has what the library brings."""

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Program, Server, clean, ready
from tests.eventually import eventually
from tests.test_readme import answers, requests
from typer.testing import CliRunner

from unwind.cli.main import app as unwind

ROOT = Path(__file__).parent.parent
FOLDER = ROOT / "examples" / "own_service"
README = (FOLDER / "README.md").read_text()


@contextmanager
def running(data: Path) -> Iterator[Server]:
    """The example with its data there; told to stop at the end."""
    environment = clean(SERVER_PORT="0", UNWIND_DATA_DIR=str(data))
    with Program([sys.executable, str(FOLDER / "own_service.py")], environment, data) as process:
        try:
            with ready(process) as server:
                yield server
                assert server.stop()[0] == 0
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running(tmp_path_factory.mktemp("rentals")) as server:
        yield server


def sent(server: Server, commands: str) -> str:
    """What a block of the README's curl commands is answered."""
    asked = [(each.method, each.url.path, dict(each.headers), each.content) for each in requests(commands)]
    came = [
        server.http.request(method, path, content=content, headers={k: v for k, v in headers.items() if k != "host"})
        for method, path, headers, content in asked
    ]
    assert all(each.is_success for each in came), [each.text for each in came]
    return "".join(each.text for each in came)


async def test_its_route_begins_sagas_that_end_as_the_readme_shows(server: Server) -> None:
    shown = dict(re.findall(r"```sh\n(curl .*?)```\n```json\n(.*?)```", README, re.DOTALL))
    assert shown
    for commands, answered in shown.items():
        came = sent(server, commands)
        assert list(answers(came)) == list(answers(answered))
    ids = re.findall(r'"saga_id":"([^"]+)"', README)
    ends = re.findall(r"`(completed|compensated)`", README)
    assert len(ids) == len(ends) == 2
    for saga, end in zip(ids, ends, strict=True):

        async def ended(saga: str = saga) -> str | None:
            status = str(server.http.get(f"/api/v1/sagas/{saga}").json()["status"])
            return status if status in {"completed", "compensated"} else None

        assert await eventually(ended, 30) == end


def test_what_does_not_fit_is_told_by_its_field(server: Server) -> None:
    refused = server.http.post("/api/v1/rentals", json={"rider": "Ada", "days": 0})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "days")


def test_its_dashboard_answers(server: Server) -> None:
    page = server.http.get("/")
    assert (page.status_code, "Rentals" in page.text) == (200, True)


def test_its_route_is_documented_with_its_scope(server: Server) -> None:
    document = server.http.get("/schema/openapi.json").json()
    assert {"bearer": ["start"]} in document["paths"]["/api/v1/rentals"]["post"]["security"]
    assert {"/api/v1/keys", "/api/v1/sagas/bulk", "/api/v1/dead-letters", "/api/v1/workers"} <= document["paths"].keys()


def test_with_a_key_it_answers_nobody_without_one(tmp_path: Path) -> None:
    create = ["keys", "create", "--name", "ada", "--scope", "start"]
    made = CliRunner().invoke(unwind, create, env=clean(UNWIND_DATA_DIR=str(tmp_path)))
    with running(tmp_path) as server:
        asked = {"rider": "Ada", "days": 2}
        assert server.http.post("/api/v1/rentals", json=asked).status_code == 401
        key = {"X-API-Key": made.stdout.strip()}
        assert server.http.post("/api/v1/rentals", json=asked, headers=key).status_code == 202


def test_it_is_found() -> None:
    for text in ("README.md", "docs/dashboard.md", "docs/writing-a-saga.md"):
        assert "examples/own_service" in (ROOT / text).read_text()
