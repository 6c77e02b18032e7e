"""Migrations of a PostgreSQL database: up, down, several at once, failing, only checked; scripts with functions."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from tests.cli.conftest import clean
from tests.eventually import eventually
from typer.testing import CliRunner

from unwind.cli.main import app
from unwind.errors import SettingsError, UnavailableError
from unwind.stores.migrations.postgres import check_postgres, migrate_postgres, read_version
from unwind.stores.migrations.postgres_steps import LOCK
from unwind.stores.migrations.revisions import POSTGRES, TABLE, newest

pytestmark = pytest.mark.integration

FIRST = """
-- A comment; it has a semicolon, and 'a quote.
create table logged (
    position bigint generated always as identity primary key,
    name     text not null unique,
    data     bytea not null check (length(data) < 9)
);
create function refuse() returns trigger language plpgsql as $body$
begin
    raise exception 'logged is append-only; not %', tg_op;
end;
$body$;
create trigger never_changed before update or delete on logged for each row execute function refuse();
create view shown as select name, length(data) as size from logged;
"""
FIRST_DOWN = "drop view shown;\ndrop table logged;\ndrop function refuse();\n"
SECOND = "create type mood as enum ('good', 'bad');\nalter table logged add column mood mood default 'good';\n"
SECOND_DOWN = "alter table logged drop column mood;\ndrop type mood;\n"
# What a dump of the schema tells, less the names of Alembic's.
DUMP = """
select kind, name, what from (
    select 'column', c.relname || '.' || a.attname,
           concat_ws(' ', rank() over (partition by c.oid order by a.attnum), format_type(a.atttypid, a.atttypmod),
                     a.attnotnull, a.attidentity, a.attgenerated, a.attstorage, pg_get_expr(d.adbin, d.adrelid))
      from pg_attribute a join pg_class c on c.oid = a.attrelid
      left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
     where a.attnum > 0 and not a.attisdropped and c.relnamespace = 'public'::regnamespace
    union all
    select 'relation', relname, concat_ws(' ', relkind, relpersistence, reloptions::text, relacl::text)
      from pg_class where relnamespace = 'public'::regnamespace
    union all
    select 'constraint', conrelid::regclass || '.' || conname, pg_get_constraintdef(oid)
      from pg_constraint where connamespace = 'public'::regnamespace
    union all
    select 'index', indexrelid::regclass::text, pg_get_indexdef(indexrelid)
      from pg_index join pg_class c on c.oid = indexrelid where c.relnamespace = 'public'::regnamespace
    union all
    select 'view', viewname, definition from pg_views where schemaname = 'public'
    union all
    select 'trigger', tgrelid::regclass || '.' || tgname, pg_get_triggerdef(oid) from pg_trigger where not tgisinternal
    union all
    select 'function', oid::regprocedure::text, pg_get_functiondef(oid)
      from pg_proc where pronamespace = 'public'::regnamespace
    union all
    select 'type', t.typname, string_agg(e.enumlabel, ' ' order by e.enumsortorder)
      from pg_type t left join pg_enum e on e.enumtypid = t.oid
     where t.typnamespace = 'public'::regnamespace group by t.typname
) as dump(kind, name, what) where name !~ 'alembic_version' order by 1, 2
"""


def add(folder: Path, number: int, up: str, down: str = "") -> None:
    (folder / f"{number:03}_more.up.sql").write_text(up)
    (folder / f"{number:03}_more.down.sql").write_text(down)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    add(tmp_path, 1, FIRST, FIRST_DOWN)
    add(tmp_path, 2, SECOND, SECOND_DOWN)
    return tmp_path


@pytest.fixture
async def connection(postgres_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(postgres_url)
    yield connection
    await connection.close()


async def dump(connection: asyncpg.Connection) -> list[tuple[str, ...]]:
    return [tuple(row) for row in await connection.fetch(DUMP)]


async def noted(connection: asyncpg.Connection) -> list[str]:
    return [version for [version] in await connection.fetch(f"select version_num from {TABLE}")]


async def up_down_up(connection: asyncpg.Connection, url: str, folder: Path) -> None:
    """What stands after each version must not depend on the way there."""
    stages = [await dump(connection)]
    assert stages == [[]]
    assert newest(folder) > 0
    for version in range(1, newest(folder) + 1):
        await migrate_postgres(url, "up", version, folder)
        assert await noted(connection) == [f"{version:03}"]
        stages.append(await dump(connection))
        assert stages[-1] not in stages[:-1]
    for version in range(newest(folder) - 1, -1, -1):
        await migrate_postgres(url, "down", version, folder)
        assert await read_version(connection, folder) == version
        assert await dump(connection) == stages[version]
    await migrate_postgres(url, folder=folder)
    assert await dump(connection) == stages[-1]


async def test_up_down_up_equals_a_fresh_schema(connection: asyncpg.Connection, postgres_url: str) -> None:
    await up_down_up(connection, postgres_url, POSTGRES)
    await check_postgres(connection)


async def test_scripts_may_hold_functions_triggers_and_types(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    await up_down_up(connection, postgres_url, folder)
    assert {kind for kind, *_ in await dump(connection)} == {
        *("column", "relation", "constraint", "index", "view", "trigger", "function", "type")
    }
    await connection.execute("insert into logged (name, data) values ('a', 'x')")
    with pytest.raises(asyncpg.RaiseError, match="append-only; not UPDATE"):
        await connection.execute("update logged set name = 'b'")


async def test_up_never_goes_down_nor_down_up(connection: asyncpg.Connection, postgres_url: str, folder: Path) -> None:
    await migrate_postgres(postgres_url, "up", 1, folder)
    await migrate_postgres(postgres_url, "up", 0, folder)
    await migrate_postgres(postgres_url, "down", 2, folder)
    assert await read_version(connection, folder) == 1


# ------------------------------------------------------------------------------------------------------------- checked


async def test_a_database_is_used_only_with_the_schema_it_needs(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    with pytest.raises(SettingsError, match=r"^it has no tables yet; run: unwind migrate up$"):
        await check_postgres(connection, folder)
    await migrate_postgres(postgres_url, "up", 1, folder)
    with pytest.raises(SettingsError, match=r"^it has schema 1 and this program needs 2; run: unwind migrate up$"):
        await check_postgres(connection, folder)
    await migrate_postgres(postgres_url, folder=folder)
    await check_postgres(connection, folder)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("update alembic_version set version_num = '999'", "schema 999 and this program knows 2: a newer version"),
        ("update alembic_version set version_num = 'ae1027a6acf'", "'ae1027a6acf', which is no version of Unwind"),
        ("insert into alembic_version values ('001')", "which is no version of Unwind"),
    ],
)
async def test_what_this_program_does_not_know_is_left_as_it_is(
    connection: asyncpg.Connection, postgres_url: str, folder: Path, spoil: str, why: str
) -> None:
    await migrate_postgres(postgres_url, folder=folder)
    await connection.execute(spoil)
    before = await dump(connection)
    with pytest.raises(SettingsError, match=why):
        await check_postgres(connection, folder)
    with pytest.raises(SettingsError, match=why):
        await migrate_postgres(postgres_url, folder=folder)
    with pytest.raises(SettingsError, match=why):
        await migrate_postgres(postgres_url, "down", 0, folder)
    assert await dump(connection) == before


async def test_a_migration_that_fails_leaves_nothing_of_itself(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    await migrate_postgres(postgres_url, "up", 2, folder)
    before = await dump(connection)
    add(folder, 3, "create table good (id int); create function f() returns int return 1; create tabel bad (id int);")
    with pytest.raises(
        SettingsError, match=r': 003_more.up.sql: syntax error at or near "tabel"; nothing of it was kept$'
    ):
        await migrate_postgres(postgres_url, folder=folder)
    assert (await dump(connection), await noted(connection)) == (before, ["002"])
    add(folder, 3, "create table good (id int);")
    await migrate_postgres(postgres_url, folder=folder)
    assert await noted(connection) == ["003"]


async def test_a_migration_that_is_only_a_comment_goes_up_and_down(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    add(folder, 3, "-- as `migrate create` leaves it\n", "-- and back\n")
    await migrate_postgres(postgres_url, folder=folder)
    assert await noted(connection) == ["003"]
    await migrate_postgres(postgres_url, "down", 2, folder)
    assert await noted(connection) == ["002"]


async def test_a_role_without_rights_is_told_what_is_missing(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    add(folder, 3, "revoke create on schema public from public; set local role pg_monitor; create table mine (id int);")
    with pytest.raises(SettingsError, match=r": 003_more.up.sql: permission denied for schema public; nothing of it"):
        await migrate_postgres(postgres_url, folder=folder)
    assert await noted(connection) == ["002"]


async def test_a_server_that_is_not_there_or_does_not_know_us_is_told_apart(postgres_url: str) -> None:
    place, _, database = postgres_url.partition("?")[0].rpartition("/")
    with pytest.raises(SettingsError, match=rf"/no_{database}: there is no such database; create it"):
        await migrate_postgres(f"{place}/no_{database}")
    with pytest.raises(UnavailableError, match=r"^PostgreSQL at 127.0.0.1:1/none cannot be reached"):
        await migrate_postgres("postgres://nobody:secret@127.0.0.1:1/none?sslmode=disable")


# ------------------------------------------------------------------------------------------------------------ together


async def test_who_migrates_at_once_waits_for_one_another(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    async def waiting() -> bool | None:
        locks = "select count(*) from pg_locks where locktype = 'advisory' and not granted and objid = $1"
        return await connection.fetchval(locks, LOCK) == 4 or None

    async with connection.transaction():
        await connection.execute("select pg_advisory_xact_lock($1)", LOCK)
        migrating = [asyncio.create_task(migrate_postgres(postgres_url, folder=folder)) for _ in range(4)]
        await eventually(waiting, 30)
        assert await dump(connection) == []
    await asyncio.gather(*migrating)
    assert await noted(connection) == ["002"]


async def test_a_lost_connection_leaves_the_migration_undone(
    connection: asyncpg.Connection, postgres_url: str, folder: Path
) -> None:
    add(folder, 3, "create table good (id int); select pg_terminate_backend(pg_backend_pid());")
    with pytest.raises(UnavailableError, match=r"^PostgreSQL at .* does not answer: "):
        await migrate_postgres(postgres_url, folder=folder)
    assert await noted(connection) == ["002"]
    assert "good" not in {name for _, name, _ in await dump(connection)}


async def test_limits_for_every_days_work_do_not_halt_a_migration(
    connection: asyncpg.Connection, postgres_url: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unwind.stores.postgres.connections.ANSWER", 0.2)
    add(folder, 3, "select pg_sleep(0.3); create table waited (id int);")
    name = await connection.fetchval("select quote_ident(current_database())")
    await connection.execute(f"alter database {name} set statement_timeout = '200ms'")
    await migrate_postgres(postgres_url, folder=folder)
    assert await noted(connection) == ["003"]


def test_it_is_shown_and_moved_from_the_command_line(postgres_url: str) -> None:
    def migrate(*arguments: str) -> tuple[int, str]:
        result = CliRunner().invoke(app, ["migrate", *arguments], env=clean(DATABASE_URL=postgres_url))
        return result.exit_code, result.output.splitlines()[0]

    place, head = urlsplit(postgres_url)._replace(query=""), newest(POSTGRES)
    shown = f"{place.netloc.rpartition('@')[2]}{place.path}"
    assert migrate("status") == (1, f"{shown}: schema 0 of {head}, behind; run: unwind migrate up")
    assert migrate("up") == (0, f"{shown}: schema 0 → {head}")
    assert migrate("status") == (0, f"{shown}: schema {head} of {head}, the newest")
    assert migrate("down", "--to", "0", "--yes") == (0, f"{shown}: schema {head} → 0")
