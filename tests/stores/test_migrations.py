"""Migrations of an SQLite file: up, down, from every release, several at once, failing; and what a start pays."""

import re
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from unwind.errors import SettingsError
from unwind.ports import Query
from unwind.stores.migrations.create import create
from unwind.stores.migrations.revisions import DIALECTS, SQLITE, TABLE, newest, revisions
from unwind.stores.migrations.sqlite import APPLICATION, migrate_sqlite, read_version
from unwind.stores.sqlite import SQLiteStore
from unwind.stores.sqlite.connections import connect_memory
from unwind.testing.store_examples import StoreClock, snapshot

RELEASED = sorted((Path(__file__).parent / "released").glob("sqlite-*.sql"))
HEAD = newest(SQLITE)
SECOND = "alter table cursors add column moved_at integer;\ncreate index cursors_moved on cursors (moved_at);\n"
SECOND_DOWN = "drop index cursors_moved;\nalter table cursors drop column moved_at;\n"
MIGRATING = """
import sqlite3, sys
from unwind.stores.migrations.sqlite import migrate_sqlite

def stop_at_begin(statement):
    if statement.startswith("begin"):
        database.set_trace_callback(None)
        print("begins", flush=True)
        sys.stdin.readline()

database = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=30)
database.set_trace_callback(stop_at_begin)
migrate_sqlite(database)
"""
STARTING = """
import asyncio, sys
from unwind.stores.sqlite import SQLiteStore

async def main():
    await (await SQLiteStore.open(sys.argv[1])).close()
    await SQLiteStore.in_memory(now=lambda: 0).close()

asyncio.run(main())
print(*sorted({"alembic", "sqlalchemy", "mako"} & sys.modules.keys()))
"""


