"""The barrier inside of a service's own transaction: asyncpg, SQLAlchemy's session and connection, sqlite3."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec import Raw, Struct
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

import unwind.adopt.asyncpg as on_asyncpg
import unwind.adopt.sqlalchemy as on_sqlalchemy
import unwind.adopt.sqlite as on_sqlite
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command, Refused
from unwind.errors import DefinitionError, InputError, UnavailableError
from unwind.ports import Message
from unwind.runtime.participant import HandlerCall, Participant, TryAgain

LEDGER = "create table ledger (entry text primary key)"


class Book(Command, frozen=True, tag="desk.book"):
    how: str = "ok"


class Cancel(Command, frozen=True, tag="desk.cancel"):
    pass


class Booked(Struct, frozen=True, tag="desk.booked"):
    run: int


class Driver(Protocol):
    """A service's own way to its database."""

    def transaction(self) -> Any:
        """An open transaction, as an asynchronous context; what ends it with an error rolls it back."""

    def answer(self, handle: Any, desk: Participant[Any], messages: Sequence[Message]) -> Any:
        """Of the module under test."""

    def write(self, handle: Any, entry: str) -> Awaitable[None] | None:
        """Into the ledger."""

    async def entries(self) -> set[str]:
        """As committed."""


class OnAsyncpg:
    def __init__(self, url: str) -> None:
        self._url = url

    async def open(self) -> None:
        async with self.transaction() as connection:
            await connection.execute(f"{LEDGER}; {on_asyncpg.TABLES}")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection]:
        connection = await asyncpg.connect(self._url)
        try:
            async with connection.transaction():
                yield connection
        finally:
            await connection.close()

    async def answer(self, handle: Any, desk: Participant[Any], messages: Sequence[Message]) -> Sequence[Message]:
        return await on_asyncpg.answer_within(handle, desk, messages)

    async def write(self, handle: asyncpg.Connection, entry: str) -> None:
        await handle.execute("insert into ledger values ($1)", entry)

    async def entries(self) -> set[str]:
        async with self.transaction() as connection:
            return {entry for (entry,) in await connection.fetch("select entry from ledger")}


class OnSQLAlchemy:
    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def open(self) -> None:
        async with self.engine.begin() as connection:
            await connection.execute(text(LEDGER))
            await connection.run_sync(on_sqlalchemy.metadata.create_all)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with self.engine.begin() as connection:
            yield connection

    async def answer(self, handle: Any, desk: Participant[Any], messages: Sequence[Message]) -> Sequence[Message]:
        return await on_sqlalchemy.answer_within(handle, desk, messages)

    async def write(self, handle: AsyncConnection | AsyncSession, entry: str) -> None:
        await handle.execute(text("insert into ledger values (:entry)"), {"entry": entry})

    async def entries(self) -> set[str]:
        async with self.engine.connect() as connection:
            return {entry for (entry,) in await connection.execute(text("select entry from ledger"))}


class Base(DeclarativeBase):
    """Of the service's own model."""


class Entry(Base):
    __tablename__ = "ledger"
    entry: Mapped[str] = mapped_column(primary_key=True)


class OnSession(OnSQLAlchemy):
    """Handlers add objects; the session writes them when it must."""

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Any]:
        async with AsyncSession(self.engine) as session, session.begin():
            yield session

    async def write(self, handle: AsyncConnection | AsyncSession, entry: str) -> None:
        assert isinstance(handle, AsyncSession)
        handle.add(Entry(entry=entry))


