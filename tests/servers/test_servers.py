"""The servers that the tests start: they answer, keep what they should over a crash, and are gone afterwards."""

import asyncio
from pathlib import Path

import asyncpg
import pytest
from tests.servers import nats, postgres, valkey
from tests.servers.process import NoServerError, listens

pytestmark = pytest.mark.integration


def ask(url: str, statement: str) -> str:
    async def run() -> str:
        connection = await asyncpg.connect(url)
        try:
            return str(await connection.fetchval(statement))
        finally:
            await connection.close()

    return asyncio.run(run())


def test_each_test_has_an_empty_database_of_its_own(postgres_url: str) -> None:
    assert ask(postgres_url, "select count(*) from pg_class where relnamespace = 'public'::regnamespace") == "0"


def test_postgres_keeps_what_was_committed_before_an_immediate_stop(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    with postgres.running(tmp_path / "pg", durable=True) as server:
        ask(server.url(), "create table kept as select 7 as number")
        server.stop_immediately()
        assert not listens(server.port)
        server.start()
        assert ask(server.url(), "select number from kept") == "7"
        server.kill()
        server.start()
        assert ask(server.url(), "select number from kept") == "7"
    assert not listens(server.port)


def test_postgres_with_a_password_asks_for_it(tmp_path: Path) -> None:
    with postgres.running(tmp_path / "pg", password="secret") as server:
        assert ask(server.url(), "select 1") == "1"
        with pytest.raises(asyncpg.InvalidPasswordError):
            ask(server.url().replace("secret", "wrong"), "select 1")


def test_nats_forgets_what_is_deleted_between_two_runs(tmp_path: Path) -> None:
    with nats.running(tmp_path) as server:
        assert listens(server.monitoring_port)
        assert server.store.is_dir()
        server.kill()
        server.forget_everything()
        server.start()
        assert server.store.is_dir()
    assert not listens(server.port)


def test_valkey_can_be_flushed(tmp_path: Path) -> None:
    with valkey.running(tmp_path, password="secret") as server:
        assert valkey.ask(server.address, "SET key 1", "secret").startswith(b"+OK")
        server.flush()
        assert valkey.ask(server.address, "GET key", "secret").startswith(b"$-1")


def test_a_server_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    server = nats.Nats(tmp_path, extra=["--tls", "--tlscert", "missing.pem", "--tlskey", "missing.pem"])
    with pytest.raises(NoServerError, match=r"missing\.pem"):
        server.start()