def open_file(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sagas.db"


@pytest.fixture
def database(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(open_file(path)) as database:
        yield database


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The schema, with one migration more."""
    folder = tmp_path / "schema"
    shutil.copytree(SQLITE, folder)
    add(folder, HEAD + 1, SECOND, SECOND_DOWN)
    return folder


def add(folder: Path, number: int, up: str, down: str = "") -> None:
    (folder / f"{number:03}_more.up.sql").write_text(up)
    (folder / f"{number:03}_more.down.sql").write_text(down)


def write_release(database: sqlite3.Connection, release: Path) -> None:
    database.executescript(release.read_text("utf-8"))


def schema(database: sqlite3.Connection, *, ours: bool = False) -> list[tuple[str, ...]]:
    """All that was created; `ours`: without Alembic's table."""
    statement = "select type, name, tbl_name, sql from sqlite_schema where name not like 'sqlite_%' order by type, name"
    return [each for each in database.execute(statement) if not (ours and each[1] == TABLE)]


def marks(database: sqlite3.Connection) -> tuple[list[str], int, int]:
    """The version as Alembic keeps it, as 0.1.0 did, and whose file it is."""
    [user] = database.execute("pragma user_version").fetchone()
    [application] = database.execute("pragma application_id").fetchone()
    return [each for [each] in database.execute(f"select version_num from {TABLE}")], user, application


# ------------------------------------------------------------------------------------------------------------ up, down


def test_up_down_up_equals_a_fresh_schema(database: sqlite3.Connection, folder: Path, tmp_path: Path) -> None:
    migrate_sqlite(database, folder=folder)
    fresh = schema(database)
    assert len(fresh) >= 10
    assert marks(database) == ([f"{HEAD + 1:03}"], HEAD + 1, APPLICATION)
    for version in range(HEAD, -1, -1):
        migrate_sqlite(database, "down", version, folder)
        assert read_version(database, folder) == version
        with closing(open_file(tmp_path / f"only_to_{version}.db")) as other:
            migrate_sqlite(other, "up", version, folder)
            assert schema(database, ours=True) == schema(other, ours=True)
    assert schema(database, ours=True) == []
    assert marks(database) == ([], 0, APPLICATION)
    migrate_sqlite(database, folder=folder)
    assert schema(database) == fresh
    assert marks(database) == ([f"{HEAD + 1:03}"], HEAD + 1, APPLICATION)


def test_up_never_goes_down_nor_down_up(database: sqlite3.Connection, folder: Path) -> None:
    migrate_sqlite(database, "up", 1, folder)
    migrate_sqlite(database, "up", 0, folder)
    migrate_sqlite(database, "down", 2, folder)
    assert read_version(database, folder) == 1


def test_a_database_in_memory_has_the_newest_schema(database: sqlite3.Connection) -> None:
    migrate_sqlite(database)
    with closing(connect_memory()) as one, closing(connect_memory()) as other:
        assert schema(one) == schema(database, ours=True)
        one.execute("insert into cursors values ('mine', '1')")
        assert other.execute("select count(*) from cursors").fetchone() == (0,)


def test_the_dialects_have_the_same_migrations_without_a_gap() -> None:
    listed = [[(each.number, each.name) for each in revisions(folder)] for folder in DIALECTS]
    assert [number for number, _ in listed[0]] == list(range(1, HEAD + 1))
    assert all(each == listed[0] for each in listed)
    for folder in DIALECTS:
        assert {file.name for file in folder.iterdir()} == {
            each.file(way).name for each in revisions(folder) for way in ("up", "down")
        }


def test_there_is_a_file_of_every_release() -> None:
    assert "sqlite-0.1.0.sql" in [file.name for file in RELEASED]


@pytest.mark.parametrize("release", RELEASED, ids=lambda file: file.stem)
async def test_a_file_of_a_release_is_adopted_with_all_it_holds(release: Path, path: Path, tmp_path: Path) -> None:
    with closing(open_file(path)) as old:
        write_release(old, release)
        assert old.execute("select count(*) from sqlite_schema where name = ?", [TABLE]).fetchone() == (0,)
    for _ in range(2):
        store = await SQLiteStore.open(path, now=StoreClock())
        assert [entry.stream for entry in (await store.tail("anybody", 9)).entries] == ["kept", "too", "order of kept"]
        assert [row.id for row in await store.find(Query())] == ["kept"]
        [kept] = (await store.load({"kept": 0})).streams.values()
        assert kept.snapshot == snapshot(1)
        await store.close()
    with closing(open_file(path)) as now, closing(open_file(tmp_path / "fresh.db")) as fresh:
        migrate_sqlite(fresh)
        assert schema(now) == schema(fresh)
        assert marks(now) == marks(fresh)


def test_a_file_of_the_first_release_goes_up_by_what_came_since(database: sqlite3.Connection, folder: Path) -> None:
    write_release(database, RELEASED[0])
    migrate_sqlite(database, folder=folder)
    assert marks(database) == ([f"{HEAD + 1:03}"], HEAD + 1, APPLICATION)
    assert database.execute("select count(*) from commits").fetchone() == (3,)
    database.execute("select moved_at from cursors")


# ------------------------------------------------------------------------------------------------------------- refused


def test_a_migration_that_fails_leaves_nothing_of_itself(database: sqlite3.Connection, folder: Path) -> None:
    add(folder, HEAD + 2, "create table good (id);\ncreate tabel bad (id);\n")
    name = f"{HEAD + 2:03}_more.up.sql"
    with pytest.raises(SettingsError, match=rf'^{name}: near "tabel": syntax error; nothing of it was kept$'):
        migrate_sqlite(database, folder=folder)
    # Those before it stay.
    assert marks(database) == ([f"{HEAD + 1:03}"], HEAD + 1, APPLICATION)
    assert not database.in_transaction
    assert "good" not in {name for _, name, *_ in schema(database)}
    add(folder, HEAD + 2, "create table good (id);\n")
    migrate_sqlite(database, folder=folder)
    assert "good" in {name for _, name, *_ in schema(database)}


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("update alembic_version set version_num = '999'", r"schema 999 .* knows \d+: a newer version wrote it"),
        ("drop table alembic_version; pragma user_version = 999", r"schema 999 .* knows \d+: a newer version wrote it"),
        ("update alembic_version set version_num = 'ae1027a6acf'", "'ae1027a6acf', which is no version of Unwind"),
        ("insert into alembic_version values ('000')", "'002, 000', which is no version of Unwind"),
        ("pragma application_id = 7", "database of another program"),
    ],
)
def test_what_this_program_does_not_know_is_left_as_it_is(database: sqlite3.Connection, spoil: str, why: str) -> None:
    migrate_sqlite(database)
    database.executescript(spoil)
    before = schema(database)
    with pytest.raises(SettingsError, match=why):
        migrate_sqlite(database)
    with pytest.raises(SettingsError, match=why):
        migrate_sqlite(database, "down", 0)
    assert schema(database) == before


