"""What is special about a file: crashes, second writers, files that are not ours, who may change what, plans."""

import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from unwind.errors import SettingsError, UnavailableError
from unwind.ports import Query
from unwind.stores.migrations.sqlite import migrate_sqlite
from unwind.stores.sqlite import SQLiteStore
from unwind.stores.sqlite.batch import SQL
from unwind.stores.sqlite.connections import connect_memory, connect_reader
from unwind.stores.sqlite.guard import Version, bears_several_writers
from unwind.testing.store_examples import REVISION, StoreClock, contents, log_of, unit

AFFECTED, MENDED = (3, 51, 2), (3, 51, 3)
LOAD = """
import asyncio, os, sys
from unwind.stores.sqlite import SQLiteStore
from unwind.testing.store_examples import StoreClock, unit

async def write(store, life, task):
    for n in range(100_000):
        ids = [f"{life}.{task}.{n}.{k}" for k in range(5)]
        await store.commit([unit(id, whole=True) for id in ids])
        os.write(1, ("".join(f"{id}\\n" for id in ids)).encode())

async def main(path, life):
    store = await SQLiteStore.open(path, now=StoreClock())
    await asyncio.gather(*(write(store, life, task) for task in range(6)))

asyncio.run(main(*sys.argv[1:]))
"""


def _writing_process(path: Path, life: int) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", LOAD, str(path), str(life)], stdout=subprocess.PIPE, text=True)


def _line(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    line = child.stdout.readline()
    assert line, "the process has ended by itself"
    return line.strip()


def _rest(child: "subprocess.Popen[str]") -> str:
    assert child.stdout is not None
    return child.stdout.read()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "sagas.db"


@pytest.fixture
def clock() -> StoreClock:
    return StoreClock()


async def test_every_acknowledged_unit_survives_kill_9_and_no_unit_is_torn(path: Path, clock: StoreClock) -> None:
    acknowledged: set[str] = set()
    for life in range(3):
        with _writing_process(path, life) as child:
            acknowledged |= {_line(child) for _ in range(400)}
            child.send_signal(signal.SIGKILL)
            # The last piece is what the kill has cut off, or empty.
            acknowledged |= set(_rest(child).split("\n")[:-1])
        store = await SQLiteStore.open(path, now=clock)
        stored = {entry.stream for entry in await log_of(store, f"life {life}")}
        sagas = {stream for stream in stored if not stream.startswith("order of ")}
        assert acknowledged <= sagas
        assert stored == sagas | {f"order of {saga}" for saga in sagas}
        assert {row.id for row in await store.find(Query(limit=1_000_000))} == sagas
        loaded = (await store.load(dict.fromkeys(sagas, 0))).streams
        assert {saga for saga, stream in loaded.items() if stream.snapshot is not None} == sagas
        await store.close()
    with closing(connect_reader(path)) as reader:
        assert reader.execute("pragma integrity_check").fetchall() == [("ok",)]


async def test_everything_is_there_after_closing_and_opening_again(path: Path, clock: StoreClock) -> None:
    store = await SQLiteStore.open(path, now=clock)
    await store.commit([unit("s", whole=True), unit("t")])
    await store.lease(["s/pay/do"], 100)
    await store.register([("order", 1, "x")])
    await store.advance("c", (await store.tail("c", 1)).cursor)
    before = await contents(store, "s", "t"), await store.tail("c", 10)
    await store.close()
    store = await SQLiteStore.open(path, now=clock)
    assert (await contents(store, "s", "t"), await store.tail("c", 10)) == before
    assert (await store.register([("order", 1, "y")])).clashes == [("order", 1, "y")]
    assert (await store.commit([unit("s")])).won == set()
    await store.close()


# ------------------------------------------------------------------------------------------------------ second writers


@pytest.mark.parametrize(
    ("version", "safe"),
    [
        *(((3, 40, 1), False), ((3, 44, 5), False), ((3, 44, 6), True), ((3, 45, 0), False)),
        *(((3, 50, 6), False), ((3, 50, 7), True), ((3, 51, 2), False), ((3, 51, 3), True), ((3, 53, 0), True)),
    ],
)
def test_versions_with_the_wal_reset_bug_are_known(version: Version, safe: bool) -> None:
    assert bears_several_writers(version) is safe


@pytest.mark.parametrize(("first", "second"), [(AFFECTED, AFFECTED), (MENDED, AFFECTED), (AFFECTED, MENDED)])
async def test_a_second_writer_is_refused_where_one_of_the_two_has_the_bug(
    path: Path, first: Version, second: Version
) -> None:
    store = await SQLiteStore.open(path, version=first)
    with pytest.raises(SettingsError, match=r"another process writes .*sagas\.db.*two writers can corrupt"):
        await SQLiteStore.open(path, version=second)
    await store.close()
    await (await SQLiteStore.open(path, version=second)).close()


async def test_several_writers_share_a_file_where_sqlite_is_mended(path: Path, clock: StoreClock) -> None:
    stores = [await SQLiteStore.open(path, now=clock, version=MENDED) for _ in range(2)]
    won = [(await store.commit([unit("s"), unit(f"own {n}")])).won for n, store in enumerate(stores)]
    assert won == [{"s", "own 0"}, {"own 1"}]
    assert await contents(stores[0], "s") == await contents(stores[1], "s")
    for store in stores:
        await store.close()


async def test_a_killed_process_holds_no_file(path: Path) -> None:
    with _writing_process(path, 0) as child:
        _line(child)
        with pytest.raises(SettingsError, match="another process writes"):
            await SQLiteStore.open(path, version=AFFECTED)
        child.kill()
    await (await SQLiteStore.open(path, version=AFFECTED)).close()


# ----------------------------------------------------------------------------------------------------- files not ours


def _garbage(path: Path) -> None:
    path.write_bytes(b"this is not a database" * 100)


def _directory(path: Path) -> None:
    path.mkdir()


def _below_a_file(path: Path) -> None:
    path.symlink_to("/dev/null/sagas.db")


def _other_program(path: Path) -> None:
    with sqlite3.connect(path) as database:
        database.execute("create table accounts (id)")
    database.close()


def _newer_program(path: Path) -> None:
    with sqlite3.connect(path) as database:
        migrate_sqlite(database)
        database.execute("update alembic_version set version_num = '999'")
    database.close()


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (_garbage, "not a database"),
        (_directory, "Is a directory"),
        (_below_a_file, "Not a directory"),
        (_other_program, "database of another program"),
        (_newer_program, "a newer version wrote it"),
    ],
)
async def test_a_file_that_cannot_be_used_is_named_with_the_reason(path: Path, spoil: object, why: str) -> None:
    assert callable(spoil)
    spoil(path)
    for _ in range(2):
        with pytest.raises(
            SettingsError, match=f"^{re.escape(str(path))} cannot be used as a database: .*{why}[^\n]*$"
        ):
            await SQLiteStore.open(path)