class OnSQLite:
    """A connection of somebody who likes rows of another kind."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path)
        self.connection.row_factory = lambda cursor, row: {"row": row}
        self.connection.executescript(f"{LEDGER}; {on_sqlite.TABLES}")

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[sqlite3.Connection]:
        with self.connection:
            self.connection.execute("BEGIN IMMEDIATE")
            yield self.connection

    def answer(self, handle: Any, desk: Participant[Any], messages: Sequence[Message]) -> Sequence[Message]:
        return on_sqlite.answer_within(handle, desk, messages)

    def write(self, handle: sqlite3.Connection, entry: str) -> None:
        handle.execute("insert into ledger values (?)", (entry,))

    async def entries(self) -> set[str]:
        return {found["row"][0] for found in self.connection.execute("select entry from ledger")}


POSTGRES = ["asyncpg", "session", "connection"]


@pytest.fixture(params=[*(pytest.param(each, marks=pytest.mark.integration) for each in POSTGRES), "sqlite"])
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture
def url(request: pytest.FixtureRequest, kind: str) -> str:
    return "" if kind == "sqlite" else str(request.getfixturevalue("postgres_url"))


@pytest.fixture
async def driver(kind: str, url: str, tmp_path: Path) -> AsyncIterator[Driver]:
    if kind == "sqlite":
        file = OnSQLite(tmp_path / "file.db")
        yield file
        file.connection.close()
        return
    if kind == "asyncpg":
        own = OnAsyncpg(url)
        await own.open()
        yield own
        return
    parts = urlsplit(url)
    engine = create_async_engine(parts._replace(scheme="postgresql+asyncpg", query="").geturl())
    alchemy = OnSession(engine) if kind == "session" else OnSQLAlchemy(engine)
    await alchemy.open()
    yield alchemy
    await engine.dispose()


class Shop:
    """A service that consumes messages by itself, and also writes down what it does."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.runs = 0
        self.desk: Participant[Any] = Participant("desk")
        self.desk.handles(Book)(self._book)
        self.desk.undoes(Cancel)(self._cancel)

    async def receive(self, note: str, *messages: Message, then: Exception | None = None) -> list[Message]:
        """One transaction; `note` is the service's own business in it."""
        async with self.driver.transaction() as handle:
            await settled(self.driver.write(handle, note))
            replies = list(await settled(self.driver.answer(handle, self.desk, messages)))
            if then is not None:
                raise then
        return replies

    async def _book(self, handle: Any, command: Book, call: HandlerCall) -> Booked | Refused:
        self.runs += 1
        written = self.driver.write(handle, f"{call.saga_id} booked" if command.how != "twice" else "twice")
        if written is not None:
            await written
        if command.how == "refuse":
            return Refused("no room")
        if command.how == "fail":
            raise TryAgain("not now")
        return Booked(self.runs)

    async def _cancel(self, handle: Any, command: Cancel, call: HandlerCall) -> None:
        written = self.driver.write(handle, f"{call.saga_id} cancelled")
        if written is not None:
            await written


async def settled(given: Any) -> Any:
    return await given if isawaitable(given) else given


@pytest.fixture
def shop(driver: Driver) -> Shop:
    return Shop(driver)


def book(saga: str, how: str = "ok") -> Message:
    payload = Raw(f'{{"how":"{how}"}}'.encode())
    return Message(effect_id(saga, "step", "do"), "desk.book", payload, saga, "step", correlation_id="cart")


def cancel(saga: str) -> Message:
    way: Direction = "undo"
    return Message(effect_id(saga, "step", way), "desk.cancel", Raw(b"{}"), saga, "step", way)


def outcomes(replies: Sequence[Message]) -> list[tuple[str, str]]:
    return [(reply.saga_id, reply.outcome) for reply in replies]


async def test_effect_answer_and_the_services_own_writes_commit_together(shop: Shop) -> None:
    [reply] = await shop.receive("note", book("a"))
    assert (reply.outcome, reply.name, reply.correlation_id) == ("ok", "desk.booked", "cart")
    assert await shop.driver.entries() == {"note", "a booked"}


async def test_effect_answer_and_the_services_own_writes_roll_back_together(shop: Shop) -> None:
    with pytest.raises(KeyError, match="after the answer"):
        await shop.receive("note", book("a"), then=KeyError("it crashes after the answer"))
    assert await shop.driver.entries() == set()
    assert outcomes(await shop.receive("note", book("a"))) == [("a", "ok")]
    assert shop.runs == 2


async def test_a_repeated_command_gets_the_stored_reply(shop: Shop) -> None:
    first, again = await shop.receive("one", book("a")), await shop.receive("two", book("a"), book("a"))
    assert again == first * 2
    assert shop.runs == 1
    assert await shop.driver.entries() == {"one", "two", "a booked"}


async def test_an_undo_before_its_do_leaves_a_tombstone(shop: Shop) -> None:
    assert outcomes(await shop.receive("one", cancel("a"))) == [("a", "ok")]
    [late] = await shop.receive("two", book("a"))
    assert (late.outcome, late.reason) == ("refused", "it was undone before it arrived")
    assert await shop.driver.entries() == {"one", "two"}


