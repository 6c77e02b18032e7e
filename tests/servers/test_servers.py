"""The servers that the tests start: they answer, keep what they should over a crash, and are gone afterwards."""

import asyncio
import os
import re
import shlex
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

import asyncpg
import nats as nats_client
import pytest
from nats.js.errors import NotFoundError
from tests.cli.conftest import Program, clean, run
from tests.servers import nats, postgres, valkey
from tests.servers.process import NoServerError, listens

pytestmark = pytest.mark.integration
ROOT = Path(__file__).parent.parent.parent
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as somebody else")


def ask(url: str, statement: str) -> str:
    async def run() -> str:
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    return asyncio.run(run())


async def kept(url: str) -> int:
    """How many messages the stream holds. Raises NotFoundError: there is no such stream."""
    connection = await nats_client.connect(url)
    try:
        found = await connection.jetstream().stream_info("kept")
        return int(found.state.messages)
    finally:
        await connection.close()


async def keep_one(url: str) -> None:
    connection = await nats_client.connect(url)
    try:
        stream = connection.jetstream()
        await stream.add_stream(name="kept", subjects=["kept"])
        await stream.publish("kept", b"1")
    finally:
        await connection.close()


@pytest.fixture
def taken() -> Iterator[int]:
    """A port on which somebody else listens."""
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        yield somebody.getsockname()[1]


@pytest.mark.parametrize("_", [1, 2])
def test_each_test_has_an_empty_database_of_its_own(postgres_url: str, _: int) -> None:
    assert ask(postgres_url, "select count(*) from pg_class where relnamespace = 'public'::regnamespace") == "0"
    ask(postgres_url, "create table mine (number int)")


def test_postgres_keeps_what_was_committed_before_an_immediate_stop_and_before_a_kill(open_folder: Path) -> None:
    with postgres.running(open_folder, durable=True) as server:
        assert [ask(server.url(), f"show {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]
        ask(server.url(), "create table kept as select 7 as number")
        address = server.url()
        for end in (server.stop_immediately, server.kill, server.stop):
            end()
            assert not listens(server.port)
            server.start()
            assert server.url() == address
            assert ask(server.url(), "select number from kept") == "7"
    assert not listens(server.port)


def test_postgres_starts_again_while_backends_of_the_killed_one_still_work(open_folder: Path) -> None:
    async def run(server: postgres.Postgres) -> None:
        connection = await asyncpg.connect(server.url())
        # Busy, so that it does not look whether its postmaster is still there.
        busy = asyncio.create_task(connection.execute("select count(*) from generate_series(1, 6000000)"))
        await asyncio.wait([busy], timeout=0.1)
        server.kill()
        await asyncio.to_thread(server.start)
        await asyncio.wait([busy])
        connection.terminate()

    with postgres.running(open_folder) as server:
        asyncio.run(run(server))
        assert b"still in use" in server.log.read_bytes()
        assert ask(server.url(), "select 1") == "1"


def test_postgres_with_a_password_asks_for_it(open_folder: Path) -> None:
    with postgres.running(open_folder, password="secret") as server:
        assert ask(server.url(), "select 1") == "1"
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(server.url().replace("secret", "wrong"), "select 1")


@needs_root
def test_nobodys_postgres_opens_no_folder_outside_of_the_temporary_one_nor_pytests(tmp_path: Path) -> None:
    with TemporaryDirectory(dir=Path.home()) as folder, pytest.raises(NoServerError, match="needs a folder below"):
        postgres.Postgres(Path(folder))
    assert not Path.home().stat().st_mode & 0o001
    with pytest.raises(NoServerError, match="open_folder"):
        postgres.Postgres(tmp_path)


def test_nats_keeps_its_streams_over_a_kill_and_forgets_them_with_its_folder(tmp_path: Path) -> None:
    with nats.running(tmp_path) as server:
        with urlopen(f"http://127.0.0.1:{server.monitoring_port}/healthz") as answer:
            assert answer.status == 200
        asyncio.run(keep_one(server.url))
        server.kill()
        assert not listens(server.port)
        server.start()
        assert asyncio.run(kept(server.url)) == 1
        server.kill()
        server.forget_everything()
        server.start()
        with pytest.raises(NotFoundError):
            asyncio.run(kept(server.url))
    assert not listens(server.port)


def test_valkey_can_be_flushed(tmp_path: Path) -> None:
    with valkey.running(tmp_path, password="secret") as server:
        assert valkey.ask(server.address, "GET key").startswith(b"-NOAUTH")
        assert valkey.ask(server.address, "SET key 1", "secret").startswith(b"+OK")
        server.flush()
        assert valkey.ask(server.address, "GET key", "secret").startswith(b"$-1")
    assert not listens(server.port)


@pytest.mark.parametrize("durable", [True, False])
def test_valkey_keeps_over_a_restart_what_it_is_told_to(tmp_path: Path, durable: bool) -> None:
    with valkey.running(tmp_path, durable=durable) as server:
        valkey.ask(server.address, "SET key 1")
        server.stop()
        server.start()
        assert valkey.ask(server.address, "GET key").startswith(b"$1" if durable else b"$-1")


def test_a_server_whose_free_port_was_taken_meanwhile_takes_another(open_folder: Path, taken: int) -> None:
    kinds = {"postgres": postgres.Postgres, "nats": nats.Nats, "valkey": valkey.Valkey}
    for name, kind in kinds.items():
        server = kind(open_folder / name)
        server.port = taken
        server.start()
        assert server.port != taken
        assert listens(server.port)
        server.stop()


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    server = nats.Nats(tmp_path, extra=["--tls", "--tlscert", "missing.pem", "--tlskey", "missing.pem"])
    with pytest.raises(NoServerError, match=r"missing\.pem"):
        server.start()
    with pytest.raises(NoServerError, match="not running"):
        _ = server.pid


def test_the_servers_for_several_processes_can_be_used_as_told_and_end_with_ctrl_c() -> None:
    with Program([sys.executable, "-m", "tests.servers"], clean(), ROOT) as process:
        try:
            assert process.stdout is not None
            told: list[str] = []
            while not told or not told[-1].startswith("#"):
                line = process.stdout.readline()
                assert line, process.communicate()[1]
                told.append(line)
            words = [word for line in told[:-1] for word in shlex.split(line)[1:]]
            settings = dict(word.split("=", 1) for word in words)
            assert run("migrate", "up", **settings).returncode == 0
            process.send_signal(signal.SIGINT)
            assert (process.wait(), process.communicate()[1]) == (0, "")
            assert not any(listens(int(port)) for port in re.findall(r"127\.0\.0\.1:(\d+)", "".join(told)))
        finally:
            process.kill()