async def test_a_new_file_comes_with_its_folder_and_is_its_owners_only(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "sagas.db"
    store = await SQLiteStore.open(path)
    await store.commit([unit("s")])
    modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir() if file.suffix != ".lock"}
    assert modes == dict.fromkeys(("sagas.db", "sagas.db-wal", "sagas.db-shm"), 0o600)
    assert path.parent.stat().st_mode & 0o777 == 0o700
    await store.close()
    assert sorted(file.name for file in path.parent.iterdir()) == ["sagas.db", "sagas.db.lock"]


# -------------------------------------------------------------------------------------------------------------- schema


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    database = connect_memory()
    yield database
    database.close()


@pytest.mark.parametrize("change", ["update commits set version = 2", "delete from commits", "delete from events"])
async def test_the_log_cannot_be_changed(path: Path, change: str, clock: StoreClock) -> None:
    store = await SQLiteStore.open(path, now=clock)
    await store.commit([unit("s")])
    before = await log_of(store)
    await store.close()
    database = sqlite3.connect(path)
    with pytest.raises(sqlite3.Error, match=r"append-only|cannot modify events"):
        database.execute(change)
    database.close()
    store = await SQLiteStore.open(path, now=clock)
    assert await log_of(store, "again") == before
    await store.close()


def test_a_reader_cannot_write(path: Path) -> None:
    with sqlite3.connect(path) as database:
        migrate_sqlite(database)
    database.close()
    reader = connect_reader(path)
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("insert into cursors values ('c', '1')")
    reader.close()


def test_people_see_one_row_per_event(database: sqlite3.Connection) -> None:
    database.execute(
        "insert into commits values (7, 's', 3, 'saga', 2, ?, 1700000000500000)",
        (b'[{"type":"a/1","n":1},{"type":"b/2"}]',),
    )
    rows = database.execute("select position, stream_id, version, category, type, recorded, event from events")
    assert rows.fetchall() == [
        (7, "s", 3, "saga", "a/1", "2023-11-14T22:13:20.500Z", '{"type":"a/1","n":1}'),
        (7, "s", 4, "saga", "b/2", "2023-11-14T22:13:20.500Z", '{"type":"b/2"}'),
    ]


