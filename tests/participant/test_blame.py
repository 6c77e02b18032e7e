"""Whose fault an error in a transaction is."""

import sqlite3
from collections.abc import Callable

import asyncpg
import pytest
from sqlalchemy.exc import DBAPIError

from unwind.errors import RejectedError, UnavailableError
from unwind.runtime.blame import ends_transaction, is_authors


def full() -> Exception:
    """A database that may have two pages."""
    database = sqlite3.connect(":memory:")
    database.execute("pragma max_page_count = 2")
    try:
        database.execute("create table ledger (entry)")
        database.execute("insert into ledger select zeroblob(100000)")
    except sqlite3.OperationalError as error:
        return error
    finally:
        database.close()
    raise AssertionError


def misspelt() -> Exception:
    database = sqlite3.connect(":memory:")
    try:
        database.execute("insert into nowhere values (1)")
    except sqlite3.OperationalError as error:
        return error
    finally:
        database.close()
    raise AssertionError


def wrapped() -> Exception:
    return DBAPIError("select 1", (), asyncpg.DeadlockDetectedError("locked in a ring"))


@pytest.mark.parametrize(
    ("make", "ends", "authors"),
    [
        pytest.param(lambda: KeyError("a bug"), False, True, id="a bug"),
        pytest.param(lambda: asyncpg.UndefinedTableError("no table"), False, True, id="a misspelt table"),
        pytest.param(lambda: asyncpg.UniqueViolationError("twice"), False, True, id="a broken rule"),
        pytest.param(misspelt, False, True, id="a misspelt table in a file"),
        pytest.param(lambda: asyncpg.QueryCanceledError("too slow"), False, False, id="a slow statement"),
        pytest.param(lambda: asyncpg.DeadlockDetectedError("a ring"), True, False, id="a deadlock"),
        pytest.param(wrapped, True, False, id="a deadlock within SQLAlchemy"),
        pytest.param(lambda: asyncpg.SerializationError("others"), True, False, id="overtaken"),
        pytest.param(lambda: asyncpg.LockNotAvailableError("locked"), True, False, id="a lock that does not come"),
        pytest.param(lambda: asyncpg.AdminShutdownError("it stops"), True, False, id="a server that stops"),
        pytest.param(lambda: asyncpg.ReadOnlySQLTransactionError("a replica"), True, False, id="a replica"),
        pytest.param(lambda: asyncpg.DiskFullError("no room"), True, False, id="a full disk"),
        pytest.param(full, False, False, id="a full file"),
        pytest.param(lambda: ConnectionResetError("gone"), False, False, id="the network"),
        pytest.param(lambda: UnavailableError("not now"), False, False, id="unavailable"),
        pytest.param(lambda: RejectedError("never"), False, False, id="rejected"),
    ],
)
def test_errors_are_told_apart(make: Callable[[], Exception], ends: bool, authors: bool) -> None:
    error = make()
    assert (ends_transaction(error), is_authors(error)) == (ends, authors)