async def test_a_do_is_undone_once(shop: Shop) -> None:
    await shop.receive("one", book("a"), cancel("a"))
    await shop.receive("two", cancel("a"), book("a"))
    assert await shop.driver.entries() == {"one", "two", "a booked", "a cancelled"}


async def test_refusals_and_failures_go_back_to_their_savepoints(shop: Shop) -> None:
    replies = await shop.receive("note", book("a"), book("b", "refuse"), book("c", "fail"), book("d"))
    assert outcomes(replies) == [("a", "ok"), ("b", "refused"), ("c", "failed"), ("d", "ok")]
    assert await shop.driver.entries() == {"note", "a booked", "d booked"}
    assert outcomes(await shop.receive("again", book("b"), book("c"))) == [("b", "refused"), ("c", "ok")]


async def test_what_the_database_refuses_fails_alone(shop: Shop) -> None:
    replies = await shop.receive("twice", book("a"), book("b", "twice"), book("c"))
    assert outcomes(replies) == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert await shop.driver.entries() == {"twice", "a booked", "c booked"}


async def test_poison_is_told_before_anything_is_written(shop: Shop) -> None:
    with pytest.raises(InputError, match="no handler"):
        await shop.receive("note", book("a"), Message("x", "desk.burn", Raw(b"{}")))
    assert shop.runs == 0
    assert await shop.driver.entries() == set()


async def test_nothing_can_be_prepared_inside(shop: Shop) -> None:
    async def prepare(command: Book, call: HandlerCall) -> None:
        return None

    desk: Participant[Any] = Participant("desk")
    desk.handles(Book, prepare=prepare)(lambda handle, command, call: None)
    shop.desk = desk
    with pytest.raises(DefinitionError, match="command Book: nothing can be prepared"):
        await shop.receive("note", book("a"))


@pytest.mark.parametrize(
    "kind", [pytest.param(each, marks=pytest.mark.integration) for each in POSTGRES], indirect=True
)
async def test_of_two_transactions_with_the_same_command_one_is_told_to_try_again(shop: Shop) -> None:
    second: asyncio.Task[list[Message]]
    async with shop.driver.transaction() as handle:
        first = await settled(shop.driver.answer(handle, shop.desk, [cancel("a")]))
        second = asyncio.create_task(shop.receive("second", cancel("a")))
        await waits_for_a_lock(shop.driver)
    with pytest.raises(UnavailableError, match="answered elsewhere meanwhile"):
        await second
    assert await shop.driver.entries() == set()
    assert await shop.receive("again", cancel("a")) == first


async def waits_for_a_lock(driver: Driver) -> None:
    waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
    found = 0
    while not found:
        async with driver.transaction() as handle:
            if isinstance(driver, OnAsyncpg):
                found = await handle.fetchval(waiting)
            else:
                found = (await handle.execute(text(waiting))).scalar_one()


@pytest.mark.integration
async def test_without_a_transaction_on_asyncpg_nothing_is_done(postgres_url: str) -> None:
    shop = Shop(OnAsyncpg(postgres_url))
    connection = await asyncpg.connect(postgres_url)
    with pytest.raises(RuntimeError, match="needs an open transaction"):
        await on_asyncpg.answer_within(connection, shop.desk, [book("a")])
    await connection.close()
    assert shop.runs == 0


@pytest.mark.integration
async def test_nothing_is_left_on_an_asyncpg_connection_and_a_pool_may_lend_it(postgres_url: str) -> None:
    driver = OnAsyncpg(postgres_url)
    await driver.open()
    shop = Shop(driver)
    async with asyncpg.create_pool(postgres_url, min_size=1, max_size=1) as pool, pool.acquire() as connection:
        async with connection.transaction():
            await on_asyncpg.answer_within(connection, shop.desk, [book("a", "refuse"), book("b")])
            with pytest.raises(asyncpg.InvalidSavepointSpecificationError):
                async with connection.transaction():
                    await connection.execute("release savepoint unwind_handler")
        assert await driver.entries() == {"b booked"}


def test_without_a_transaction_on_sqlite_nothing_is_done(tmp_path: Path) -> None:
    driver = OnSQLite(tmp_path / "file.db")
    shop = Shop(driver)
    with pytest.raises(RuntimeError, match="needs an open transaction"):
        on_sqlite.answer_within(driver.connection, shop.desk, [book("a")])
    driver.connection.close()
    assert shop.runs == 0
