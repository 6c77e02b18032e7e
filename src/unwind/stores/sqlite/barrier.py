"""A participant's database in an SQLite file: its own tables and the barrier, written by one thread."""

import asyncio
import sqlite3
from collections.abc import Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, TypeVar, TypeVarTuple

import msgspec
import structlog
from msgspec import Raw

from unwind.core.barrier import Answer
from unwind.errors import SettingsError, UnavailableError
from unwind.ports import ParticipantTransaction
from unwind.stores.inline import run_inline
from unwind.stores.scripts import check_known, check_unchanged, marks_of
from unwind.stores.sqlite.connections import BUSY_TIMEOUT, WRITER, blamed_on
from unwind.stores.sqlite.guard import hold_file
from unwind.stores.statements import read_statements

log = structlog.get_logger("unwind.participant")

R = TypeVar("R")
Ts = TypeVarTuple("Ts")

SQL = read_statements(Path(__file__).with_name("barrier.sql"))
# With a comment, so that they are never found prepared when a handler says the same: see `_Database._authorize`.
BEGIN = "BEGIN IMMEDIATE /* batch */"
COMMIT = "COMMIT /* batch */"
ROLLBACK = "ROLLBACK /* batch */"


class SQLiteParticipantStore:
    """Implements `ParticipantStore`; handlers get the `sqlite3.Connection`, and may not end its transaction."""

    def __init__(self, thread: ThreadPoolExecutor, database: "_Database") -> None:
        """Use `open`."""
        self._thread = thread
        self._database = database
        self._closed = False

    @classmethod
    async def open(cls, path: str | Path, schema: str | Sequence[str] = ()) -> "SQLiteParticipantStore":
        """Open the file, and bring it to the newest `schema`: SQL scripts, each run once, in order, never changed.

        Raises SettingsError when the file cannot be used, another process writes it, or it is of a newer program;
        also when a script fails, or was changed after it was run.
        """
        scripts = [schema] if isinstance(schema, str) else schema
        thread = ThreadPoolExecutor(1, thread_name_prefix=f"participant {Path(path).name}")
        with ExitStack() as undo:
            undo.callback(thread.shutdown, wait=False)
            loop = asyncio.get_running_loop()
            database = await loop.run_in_executor(thread, _Database, Path(path), scripts)
            undo.pop_all()
        return cls(thread, database)

    async def transact(self, work: Callable[[ParticipantTransaction[sqlite3.Connection]], Coroutine[Any, Any, R]]) -> R:
        """Run `work` in one durable transaction, in the file's own thread; it must not wait for anything."""
        return await self._run(self._database.transact, work)

    async def read(self, question: Callable[[sqlite3.Connection], R]) -> R:
        """What `question` finds; it must not write."""
        return await self._run(self._database.read, question)

    async def purge(self, older_than: int) -> int:
        """Forget old answers."""
        return await self._run(self._database.purge, older_than)

    async def close(self) -> None:
        """Close the file after what is being written; later calls raise UnavailableError."""
        if not self._closed:
            self._closed = True
            await asyncio.get_running_loop().run_in_executor(self._thread, self._database.close)
            self._thread.shutdown()

    async def _run(self, function: Callable[[*Ts], R], *args: *Ts) -> R:
        if self._closed:
            raise UnavailableError("the participant's database is closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)


class _Database:
    """The open file. Everything here runs in its thread."""

    def __init__(self, path: Path, scripts: Sequence[str]) -> None:
        self._in_work = False
        with ExitStack() as undo:
            with blamed_on(path):
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                path.touch(mode=0o600)
                self._lock = undo.enter_context(hold_file(path))
                self.connection = sqlite3.connect(
                    path, timeout=BUSY_TIMEOUT, isolation_level=None, check_same_thread=False
                )
                undo.callback(self.connection.close)
                for pragma in (*WRITER, "pragma foreign_keys = on"):
                    self.connection.execute(pragma)
                self.connection.execute(SQL["schema"])
                self.connection.execute(SQL["journal"])
                self._migrate(scripts)
            undo.pop_all()
        self.connection.set_authorizer(self._authorize)

    def _migrate(self, scripts: Sequence[str]) -> None:
        connection, marks = self.connection, marks_of(scripts)
        done: int = connection.execute("PRAGMA user_version").fetchone()[0]
        check_known(done, len(scripts))
        # A file from before there were hashes takes those of the scripts that it is opened with.
        connection.executemany(SQL["note"], enumerate(marks[:done], 1))
        check_unchanged([mark for [mark] in connection.execute(SQL["ran"])], marks)
        for number, (script, mark) in enumerate(zip(scripts[done:], marks[done:], strict=True), done + 1):
            try:
                connection.executescript(f"{BEGIN};\n{script}\n;PRAGMA user_version = {number}")
                connection.execute(SQL["note"], (number, mark))
                connection.execute(COMMIT)
            except sqlite3.Error as error:
                raise SettingsError(f"script {number} of the tables: {error}; nothing of it was kept") from error
            finally:
                self._rollback()

    def _authorize(self, action: int, operation: str | None, *_: str | None) -> int:
        """A handler that ended the transaction would tear its effect from the barrier's row."""
        if action == sqlite3.SQLITE_TRANSACTION and self._in_work:
            log.error("handler_ends_transaction", operation=operation, mend="return an answer, or raise TryAgain")
            return sqlite3.SQLITE_DENY
        return sqlite3.SQLITE_OK

    def transact(self, work: Callable[[ParticipantTransaction[sqlite3.Connection]], Coroutine[Any, Any, R]]) -> R:
        self.connection.execute(BEGIN)
        try:
            self._in_work = True
            result = run_inline(work(SQLiteTransaction(self.connection)))
            self._in_work = False
            self.connection.execute(COMMIT)
            return result
        finally:
            self._in_work = False
            self._rollback()

    def _rollback(self) -> None:
        if self.connection.in_transaction:
            self.connection.execute(ROLLBACK)

    def read(self, question: Callable[[sqlite3.Connection], R]) -> R:
        self.connection.execute("PRAGMA query_only = ON")
        try:
            return question(self.connection)
        finally:
            self.connection.execute("PRAGMA query_only = OFF")

    def purge(self, older_than: int) -> int:
        return self.connection.execute(SQL["purge"], (older_than,)).rowcount

    def close(self) -> None:
        self.connection.close()
        self._lock.close()


class SQLiteTransaction:
    """Implements `ParticipantTransaction` on a connection with an open transaction."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        """`connection` may be anybody's."""
        self.handle = connection

    async def lookup(self, effect_ids: Sequence[str]) -> Mapping[str, Answer]:
        cursor = self.handle.cursor()
        cursor.row_factory = None  # who it belongs to may want rows of another kind
        rows = cursor.execute(SQL["lookup"], (msgspec.json.encode(effect_ids).decode(),))
        return {key: Answer(outcome, name, Raw(reply.encode()), reason) for key, outcome, name, reply, reason in rows}

    async def record(self, rows: Mapping[str, Answer]) -> None:
        self.handle.executemany(
            SQL["record"],
            [(key, row.outcome, row.name, bytes(row.payload).decode(), row.reason) for key, row in rows.items()],
        )

    async def savepoint(self) -> None:
        self.handle.execute("SAVEPOINT handler")

    async def release(self) -> None:
        self.handle.execute("RELEASE handler")

    async def rollback(self) -> None:
        self.handle.execute("ROLLBACK TO handler")
        self.handle.execute("RELEASE handler")
