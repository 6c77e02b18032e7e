"""Real servers for the tests that need them: one of each per process of tests, a fresh database or a flushed one each.

`TEST_DATABASE_URL`, `TEST_NATS_URL` and `TEST_REDIS_URL` name servers to be used instead. All that is in that Redis is
deleted. Such servers are shared by all processes of a run: let there be one (`make test-int ARGS="-n 0"`).
"""

import asyncio
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit
from uuid import uuid4

import asyncpg
import pytest
import structlog
from tests.servers import nats, postgres, valkey
from tests.servers.process import or_skipped

# A shell without job control starts what it puts into the background with SIGINT ignored, and every child inherits it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Who opens a worker configures structlog, and the next test must not find it so."""
    configured = structlog.is_configured()
    yield
    if not configured:
        structlog.reset_defaults()


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Where this process's servers keep their data."""
    with TemporaryDirectory(prefix="unwind-servers-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """For a PostgreSQL of one's own: where we are root it runs as `nobody`, whom `tmp_path` keeps out."""
    with TemporaryDirectory(prefix="unwind-test-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server_url(servers_folder: Path) -> Iterator[str]:
    """A PostgreSQL server, fast and not durable; the URL of its superuser."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    with or_skipped(), postgres.running(servers_folder / "postgres") as server:
        yield server.url()


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """A fresh, empty database."""
    name = f"test_{uuid4().hex}"
    asyncio.run(_execute(postgres_server_url, f'create database "{name}" template template0'))
    yield urlsplit(postgres_server_url)._replace(path=f"/{name}").geturl()
    asyncio.run(_execute(postgres_server_url, f'drop database "{name}" with (force)'))


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def nats_server(servers_folder: Path) -> Iterator[str]:
    """A NATS server with JetStream; its URL."""
    given = os.environ.get("TEST_NATS_URL")
    if given:
        yield given
        return
    with or_skipped(), nats.running(servers_folder / "nats") as server:
        yield server.url


@pytest.fixture
def nats_url(nats_server: str) -> str:
    """A NATS server with JetStream that other tests of this process have used: choose names of your own."""
    return nats_server


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[str]:
    """A Valkey server; its address."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        address = urlsplit(given).netloc
        if "@" in address:
            pytest.fail("TEST_REDIS_URL: the tests need a Redis without a password, redis://host:port", pytrace=False)
        yield address
        return
    with or_skipped(), valkey.running(servers_folder / "valkey") as server:
        yield server.address


@pytest.fixture
def redis_address(redis_server: str) -> str:
    """A Redis server that was just flushed."""
    valkey.flush(redis_server)
    return redis_server
