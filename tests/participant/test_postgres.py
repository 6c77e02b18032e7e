"""A participant's database on PostgreSQL: the laws of all, races between replicas, what it survives, how it opens."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
import pytest
from asyncpg import Connection
from msgspec import Raw, Struct
from tests.participant.many import ManyDesk
from tests.servers import postgres as servers

from unwind.buses.memory import MemoryBus
from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command, Refused
from unwind.errors import RejectedError, SettingsError, UnavailableError
from unwind.ports import COMMANDS, REPLIES, Message, ParticipantStore, ParticipantTransaction
from unwind.runtime.clock import SystemClock
from unwind.runtime.participant import HandlerCall, Participant, answer, open_message
from unwind.runtime.participant_service import ParticipantService
from unwind.stores.postgres import barrier
from unwind.stores.postgres.barrier import SQL, PostgresParticipantStore
from unwind.testing.barrier_suite import BarrierSuite, Desk

pytestmark = pytest.mark.integration

LEDGER = "create table ledger (number bigint generated always as identity, entry text not null)"
ONCE = "create table ledger (entry text primary key)"
INSERT = "insert into ledger (entry) values ($1)"
FEW = 5


async def ledger_of(store: ParticipantStore[Connection]) -> list[str]:
    async def read(tx: ParticipantTransaction[Connection]) -> list[str]:
        return [entry for (entry,) in await tx.handle.fetch("select entry from ledger order by ctid")]

    return await store.transact(read)


class TestPostgresParticipantStore(BarrierSuite[Connection]):
    @pytest.fixture
    async def store(self, postgres_url: str) -> AsyncIterator[ParticipantStore[Connection]]:
        store = await PostgresParticipantStore.open(postgres_url, LEDGER)
        yield store
        await store.close()

    async def write(self, tx: Connection, entry: str) -> None:
        await tx.execute(INSERT, entry)

    async def ledger(self, store: ParticipantStore[Connection]) -> list[str]:
        return await ledger_of(store)


class TestManyInPostgres(TestPostgresParticipantStore):
    @pytest.fixture
    def desk(self, store: ParticipantStore[Connection]) -> Desk[Connection]:
        return ManyDesk(self, store)


class Book(Command, frozen=True, tag="desk.book"):
    pass


class Cancel(Command, frozen=True, tag="desk.cancel"):
    pass


class Booked(Struct, frozen=True, tag="desk.booked"):
    serial: int


Writing = Callable[[Connection, HandlerCall], Awaitable[object]]


def desk_of(write: Writing) -> Participant[Connection]:
    """Each run of its handler answers something else."""
    desk, serials = Participant[Connection]("desk"), count(1)

    @desk.handles(Book)
    async def book(tx: Connection, command: Book, call: HandlerCall) -> Booked | Refused:
        given = await write(tx, call)
        return given if isinstance(given, Refused) else Booked(next(serials))

    @desk.undoes(Cancel)
    async def cancel(tx: Connection, command: Cancel, call: HandlerCall) -> None:
        await tx.execute("insert into ledger (entry) values ($1)", f"{call.saga_id} cancelled")

    return desk


async def insert(tx: Connection, call: HandlerCall) -> None:
    await tx.execute(INSERT, call.saga_id)


def message(saga: str, direction: Direction = "do") -> Message:
    name = "desk.book" if direction == "do" else "desk.cancel"
    return Message(effect_id(saga, "step", direction), name, Raw(b"{}"), saga, "step", direction)


async def ask(store: PostgresParticipantStore, desk: Participant[Connection], *sagas: str) -> list[Answer]:
    given = await answer(store, [open_message(desk, message(saga)) for saga in sagas])
    return [each for each in given if each is not None]


@pytest.fixture
async def store(postgres_url: str) -> AsyncIterator[PostgresParticipantStore]:
    store = await PostgresParticipantStore.open(postgres_url, LEDGER)
    yield store
    await store.close()


# ----------------------------------------------------------------------------------------------------------- replicas


@pytest.mark.parametrize("table", [LEDGER, ONCE], ids=["only the barrier decides", "the business table decides first"])
async def test_two_replicas_that_handle_a_command_at_once_have_one_effect_and_one_answer(
    postgres_url: str, table: str
) -> None:
    replicas = [await PostgresParticipantStore.open(postgres_url, table) for _ in range(2)]
    runs: list[str] = []
    for number in range(20):
        together = asyncio.Barrier(2)

        async def write(tx: Connection, call: HandlerCall, together: asyncio.Barrier = together) -> None:
            runs.append(call.saga_id)
            if runs.count(call.saga_id) <= 2:  # both have begun before either writes
                await together.wait()
            await tx.execute(INSERT, call.saga_id)

        desk = desk_of(write)
        first, second = await asyncio.gather(*(ask(each, desk, f"saga-{number}") for each in replicas))
        assert first == second
        assert first[0].outcome == "ok"
    assert len(runs) == 40
    assert sorted(await ledger_of(replicas[0])) == sorted({*runs})
    for each in replicas:
        await each.close()


async def test_a_do_and_its_undo_at_once_on_two_replicas_leave_nothing_half_done(postgres_url: str) -> None:
    replicas = [await PostgresParticipantStore.open(postgres_url, LEDGER) for _ in range(2)]
    for number in range(20):
        running, together = asyncio.Event(), asyncio.Event()

        async def write(
            tx: Connection, call: HandlerCall, running: asyncio.Event = running, together: asyncio.Event = together
        ) -> None:
            running.set()
            await together.wait()
            await tx.execute(INSERT, call.saga_id)

        desk, saga = desk_of(write), f"saga-{number}"
        doing = asyncio.create_task(ask(replicas[0], desk, saga))
        await running.wait()
        undoing = asyncio.create_task(answer(replicas[1], [open_message(desk, message(saga, "undo"))]))
        if number % 2:  # the tombstone is there before the do writes
            await undoing
        together.set()
        [done], [undone] = await doing, await undoing
        effects = [entry for entry in await ledger_of(replicas[0]) if entry.split()[0] == saga]
        assert undone is not None
        assert undone.outcome == "ok"
        assert (done.outcome, effects) in [("refused", []), ("ok", [saga, f"{saga} cancelled"])]
        assert done.outcome == "refused" or not number % 2
    for each in replicas:
        await each.close()


async def test_batches_that_lock_one_another_are_done_all_the_same(postgres_url: str) -> None:
    stock = "create table stock (product text primary key, held integer not null)"
    replicas = [await PostgresParticipantStore.open(postgres_url, stock) for _ in range(2)]
    together, runs = asyncio.Barrier(2), count()

    async def hold(tx: Connection, call: HandlerCall) -> None:
        await tx.execute("update stock set held = held + 1 where product = $1", call.saga_id.partition("-")[0])
        if next(runs) < 2:  # each has one product before it wants the other
            await together.wait()

    async def fill(tx: ParticipantTransaction[Connection]) -> None:
        await tx.handle.execute("insert into stock values ('ham', 0), ('jam', 0)")

    await replicas[0].transact(fill)
    desk = desk_of(hold)
    given = await asyncio.gather(ask(replicas[0], desk, "ham-1", "jam-1"), ask(replicas[1], desk, "jam-2", "ham-2"))
    assert [each.outcome for answers in given for each in answers] == ["ok"] * 4

    async def held(tx: ParticipantTransaction[Connection]) -> list[int]:
        return [number for (number,) in await tx.handle.fetch("select held from stock")]

    assert await replicas[0].transact(held) == [2, 2]
    assert next(runs) > 4, "there was no deadlock to survive"
    for each in replicas:
        await each.close()


# ------------------------------------------------------------------------------------------------------- transactions


async def test_a_batch_costs_six_round_trips_however_many_commands_it_has(store: PostgresParticipantStore) -> None:
    desk = Participant[Connection]("desk")

    @desk.handles_many(Book)
    async def book(tx: Connection, commands: Sequence[Book], calls: Sequence[HandlerCall]) -> None:
        await tx.execute("insert into ledger (entry) select unnest($1::text[])", [call.saga_id for call in calls])

    seen: list[str] = []
    async with store._pool.connection() as connection:
        connection.add_query_logger(lambda record: seen.append(record.query))
    given = await ask(store, desk, *(f"saga-{number}" for number in range(300)))
    assert [each.outcome for each in given] == ["ok"] * 300
    await asyncio.sleep(0)  # the driver tells a moment later
    assert [query.split()[0].strip(";").lower() for query in seen] == [
        "begin",
        "select",
        "set",
        "insert",
        "insert",
        "commit",
    ]
    assert len(await ledger_of(store)) == 300


async def test_a_handler_may_have_savepoints_of_its_own(store: PostgresParticipantStore) -> None:
    async def write(tx: Connection, call: HandlerCall) -> None:
        await tx.execute(INSERT, call.saga_id)
        with pytest.raises(asyncpg.NotNullViolationError):
            async with tx.transaction():
                await tx.execute(INSERT, None)

    given = await ask(store, desk_of(write), "a", "b")
    assert [each.outcome for each in given] == ["ok", "ok"]
    assert await ledger_of(store) == ["a", "b"]


@pytest.mark.parametrize("end", ["commit", "rollback"])
async def test_a_handler_that_ends_the_transaction_is_told_and_takes_no_other_along(
    store: PostgresParticipantStore, end: str
) -> None:
    async def write(tx: Connection, call: HandlerCall) -> None:
        if call.saga_id == "b":
            await tx.execute(end)
        await tx.execute(INSERT, call.saga_id)

    given = await ask(store, desk_of(write), "a", "b", "c")
    assert [each.outcome for each in given] == ["ok", "failed", "ok"]
    assert "ended its transaction" in given[1].reason
    assert {"a", "c"} <= {*await ledger_of(store)}


async def test_an_answer_with_signs_that_text_cannot_hold_is_stored_and_repeated(
    store: PostgresParticipantStore,
) -> None:
    async def refuse(tx: Connection, call: HandlerCall) -> Refused:
        return Refused("none\0 left")

    first, again = await ask(store, desk_of(refuse), "a"), await ask(store, desk_of(refuse), "a")
    assert first == again
    assert (first[0].outcome, first[0].reason) == ("refused", "none� left")


async def test_what_is_broken_for_good_is_rejected(store: PostgresParticipantStore) -> None:
    async def wrong(tx: ParticipantTransaction[Connection]) -> None:
        await tx.record({"a": Answer("failed")})

    with pytest.raises(RejectedError, match="barrier_outcome_check"):
        await store.transact(wrong)


async def test_answers_are_purged_in_parts(store: PostgresParticipantStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(barrier, "PURGED", FEW)
    await ask(store, desk_of(insert), *(str(number) for number in range(2 * FEW + 1)))
    assert await store.purge(3_600_000_000) == 0
    assert await store.purge(-3_600_000_000) == 2 * FEW + 1


@pytest.mark.parametrize("analyzed", [False, True])
async def test_answers_are_found_by_the_index(
    store: PostgresParticipantStore, postgres_url: str, analyzed: bool
) -> None:
    connection = await asyncpg.connect(postgres_url)
    async with store._pool.connection() as ours:
        if analyzed:
            await connection.execute(
                "insert into barrier (effect_id, outcome, name, reply, reason)"
                " select number || '/step/do', 'ok', '', 'null', '' from generate_series(1, 20000) as number"
            )
            await connection.execute("analyze barrier")
        await ours.execute(f"prepare looked(text[]) as {SQL['lookup']}")
        plan = await ours.fetch("explain execute looked(array['1/step/do', '1/step/undo'])")
    assert any("using barrier_pkey" in line or "on barrier_pkey" in line for (line,) in plan), plan
    await connection.close()


# ------------------------------------------------------------------------------------------------------------- troubles


async def test_a_command_that_waits_for_a_lock_fails_alone(
    store: PostgresParticipantStore, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barrier, "BEGIN", barrier.BEGIN.replace("'2s'", "'50ms'"))
    await ask(store, desk_of(insert), "locked", "free")

    async def touch(tx: Connection, call: HandlerCall) -> None:
        await tx.execute("update ledger set entry = entry where entry = $1", call.saga_id.removesuffix("-again"))

    other = await asyncpg.connect(postgres_url)
    async with other.transaction():
        await other.execute("update ledger set entry = entry where entry = 'locked'")
        given = await ask(store, desk_of(touch), "free-again", "locked-again", "third")
    await other.close()
    assert [each.outcome for each in given] == ["ok", "failed", "ok"]
    assert "lock timeout" in given[1].reason


async def test_a_handler_that_never_comes_back_fails_alone(
    store: PostgresParticipantStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(barrier, "PATIENCE", 0.3)

    async def hang(tx: Connection, call: HandlerCall) -> None:
        await tx.execute(INSERT, call.saga_id)
        if call.saga_id == "b":
            await asyncio.Event().wait()

    given = await ask(store, desk_of(hang), "a", "b")
    assert [each.outcome for each in given] == ["ok", "failed"]
    assert await ledger_of(store) == ["a"]


@pytest.mark.parametrize("times", [1, 1_000])
async def test_a_connection_that_is_lost_costs_no_answer_but_that_of_who_always_loses_it(
    store: PostgresParticipantStore, times: int
) -> None:
    left = iter(range(times))

    async def write(tx: Connection, call: HandlerCall) -> None:
        await tx.execute(INSERT, call.saga_id)
        if call.saga_id == "b" and next(left, None) is not None:
            await tx.execute("select pg_terminate_backend(pg_backend_pid())")

    given = await ask(store, desk_of(write), "a", "b", "c", "d")
    assert [each.outcome for each in given] == ["ok", "ok" if times == 1 else "failed", "ok", "ok"]
    assert sorted(await ledger_of(store)) == (["a", "b", "c", "d"] if times == 1 else ["a", "c", "d"])


async def test_who_is_cancelled_after_the_connection_was_lost_ends(store: PostgresParticipantStore) -> None:
    lost = asyncio.Event()

    async def wait(tx: ParticipantTransaction[Connection]) -> None:
        tx.handle.add_termination_listener(lambda connection: lost.set())
        with pytest.raises((asyncpg.PostgresError, OSError)):
            await tx.handle.execute("select pg_terminate_backend(pg_backend_pid())")
        await asyncio.Event().wait()

    working = asyncio.create_task(store.transact(wait))
    await lost.wait()
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working


async def test_commands_outlive_a_crash_of_the_database_and_are_not_answered_by_it(
    open_folder: Path,
) -> None:
    with servers.running(open_folder, durable=True) as server:
        store = await PostgresParticipantStore.open(server.url(), LEDGER)
        clock = SystemClock()
        bus = MemoryBus(clock)
        crashes, down = iter([True]), asyncio.Event()

        async def write(tx: Connection, call: HandlerCall) -> None:
            await tx.execute(INSERT, call.saga_id)
            if next(crashes, False):
                await asyncio.to_thread(server.stop_immediately)
                down.set()

        service = ParticipantService(desk_of(write), bus, store, clock)
        replies = await bus.subscribe(REPLIES, "engine")
        await service.start()
        await bus.publish(f"{COMMANDS}desk", [message("a"), message("b")])
        await down.wait()
        waiting = asyncio.create_task(replies.fetch(1))
        with pytest.raises(UnavailableError):
            await store.purge(0)
        await asyncio.to_thread(server.start)
        [delivery] = await waiting
        assert [(each.saga_id, each.outcome) for each in delivery.messages] == [("a", "ok"), ("b", "ok")]
        assert await ledger_of(store) == ["a", "b"]
        await service.stop()
        await store.close()
        await bus.close()


async def test_a_closed_store_is_unavailable(store: PostgresParticipantStore) -> None:
    await store.close()
    with pytest.raises(UnavailableError):
        await ledger_of(store)


# -------------------------------------------------------------------------------------------------------------- opening


async def test_processes_that_open_a_new_database_at_once_make_its_tables_once(postgres_url: str) -> None:
    scripts = [LEDGER, "insert into ledger (entry) values ('opened')"]
    stores = await asyncio.gather(*(PostgresParticipantStore.open(postgres_url, scripts) for _ in range(8)))
    assert await ledger_of(stores[0]) == ["opened"]
    for each in stores:
        await each.close()


async def test_each_script_of_the_schema_runs_once_in_order(postgres_url: str) -> None:
    await (await PostgresParticipantStore.open(postgres_url, LEDGER)).close()
    more = [LEDGER, "alter table ledger add level integer default 7; insert into ledger (entry) values ('x')"]
    for _ in range(2):
        store = await PostgresParticipantStore.open(postgres_url, more)
        assert await ledger_of(store) == ["x"]
        await store.close()


@pytest.mark.parametrize(
    ("before", "now", "what"),
    [
        pytest.param([LEDGER, "select 1"], [LEDGER], "schema 2, this program knows 1", id="a newer program"),
        pytest.param([LEDGER], [ONCE], "script 1 of the tables was changed after it was run", id="another script"),
        pytest.param([], [LEDGER, "create nonsense"], 'script 2 .*syntax error at or near "nonsense"', id="a mistake"),
    ],
)
async def test_a_schema_that_does_not_fit_is_told_and_leaves_nothing(
    postgres_url: str, before: list[str], now: list[str], what: str
) -> None:
    await (await PostgresParticipantStore.open(postgres_url, before)).close()
    place = urlsplit(postgres_url).path.strip("/")
    with pytest.raises(SettingsError, match=f"{place}: .*{what}"):
        await PostgresParticipantStore.open(postgres_url, now)
    store = await PostgresParticipantStore.open(postgres_url, before or [LEDGER])
    assert await ledger_of(store) == []
    await store.close()


async def test_who_may_not_make_tables_can_use_them(postgres_url: str) -> None:
    role = f"clerk_{urlsplit(postgres_url).path.strip('/')}"
    admin = await asyncpg.connect(postgres_url)
    await admin.execute(f"create role {role} login password 'not-shown'")
    parts = urlsplit(postgres_url)
    clerk = parts._replace(netloc=f"{role}:not-shown@{parts.netloc.rpartition('@')[2]}").geturl()
    with pytest.raises(SettingsError, match="permission denied for schema public") as caught:
        await PostgresParticipantStore.open(clerk, LEDGER)
    assert "not-shown" not in str(caught.value)
    await (await PostgresParticipantStore.open(postgres_url, LEDGER)).close()
    await admin.execute(f"grant select, insert on barrier, ledger to {role}; grant select on barrier_scripts to {role}")
    store = await PostgresParticipantStore.open(clerk, LEDGER)
    assert [each.outcome for each in await ask(store, desk_of(insert), "a")] == ["ok"]
    await store.close()
    await admin.execute(f"drop owned by {role}; drop role {role}")
    await admin.close()


async def test_a_database_that_is_not_there_is_a_wrong_setting(postgres_url: str) -> None:
    with pytest.raises(SettingsError, match="no such database"):
        await PostgresParticipantStore.open(urlsplit(postgres_url)._replace(path="/nowhere").geturl())


async def test_a_server_that_does_not_answer_is_waited_for_by_the_caller() -> None:
    with pytest.raises(UnavailableError, match="cannot be reached"):
        await PostgresParticipantStore.open("postgres://me:not-shown@127.0.0.1:1/orders?sslmode=disable")


async def test_a_wrong_password_is_a_wrong_setting_and_is_not_shown(open_folder: Path) -> None:
    with servers.running(open_folder, password="right") as server:
        with pytest.raises(SettingsError, match="refuses user postgres") as caught:
            await PostgresParticipantStore.open(server.url().replace("right", "not-shown"))
        assert "not-shown" not in str(caught.value)
        await (await PostgresParticipantStore.open(server.url())).close()
