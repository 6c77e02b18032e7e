"""`doctor` on real servers, each of them wrong in one way."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import nats
import pytest
from tests.cli.test_doctor import SECRET, examined, verdicts, without_ours
from tests.servers import nats as nats_servers
from tests.servers import postgres, valkey
from typer.testing import CliRunner

from order_saga.main import app as order_saga

pytestmark = pytest.mark.integration
CLOSED = "127.0.0.1:9"


def migrated(url: str) -> str:
    result = CliRunner().invoke(order_saga, ["migrate", "up"], env=without_ours({"DATABASE_URL": url}))
    assert result.exit_code == 0, result.output
    return url


def execute(url: str, *statements: str) -> None:
    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


# ----------------------------------------------------------------------------------------------------------- PostgreSQL


@pytest.fixture
def durable(open_folder: Path) -> Iterator[postgres.Postgres]:
    with postgres.running(open_folder / "postgres", durable=True, password=SECRET) as server:
        yield server


def test_servers_that_are_as_they_should_be(
    durable: postgres.Postgres, nats_url: str, redis_address: str, tmp_path: Path
) -> None:
    url = migrated(durable.url())
    settings = {"NATS_URL": nats_url, "REDIS_ADDR": redis_address, "PAYMENT_DATABASE_URL": url}
    code, found = examined(app=order_saga, DATABASE_URL=url, UNWIND_DATA_DIR=str(tmp_path), **settings)
    assert (code, set(verdicts(found).values())) == (0, {"ok"})
    assert {
        "store",
        "migrations",
        "postgres",
        "clock",
        "definitions",
        "bus",
        "cache",
        "payment database",
    } <= found.keys()
    wrong = url.replace(SECRET, "guessed")
    code, found = examined(
        app=order_saga, DATABASE_URL=wrong, PAYMENT_DATABASE_URL=wrong, UNWIND_DATA_DIR=str(tmp_path)
    )
    assert (code, found["store"]["verdict"], found["payment database"]["verdict"]) == (1, "failed", "failed")
    assert "guessed" not in str(found)
    assert "PAYMENT_DATABASE_URL" in found["payment database"]["advice"]


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    url = f"postgres://ada:{SECRET}@{CLOSED}/orders"
    code, found = examined(DATABASE_URL=url, NATS_URL=f"nats://{CLOSED}", REDIS_ADDR=CLOSED)
    assert code == 1
    expected = {"settings": "ok", "store": "failed", "bus": "failed", "cache": "warning"}
    assert verdicts(found) == expected
    assert (
        verdicts(examined(REDIS_ADDR=CLOSED, UNWIND_BUS="redis", UNWIND_DATA_DIR=str(tmp_path))[1])["bus"] == "failed"
    )


def test_a_database_that_is_not_there_or_has_no_tables(postgres_url: str) -> None:
    code, found = examined(DATABASE_URL=postgres_url)
    assert (code, found["migrations"]["verdict"]) == (1, "failed")
    assert found["migrations"]["found"] == "there are no tables yet"
    code, found = examined(DATABASE_URL=urlsplit(postgres_url)._replace(path="/nowhere").geturl())
    assert (code, found["store"]["verdict"]) == (1, "failed")


def test_a_server_that_may_lose_what_it_has_acknowledged(postgres_url: str) -> None:
    code, found = examined(DATABASE_URL=migrated(postgres_url))
    assert (code, found["postgres"]["verdict"]) == (1, "failed")
    assert "fsync, full_page_writes, synchronous_commit are off" in found["postgres"]["found"]


def test_a_server_that_lets_nobody_write(postgres_url: str) -> None:
    name = urlsplit(postgres_url).path.strip("/")
    execute(migrated(postgres_url), f'alter database "{name}" set default_transaction_read_only = on')
    code, found = examined(DATABASE_URL=postgres_url)
    assert (code, found["store"]["verdict"]) == (1, "failed")
    assert "lets nobody write" in found["store"]["found"]


def test_a_user_who_may_not_write(postgres_url: str) -> None:
    user = f"reader_{urlsplit(postgres_url).path.strip('/')}"
    execute(
        migrated(postgres_url), f"create role {user} login", f"grant select on all tables in schema public to {user}"
    )
    try:
        code, found = examined(DATABASE_URL=postgres_url.replace("postgres@", f"{user}@"))
    finally:
        execute(postgres_url, f"drop owned by {user}", f"drop role {user}")
    assert (code, found["rights"]["verdict"]) == (1, "failed")
    assert "insert on commits" in found["rights"]["found"]


# ------------------------------------------------------------------------------------------------------- NATS and Redis


def test_nats_without_jetstream(tmp_path: Path) -> None:
    with nats_servers.running(tmp_path / "nats", jetstream=False) as server:
        code, found = examined(NATS_URL=server.url, UNWIND_DATA_DIR=str(tmp_path))
    assert (code, found["bus"]["verdict"]) == (1, "failed")
    assert "JetStream" in found["bus"]["found"]
    assert "-js" in found["bus"]["advice"]


def test_streams_of_another_shape_and_such_as_are_nearly_full(tmp_path: Path) -> None:
    async def make(url: str) -> None:
        client = await nats.connect(url)
        jetstream: Any = client.jetstream()
        await jetstream.add_stream(name="unwind-commands", subjects=["unwind.commands"], retention="limits")
        queue = {"retention": "workqueue", "discard": "old"}
        await jetstream.add_stream(name="unwind-replies", subjects=["unwind.replies", "unwind.replies.>"], **queue)
        await jetstream.add_stream(name="unwind-dead", subjects=["unwind.dead", "unwind.dead.>"], max_bytes=1_024)
        await jetstream.publish("unwind.dead", b"x" * 900)
        await client.close()

    with nats_servers.running(tmp_path / "nats") as server:
        code, found = examined(NATS_URL=server.url, UNWIND_DATA_DIR=str(tmp_path))
        assert (code, found["streams"]["verdict"]) == (0, "ok")
        assert "not there yet" in found["streams"]["found"]
        asyncio.run(make(server.url))
        result = CliRunner().invoke(
            order_saga, ["doctor"], env=without_ours({"NATS_URL": server.url, "UNWIND_DATA_DIR": str(tmp_path)})
        )
    told = [line for line in result.stdout.splitlines() if line.startswith("streams")]
    assert result.exit_code == 1
    assert any("failed" in line and "unwind-commands has another subjects, retention" in line for line in told)
    assert any("warning" in line and "unwind-replies has another discard" in line for line in told)
    assert any("warning" in line and "unwind-dead holds" in line for line in told)
    assert any("not there yet: unwind-events" in line for line in told)


def test_redis_with_a_password(tmp_path: Path) -> None:
    with valkey.running(tmp_path / "valkey", password=SECRET) as server:
        settings = {"REDIS_ADDR": server.address, "UNWIND_DATA_DIR": str(tmp_path)}
        assert verdicts(examined(**settings)[1])["cache"] == "failed"
        code, found = examined(REDIS_PASSWORD="guessed", **settings)
        assert (code, found["cache"]["verdict"]) == (1, "failed")
        assert "guessed" not in str(found)
        assert verdicts(examined(REDIS_PASSWORD=SECRET, **settings)[1])["cache"] == "ok"


def test_redis_as_a_bus_that_throws_things_away(redis_address: str, tmp_path: Path) -> None:
    settings = {"REDIS_ADDR": redis_address, "UNWIND_BUS": "redis", "UNWIND_DATA_DIR": str(tmp_path)}
    assert verdicts(examined(**settings)[1])["bus"] == "ok"
    try:
        valkey.ask(redis_address, "CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru")
        code, found = examined(**settings)
    finally:
        valkey.ask(redis_address, "CONFIG SET maxmemory 0 maxmemory-policy noeviction")
    assert (code, found["bus"]["verdict"]) == (0, "warning")