# ------------------------------------------------------------------------------------------------------------ together


def test_processes_that_migrate_at_once_wait_for_one_another(path: Path) -> None:
    program = [sys.executable, "-c", MIGRATING, str(path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(program, stdin=pipe, stdout=pipe, stderr=pipe, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "begins\n"
    with closing(open_file(path)) as database:
        # They come to a file that is locked, and go on all at the same moment.
        database.execute("begin immediate")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        database.execute("rollback")
        ended = [process.communicate() for process in processes]
        assert [(process.returncode, errors) for process, (_, errors) in zip(processes, ended, strict=True)] == [
            (0, "") for _ in processes
        ]
        assert marks(database) == ([f"{HEAD:03}"], HEAD, APPLICATION)


# ------------------------------------------------------------------------------------------------------ what it costs


def test_a_start_with_nothing_to_do_and_a_database_in_memory_load_no_alembic(path: Path) -> None:
    loaded = [
        subprocess.run([sys.executable, "-c", STARTING, str(path)], capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    ]
    assert "alembic" in loaded[0]
    assert loaded[1] == "\n"


# ---------------------------------------------------------------------------------------------------------- a new one


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A checkout with two dialects."""
    (tmp_path / "pyproject.toml").touch()
    for dialect in ("one", "other"):
        (tmp_path / dialect).mkdir()
        (tmp_path / dialect / "001_initial.up.sql").touch()
    return tmp_path


def test_a_new_migration_is_the_next_number_in_every_dialect(sources: Path) -> None:
    folders = [sources / "one", sources / "other"]
    written = create(" Add-priorities to sagas", sources, folders)
    assert [str(file.relative_to(sources)) for file in written] == [
        f"{dialect}/002_add_priorities_to_sagas.{way}.sql" for dialect in ("one", "other") for way in ("up", "down")
    ]
    assert all(file.read_text().startswith("-- ") for file in written)
    assert [each.name for each in revisions(folders[0])] == ["initial", "add_priorities_to_sagas"]


@pytest.mark.parametrize("name", ["", "../x", "1st", "a.b", "é", "x" * 60])
def test_a_name_that_is_no_good_writes_nothing(sources: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="is no name for a migration"):
        create(name, sources, [sources / "one"])
    assert len(list((sources / "one").iterdir())) == 1


def test_an_installed_package_gets_no_migrations(sources: Path) -> None:
    (sources / "pyproject.toml").unlink()
    with pytest.raises(SettingsError, match="in a checkout of the sources"):
        create("more", sources, [sources / "one"])
    with pytest.raises(SettingsError, match="in a checkout of the sources"):
        create("more", sources / "other", [sources / "one"])


def test_dialects_that_came_apart_are_evened_out_first(sources: Path) -> None:
    add(sources / "one", 2, "")
    with pytest.raises(SettingsError, match=re.escape("have 1 and 2 migrations")):
        create("more", sources, [sources / "one", sources / "other"])
