"""A participant's database on a PostgreSQL server: its own tables and the barrier, for any number of processes."""

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeVar

import asyncpg
from msgspec import Raw

from unwind.core.barrier import Answer
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import ParticipantTransaction
from unwind.stores.postgres.connections import LOST, Pool, connect, place_of, translated
from unwind.stores.scripts import check_known, check_unchanged, marks_of
from unwind.stores.statements import read_statements

R = TypeVar("R")

SQL = read_statements(Path(__file__).with_name("barrier.sql"))
CONNECTIONS = 4
"""A service has one batch in hand, and one of what had to be prepared; the rest is for purging and looking."""
PATIENCE = 20.0
"""Seconds for a whole transaction."""
ATTEMPTS = 4
"""How often a transaction is tried that meets another: a deadlock, or a command answered elsewhere meanwhile."""
SCRIPT = 3_600.0
"""Seconds for a script of the schema, and for waiting until another process has run it."""
PURGED = 10_000
"""Rows in one transaction."""
LOCK = 0x756E7770
"""The number on which processes that make the tables wait for one another: "unwp"."""
MET = (asyncpg.SerializationError, asyncpg.DeadlockDetectedError, asyncpg.UniqueViolationError)

# For handlers, the planner as it is by default: our connections forbid it what is bad for the barrier's own statements.
# A lock that does not come soon is held by something stuck, or by a ring through another database.
BEGIN = (
    "set local enable_seqscan = on; set local plan_cache_mode = auto; set local statement_timeout = '12s'; "
    "set local lock_timeout = '2s'; savepoint unwind_handler"
)
UNHURRIED = "set local statement_timeout = 0; set local lock_timeout = 0"


class PostgresParticipantStore:
    """Implements `ParticipantStore`; handlers get the `asyncpg.Connection`, and may not end its transaction."""

    def __init__(self, pool: Pool) -> None:
        """Use `open`."""
        self._pool = pool

    @classmethod
    async def open(cls, url: str, schema: str | Sequence[str] = ()) -> "PostgresParticipantStore":
        """Bring the database to the newest `schema`: SQL scripts, each run once, in order, never changed.

        Processes that open it at the same time wait for one another. Raises SettingsError when it cannot be used as it
        is, saying what to do, and UnavailableError when the server cannot be reached now.
        """
        connection = await connect(url)
        try:
            await _make_tables(connection, [schema] if isinstance(schema, str) else schema)
        except SettingsError as error:
            raise SettingsError(f"{place_of(url)}: {error}") from error
        except LOST as error:
            raise UnavailableError(f"{place_of(url)} cannot answer: {error or 'no answer in time'}") from error
        except asyncpg.PostgresError as error:
            raise SettingsError(f"{place_of(url)}: the tables of the participant cannot be made: {error}") from error
        finally:
            connection.terminate()
        return cls(Pool(url, CONNECTIONS))

    async def transact(self, work: Callable[[ParticipantTransaction[asyncpg.Connection]], Coroutine[Any, Any, R]]) -> R:
        """Run `work` in one durable transaction; again from its beginning, a few times, where it met another.

        Raises what `work` raises. Raises UnavailableError when the database cannot answer, also when nobody knows
        whether it committed, and RejectedError when it refuses the data.
        """
        with translated():
            for _ in range(ATTEMPTS - 1):
                try:
                    return await self._once(work)
                except MET:
                    continue
            return await self._once(work)

    async def _once(self, work: Callable[[ParticipantTransaction[asyncpg.Connection]], Coroutine[Any, Any, R]]) -> R:
        async with self._pool.connection() as connection, asyncio.timeout(PATIENCE):
            transaction = connection.transaction(isolation="read_committed")
            await transaction.start()
            try:
                result = await work(PostgresTransaction(connection, BEGIN))
            except asyncpg.PostgresError:
                await transaction.rollback()
                raise
            # After anything else the pool ends the connection, and the server the transaction: rolling it back here
            # could fail, and that would hide what was raised, the cancelling of a task too.
            await transaction.commit()
            return result

    async def purge(self, older_than: int) -> int:
        """Forget old answers, a few thousand in a transaction."""
        gone = 0
        while True:
            with translated():
                async with self._pool.connection() as connection:
                    some: int = await connection.fetchval(SQL["purge"], older_than, PURGED)
            gone += some
            if some < PURGED:
                return gone

    async def close(self) -> None:
        """Let go of the connections after what is being written; later calls raise UnavailableError."""
        await self._pool.close()


class PostgresTransaction:
    """Implements `ParticipantTransaction` on a connection with an open transaction.

    A savepoint that was released, or rolled back to, stands until the next is set, which then costs one round trip
    instead of two, or none.
    """

    def __init__(self, connection: asyncpg.Connection, begin: str = "savepoint unwind_handler") -> None:
        """`begin` is what sets the first savepoint."""
        self.handle = connection
        self._next: str = begin
        self._state: Literal["none", "set", "open"] = "none"

    async def lookup(self, effect_ids: Sequence[str]) -> Mapping[str, Answer]:
        rows = await self.handle.fetch(SQL["lookup"], effect_ids)
        return {key: Answer(outcome, name, Raw(reply.encode()), reason) for key, outcome, name, reply, reason in rows}

    async def record(self, rows: Mapping[str, Answer]) -> None:
        answers = rows.values()
        replies = [bytes(answer.payload).decode() for answer in answers]
        outcomes, names, reasons = zip(*((each.outcome, each.name, each.reason) for each in answers), strict=True)
        await self.handle.execute(SQL["record"], list(rows), outcomes, names, replies, reasons)
        if self._state == "set":
            self._state = "open"

    async def savepoint(self) -> None:
        if self._state != "set":
            await self.handle.execute(self._next)
            self._next = "release savepoint unwind_handler; savepoint unwind_handler"
        self._state = "open"

    async def release(self) -> None:
        self._check_open()

    async def rollback(self) -> None:
        self._check_open()
        await self.handle.execute("rollback to savepoint unwind_handler")
        self._state = "set"

    async def finish(self) -> None:
        """Leave no savepoint behind, in a transaction that goes on."""
        if self._state != "none":
            await self.handle.execute("release savepoint unwind_handler")
            self._state = "none"

    def _check_open(self) -> None:
        if not self.handle.is_in_transaction() and not self.handle.is_closed():
            raise RuntimeError("a handler ended its transaction; it must return an answer, or raise TryAgain")


async def _make_tables(connection: asyncpg.Connection, scripts: Sequence[str]) -> None:
    """Only who finds something missing needs the right to make it."""
    marks = marks_of(scripts)
    if await connection.fetchval(SQL["has_journal"]) and await _ran(connection, marks) == len(marks):
        return
    async with connection.transaction():
        await connection.execute(f"{UNHURRIED}; select pg_advisory_xact_lock({LOCK})", timeout=SCRIPT)
        await connection.execute(f"{SQL['schema']}\n{SQL['journal']}")
        for number in range(await _ran(connection, marks), len(scripts)):
            try:
                await connection.execute(scripts[number], timeout=SCRIPT)
            except LOST:
                raise
            except asyncpg.PostgresError as error:
                raise SettingsError(f"script {number + 1} of the tables: {error}; nothing of it was kept") from error
            await connection.execute(SQL["note"], number + 1, marks[number])


async def _ran(connection: asyncpg.Connection, marks: Sequence[str]) -> int:
    """How many scripts have been run here. Raises SettingsError when they were others."""
    ran = [mark for [mark] in await connection.fetch(SQL["ran"])]
    check_known(len(ran), len(marks))
    check_unchanged(ran, marks)
    return len(ran)
