"""Databases for the saga log and the services, of each kind: the tests that use them run on both."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from tests.order_saga.services import SERVICES, execute, files, server

from unwind.settings import Database

BOTH = ["sqlite", pytest.param("postgres", marks=pytest.mark.integration)]
NAMES = ("engine", *SERVICES)


@pytest.fixture(scope="module")
def used_databases(postgres_server_url: str) -> Iterator[Mapping[str, Database]]:
    """Databases of a server that other tests of the module have used."""
    own, admin = f"orders_{uuid4().hex}", server(postgres_server_url)
    for name in NAMES:
        asyncio.run(execute(admin, f"create database {own}_{name}"))
    yield {name: server(urlsplit(postgres_server_url)._replace(path=f"/{own}_{name}").geturl()) for name in NAMES}
    for name in NAMES:
        asyncio.run(execute(admin, f"drop database {own}_{name} with (force)"))


@pytest.fixture
def served(used_databases: Mapping[str, Database]) -> Mapping[str, Database]:
    """Empty databases of a server: for what only several replicas can do."""
    for database in used_databases.values():
        asyncio.run(execute(database, "drop schema public cascade", "create schema public"))
    return used_databases


@pytest.fixture(params=BOTH)
def databases(request: pytest.FixtureRequest, tmp_path: Path) -> Mapping[str, Database]:
    """Empty databases: files, or of a server."""
    if request.param == "sqlite":
        return files(tmp_path)
    found: Mapping[str, Database] = request.getfixturevalue("served")
    return found
