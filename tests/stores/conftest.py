"""Databases that have the tables already: copies of one that was migrated once."""

import asyncio
import os
from collections.abc import Iterator
from itertools import count
from urllib.parse import urlsplit

import asyncpg
import pytest

from unwind.stores.migrations.postgres import migrate_postgres

_numbers = count(1)


async def _execute(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@pytest.fixture(scope="session")
def migrated(postgres_server_url: str) -> Iterator[str]:
    """The name of a database to copy."""
    name = f"migrated_{os.getpid()}"
    asyncio.run(_execute(postgres_server_url, f'create database "{name}"'))
    asyncio.run(migrate_postgres(urlsplit(postgres_server_url)._replace(path=f"/{name}").geturl()))
    yield name
    asyncio.run(_execute(postgres_server_url, f'drop database "{name}" with (force)'))


@pytest.fixture
def store_url(postgres_server_url: str, migrated: str) -> Iterator[str]:
    """A fresh database with empty tables."""
    name = f"store_{os.getpid()}_{next(_numbers)}"
    asyncio.run(_execute(postgres_server_url, f'create database "{name}" template "{migrated}"'))
    yield urlsplit(postgres_server_url)._replace(path=f"/{name}").geturl()
    asyncio.run(_execute(postgres_server_url, f'drop database "{name}" with (force)'))
