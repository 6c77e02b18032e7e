"""Real servers for the tests that need them: one of each per process of tests, a fresh database or a flushed one each.

`TEST_DATABASE_URL`, `TEST_NATS_URL` and `TEST_REDIS_URL` name servers to be used instead.
"""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.servers import nats, postgres, valkey
from tests.servers.process import NoServerError, skip_or_fail

_numbers = count(1)


@pytest.fixture(scope="session")
def servers_folder() -> Iterator[Path]:
    """Where this process's servers keep their data."""
    with TemporaryDirectory(prefix="unwind-servers-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture(scope="session")
def postgres_server_url(servers_folder: Path) -> Iterator[str]:
    """A PostgreSQL server, fast and not durable; the URL of its superuser."""
    given = os.environ.get("TEST_DATABASE_URL")
    if given:
        yield given
        return
    try:
        server = postgres.Postgres(servers_folder / "postgres")
        server.start()
    except NoServerError as error:
        skip_or_fail(error)
    try:
        yield server.url()
    finally:
        server.stop()


@pytest.fixture
def postgres_url(postgres_server_url: str) -> Iterator[str]:
    """A fresh, empty database."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    asyncio.run(_execute(postgres_server_url, f'create database "{name}"'))
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
    try:
        server = nats.Nats(servers_folder / "nats")
        server.start()
    except NoServerError as error:
        skip_or_fail(error)
    try:
        yield server.url
    finally:
        server.stop()


@pytest.fixture
def nats_url(nats_server: str) -> str:
    """A NATS server with JetStream that other tests of this process have used: choose names of your own."""
    return nats_server


@pytest.fixture(scope="session")
def redis_server(servers_folder: Path) -> Iterator[str]:
    """A Valkey server; its address."""
    given = os.environ.get("TEST_REDIS_URL")
    if given:
        yield urlsplit(given).netloc.rpartition("@")[2]
        return
    try:
        server = valkey.Valkey(servers_folder / "valkey")
        server.start()
    except NoServerError as error:
        skip_or_fail(error)
    try:
        yield server.address
    finally:
        server.stop()


@pytest.fixture
def redis_address(redis_server: str) -> str:
    """A Valkey server that was just flushed."""
    valkey.flush(redis_server)
    return redis_server
