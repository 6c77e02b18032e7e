"""Every store keeps API keys alike: in a dict, in an SQLite file and in memory, on a PostgreSQL server."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from secrets import token_bytes

import asyncpg
import pytest

from unwind.access import KeyStore, digest_of, id_in, make_key
from unwind.errors import SettingsError, UnavailableError
from unwind.settings import Secret, Server
from unwind.stores.memory_keys import MemoryKeys
from unwind.stores.opened_keys import open_keys
from unwind.stores.postgres.store import PostgresStore
from unwind.stores.sqlite import SQLiteStore
from unwind.testing.key_suite import KeySuite, fresh
from unwind.testing.store_examples import StoreClock


class TestMemoryKeys(KeySuite):
    @pytest.fixture
    def keys(self, clock: StoreClock) -> KeyStore:
        return MemoryKeys(clock)


class TestSQLiteKeys(KeySuite):
    @pytest.fixture
    async def keys(self, clock: StoreClock, tmp_path: Path) -> AsyncIterator[KeyStore]:
        store = await SQLiteStore.open(tmp_path / "sagas.db", now=clock)
        yield store.keys
        await store.close()


class TestSQLiteKeysInMemory(KeySuite):
    @pytest.fixture
    async def keys(self, clock: StoreClock) -> AsyncIterator[KeyStore]:
        store = SQLiteStore.in_memory(now=clock)
        yield store.keys
        await store.close()


@pytest.mark.integration
class TestPostgresKeys(KeySuite):
    @pytest.fixture
    async def keys(self, clock: StoreClock, store_url: str) -> AsyncIterator[KeyStore]:
        store = await PostgresStore.open(store_url, now=clock)
        yield store.keys
        await store.close()


def test_a_key_is_256_bits_of_chance_under_a_public_id() -> None:
    made = [make_key(token_bytes) for _ in range(100)]
    assert len({each.token for each in made}) == 100
    assert all(id_in(each.token) == each.id and digest_of(each.token) == each.digest for each in made)
    assert {len(each.token) for each in made} == {len("unwind_") + 8 + 1 + 43}
    assert all(each.token not in repr(each) and each.digest not in repr(each) for each in made)


@pytest.mark.parametrize(
    "text", ["", "unwind_", "unwind_0000000g_" + "A" * 43, "unwind_00000001_" + "A" * 42, "Ж" * 60]
)
def test_what_is_no_key_has_no_id(text: str) -> None:
    assert id_in(text) == ""


def list_files(folder: Path) -> list[Path]:
    return list(folder.iterdir())


async def test_nothing_in_a_file_gives_a_key_away(tmp_path: Path) -> None:
    made = make_key(token_bytes)
    async with open_keys(tmp_path / "sagas.db") as keys:
        await keys.add(made, "ada", "admin")
    for file in list_files(tmp_path):
        assert made.token.rpartition("_")[2].encode() not in file.read_bytes()
    with closing(sqlite3.connect(tmp_path / "sagas.db")) as database:
        assert database.execute("select id, digest from api_keys").fetchall() == [(made.id, made.digest)]


async def test_a_file_is_made_to_write_to_and_not_to_look_into(tmp_path: Path) -> None:
    path = tmp_path / "sagas.db"
    with pytest.raises(SettingsError, match="there is no database"):
        async with open_keys(path, only_read=True):
            pass
    async with open_keys(path) as keys:
        await keys.add(fresh(1), "ada", "read")
    async with open_keys(path, only_read=True) as keys:
        assert [key.name for key in (await keys.keys()).keys] == ["ada"]
        with pytest.raises(UnavailableError):
            await keys.revoke(fresh(1).id)


@pytest.mark.integration
async def test_a_server_is_opened_likewise_and_tells_the_time_itself(store_url: str) -> None:
    server = Server(Secret(store_url), "there")
    async with open_keys(server) as keys:
        key = await keys.add(fresh(1), "ada", "read", lasts=1_000_000)
        kept = await keys.keys()
        assert key.created_at <= kept.now
        assert key.expires_at == key.created_at + 1_000_000
    async with open_keys(server, only_read=True) as keys:
        assert (await keys.keys()).keys == (key,)
        with pytest.raises(UnavailableError):
            await keys.revoke(key.id)


@pytest.mark.integration
async def test_a_server_refuses_a_scope_that_there_is_not(store_url: str) -> None:
    connection = await asyncpg.connect(store_url)
    try:
        with pytest.raises(asyncpg.CheckViolationError):
            await connection.execute(
                "insert into api_keys (id, name, scope, digest, created_at)"
                " values ('1', 'a', 'root', repeat('0', 64), 1)"
            )
    finally:
        await connection.close()
