"""Whose fault an error in a transaction is: the author's of the code, or that of what the code stands on."""

import sqlite3

from unwind.errors import UnwindError

PASSING_CLASSES = {"08", "40", "53"}
"""SQLSTATE: no connection; rolled back because of others; no room."""
PASSING = {"55P03", "57P01", "57P02", "57P03", "25006"}
"""A lock that does not come; the server stops, crashed, or starts; it is a replica now."""
SLOW = "57014"
"""The statement took too long."""


def ends_transaction(error: BaseException) -> bool:
    """Whether it came of the database's state: only the whole transaction, tried again, can mend it."""
    code = _sqlstate(error)
    return code[:2] in PASSING_CLASSES or code in PASSING


def is_authors(error: BaseException) -> bool:
    """Whether somebody has to look at the code; else one line says it all."""
    if isinstance(error, sqlite3.OperationalError):
        return error.sqlite_errorcode == sqlite3.SQLITE_ERROR
    return not (isinstance(error, UnwindError | OSError) or ends_transaction(error) or _sqlstate(error) == SLOW)


def _sqlstate(error: BaseException) -> str:
    """As drivers of PostgreSQL tell it, also from within SQLAlchemy's own errors."""
    told = getattr(error, "sqlstate", None) or getattr(getattr(error, "orig", None), "sqlstate", None)
    return told if isinstance(told, str) else ""
