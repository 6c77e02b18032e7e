"""What can go wrong at a terminal ends `unwind sagas` with a line and the right code, and does no other act instead."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from tests.cli.conftest import Server, clean, serving
from typer.testing import CliRunner

from unwind.cli.main import app

pytestmark = pytest.mark.integration  # the programs themselves, as processes

COMMAND = [sys.executable, "-c", "from unwind.cli.main import app; app()", "sagas"]
"""For what only a process has: its own standard streams."""
NOBODY = "00000000-0000-7000-8000-000000000000"
CLOSED = "http://127.0.0.1:9"
NO_TEXT = os.fsdecode(b"\xff")


def process(stdout: int, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], env=clean(**settings), stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


def refused(*arguments: str, **settings: str) -> tuple[int, str]:
    """Its exit code and its lines on stderr, after checking that it wrote nothing else."""
    result = CliRunner().invoke(app, ["sagas", *arguments], env=settings)
    assert isinstance(result.exception, SystemExit), result.exception
    assert not result.stdout
    assert result.stderr
    assert all(line.startswith("unwind: ") for line in result.stderr.splitlines()), result.stderr
    return result.exit_code, result.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("served")) as server:
        yield server


@contextmanager
def stranger(status: int, body: bytes, **headers: str) -> Iterator[str]:
    """A server that gives everybody this answer; a status of 0: it hangs up. Its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not status:
                return
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - as the library names it

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        thread = Thread(target=listening.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listening.server_port}"
        finally:
            listening.shutdown()
            thread.join()


def test_a_command_that_came_out_empty_is_never_taken_for_none(tmp_path: Path) -> None:
    empty = tmp_path / "empty.json"
    empty.touch()
    # Nobody listens: had any of these gone on to ask, the code were 3.
    for arguments in (
        ("retry", NOBODY, "--command", ""),
        ("retry", NOBODY, "--command-file", str(empty)),
        ("resolve", NOBODY, "--evidence", "e", "--reply", ""),
        ("signal", NOBODY, "approval", ""),
    ):
        code, told = refused(*arguments, UNWIND_URL=CLOSED)
        assert (code, "not JSON" in told) == (2, True)


def test_of_two_commands_none_is_chosen(tmp_path: Path) -> None:
    given = tmp_path / "command.json"
    given.write_text("{}")
    code, told = refused("retry", NOBODY, "--command", "{}", "--command-file", str(given), UNWIND_URL=CLOSED)
    assert (code, "give one" in told) == (2, True)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_a_name_that_makes_another_path_is_none(name: str) -> None:
    for arguments in (("show", name), ("cancel", name), ("signal", NOBODY, name)):
        assert refused(*arguments, UNWIND_URL=CLOSED)[0] == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("show", NO_TEXT),
        ("list", "--status", NO_TEXT),
        ("cancel", NOBODY, "--reason", NO_TEXT),
        ("retry", NOBODY, "--command", f'"{NO_TEXT}"'),
    ],
)
def test_bytes_that_are_no_text_are_refused(arguments: tuple[str, ...]) -> None:
    code, told = refused(*arguments, UNWIND_URL=CLOSED)
    assert (code, "is no text" in told) == (2, True)


@pytest.mark.parametrize(
    "url", ["http://", "ftp://x", "http://127.0.0.1:x", "http://[::1", f"http://{'a' * 80}.invalid", "http://a\nb"]
)
def test_what_is_no_url_ends_with_two(url: str) -> None:
    code, told = refused("list", UNWIND_URL=url)
    assert (code, "UNWIND_URL" in told) == (2, True)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ALL_PROXY", "gopher://127.0.0.1:9"),
        ("ALL_PROXY", "socks5://127.0.0.1:9"),
        ("SSL_CERT_FILE", "/does/not/exist"),
    ],
)
def test_settings_of_http_that_cannot_be_used_are_named(name: str, value: str) -> None:
    code, told = refused("list", UNWIND_URL=CLOSED, **{name: value})
    assert (code, name in told) == (2, True)


def test_a_password_in_the_url_is_not_told() -> None:
    code, told = refused("list", UNWIND_URL="http://operator:s3cr@t@127.0.0.1:9")
    assert (code, CLOSED in told) == (3, True)
    assert "s3cr" not in told


def test_an_act_whose_answer_is_lost_may_have_been_done() -> None:
    with stranger(0, b"") as url:
        code, told = refused("cancel", NOBODY, UNWIND_URL=url)
        assert (code, "may have been done" in told, "start the server" in told) == (3, True, False)
        code, told = refused("show", NOBODY, UNWIND_URL=url)
        assert (code, "may have been done" in told, url in told) == (3, False, True)


@pytest.mark.parametrize(
    "body", [b"[]", b"null", b"7", b"{}", b'{"sagas":[{}],"next_cursor":null}', b'{"sagas":5}', b"[" * 100_000]
)
def test_an_answer_of_another_shape_is_told_and_not_thrown(body: bytes) -> None:
    with stranger(200, body) as url:
        code, told = refused("list", UNWIND_URL=url)
    assert (code, "is it the right server" in told) == (1, True)


def test_an_answer_that_cannot_be_unpacked_is_told() -> None:
    with stranger(200, b"no gzip", Content_Encoding="gzip") as url:
        code, told = refused("list", UNWIND_URL=url)
    assert (code, "is it the right server" in told) == (1, True)


@pytest.mark.parametrize("errors", [b"5", b'["because"]', b'[{"field":"\\u001b[2J","reason":"[red]\\u009b31m"}]'])
def test_a_refusal_by_whomever_does_nothing_to_the_terminal(errors: bytes) -> None:
    with stranger(422, b'{"title":"\\u001b]0;evil\\u0007","detail":"a\\nb","errors":' + errors + b"}") as url:
        code, told = refused("list", UNWIND_URL=url)
    assert code == 1
    assert all(character.isprintable() or character == "\n" for character in told)


def test_a_disk_that_is_full_is_told(server: Server) -> None:
    with Path("/dev/full").open("w") as full:
        result = process(full.fileno(), "list", UNWIND_URL=server.url)
    assert result.returncode == 1
    assert result.stderr == "unwind: the answer came and cannot be written: No space left on device\n"


def test_a_reader_that_has_enough_is_no_failure_to_speak_of(server: Server) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    result = process(writing, "list", UNWIND_URL=server.url)
    os.close(writing)
    assert result.stderr == ""


def test_letters_that_a_terminal_lacks_are_written_out() -> None:
    texts = dict.fromkeys(("definition_version", "status", "started_at", "ended_at"), "")
    page = {"sagas": [{"saga_id": "1", "definition": "café"} | texts], "next_cursor": None}
    with stranger(200, json.dumps(page).encode()) as url:
        result = process(subprocess.PIPE, "list", UNWIND_URL=url, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "caf\\xe9" in result.stdout