async def test_a_file_that_is_opened_to_read_is_read_while_another_writes_it_and_never_written(path: Path) -> None:
    with pytest.raises(SettingsError, match="there is no database"):
        await SQLiteStore.open_to_read(path)
    store = await SQLiteStore.open(path, now=StoreClock())
    await store.commit([unit("s", whole=True)])
    reader = await SQLiteStore.open_to_read(path)
    await store.commit([unit("t", whole=True)])
    assert [row.id for row in await reader.find(Query(live_on=REVISION))] == ["t", "s"]
    assert (await reader.register([], note=False)).others == {REVISION: 2}
    assert (await reader.load({"s": 0})).streams == (await store.load({"s": 0})).streams
    for write in (reader.commit([unit("u")]), reader.register([("a", 1, "x")]), reader.claim(1, 1, [REVISION])):
        with pytest.raises(UnavailableError, match="opened to be read only; nothing is stored"):
            await write
    await reader.close()
    await store.commit([unit("u")])
    await store.close()


# --------------------------------------------------------------------------------------------------------------- plans

TABLES = (
    "commits",
    "sagas",
    "snapshots",
    "leases",
    "cursors",
    "definitions",
    "found",
    "beside",
    "amount",
    "attributes",
    "value",
)
BRING_FORWARD = next(part for part in SQL["write_batch"].split(";") if "update sagas" in part)
STATEMENTS = {**SQL, "bring_forward": re.sub(r"new\.(\w+)", r":\1", BRING_FORWARD)}
STRETCH = "(name=? AND value=? AND started_at>? AND started_at<?)"
GROUPED = ("living", "tally", "tally_by_attribute", "tally_by_text")
PLANS = {
    "taken": "commits USING COVERING INDEX sqlite_autoindex_commits_1 (stream_id=? AND version=?)",
    "load_commits": "commits USING INDEX sqlite_autoindex_commits_1 (stream_id=? AND version>?)",
    "load_snapshots": "snapshots USING INDEX sqlite_autoindex_snapshots_1 (stream_id=?)",
    "load_leases": "leases USING PRIMARY KEY (saga_id=?)",
    "due": "sagas USING INDEX sagas_due (wake_at<?)",
    "push": "sagas USING PRIMARY KEY (id=?)",
    "bring_forward": "sagas USING PRIMARY KEY (id=?)",
    "move": "sagas USING COVERING INDEX sagas_due (wake_at=? AND id=?)",
    "cursor": "cursors USING PRIMARY KEY (consumer=?)",
    "tail": "commits USING INTEGER PRIMARY KEY (rowid>?)",
    "find": "sagas USING INDEX sagas_started (started_at>? AND started_at<?)",
    "find_by_id": "sagas USING PRIMARY KEY (id=?)",
    "find_live": "sagas USING INDEX sagas_live (revision=? AND started_at>? AND started_at<?)",
    "live_others": "sagas USING INDEX sagas_live (revision>?)",
    "living": "sagas USING INDEX sagas_live (revision=?)",
    "find_by_attribute": f"found USING COVERING INDEX attributes_found {STRETCH}",
    "find_by_text": "INDEX attributes_found (name=? AND value>? AND value<?)",
    "tally_by_text": "INDEX attributes_found (name=? AND value>? AND value<?)",
    "tally": "sagas USING INDEX sagas_started (started_at>? AND started_at<?)",
    "tally_by_attribute": f"found USING COVERING INDEX attributes_found {STRETCH}",
    "paces": "sagas USING INDEX sagas_ended (definition=? AND ended_at>?)",
    "ended": "sagas USING INDEX sagas_ended (definition=? AND ended_at>?)",
    "clashing": "definitions USING PRIMARY KEY (name=? AND version=?)",
}


@pytest.mark.parametrize("analyzed", [False, True])
@pytest.mark.parametrize("name", PLANS)
def test_no_statement_walks_through_a_table(database: sqlite3.Connection, name: str, analyzed: bool) -> None:
    if analyzed:
        numbers = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 2000)"
        database.execute(f"{numbers} insert into commits select i, i / 5, i, 'saga', 1, x'', i from n")
        database.execute(
            f"{numbers} insert into sagas select i, 'r', 'd', iif(i % 9, 'completed', 'running'),"
            " iif(i % 9, null, i), '', i, i, i from n"
        )
        database.execute(f"{numbers} insert into attributes select i, 'n', i % 2, i from n")
        database.execute("analyze")
    parameters = dict.fromkeys(re.findall(r":(\w+)", STATEMENTS[name]))
    plan = [step[3] for step in database.execute(f"explain query plan {STATEMENTS[name]}", parameters)]
    assert any(PLANS[name] in step for step in plan), plan
    walks = [step for step in plan if re.match(rf"SCAN ({'|'.join(TABLES)})", step)]
    assert walks == []
    if name.endswith("_by_text"):
        for other in (
            "sagas USING PRIMARY KEY (id>? AND id<?)",
            "sagas_correlated (correlation_id>? AND correlation_id<?)",
        ):
            assert any(other in step for step in plan), plan
    if name not in {"find_by_id", "find_by_text", *GROUPED}:
        assert not any("TEMP B-TREE FOR ORDER BY" in step for step in plan), plan
