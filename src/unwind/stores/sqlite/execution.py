"""Turns jobs into transactions, and SQLite's errors into ours."""

import sqlite3
from collections.abc import Callable

from unwind.errors import RejectedError, UnavailableError, UnwindError
from unwind.stores.sqlite.lanes import Job, Outcome, Work

DATA = (sqlite3.IntegrityError, sqlite3.DataError, OverflowError, UnicodeEncodeError)
FAILURES = (sqlite3.Error, RejectedError, *DATA)


def writing(database: sqlite3.Connection) -> Callable[[list[Job]], list[Outcome]]:
    """Executes a group of jobs in one transaction; where data stands in the way, each in its own."""

    def execute(jobs: list[Job]) -> list[Outcome]:
        if len(jobs) == 1 and jobs[0].one:
            outcome = _by_itself(database, jobs[0].first)
            return [_alone(database, jobs[0]) if isinstance(outcome, RejectedError) else outcome]
        outcomes = _transaction(database, [job.first for job in jobs])
        if not isinstance(outcomes, RejectedError):
            return outcomes if isinstance(outcomes, list) else [outcomes] * len(jobs)
        return [_alone(database, job) for job in jobs]

    return execute


def reading(database: sqlite3.Connection) -> Callable[[list[Job]], list[Outcome]]:
    """Executes each job by itself."""

    def execute(jobs: list[Job]) -> list[Outcome]:
        return [_by_itself(database, job.first) for job in jobs]

    return execute


def refusing(jobs: list[Job]) -> list[Outcome]:
    """Executes nothing: what is opened to read is not written."""
    return [UnavailableError("the database was opened to be read only; nothing is stored") for _ in jobs]


def _alone(database: sqlite3.Connection, job: Job) -> Outcome:
    outcomes = _transaction(database, [job.again])
    return outcomes[0] if isinstance(outcomes, list) else outcomes


def _transaction(database: sqlite3.Connection, works: list[Work[object]]) -> list[object] | UnwindError:
    try:
        database.execute("begin immediate")
        results = [work(database) for work in works]
        database.execute("commit")
    except FAILURES as error:
        return _translated(error)
    finally:
        if database.in_transaction:
            database.execute("rollback")
    return results


def _by_itself(database: sqlite3.Connection, work: Work[object]) -> Outcome:
    """Outside of a transaction each statement is one: what it leaves on failing is nothing."""
    try:
        return work(database)
    except FAILURES as error:
        return _translated(error)


def _translated(error: Exception) -> UnwindError:
    if isinstance(error, RejectedError):
        return error
    if isinstance(error, DATA):
        translated: UnwindError = RejectedError(f"the database refuses this data: {error}")
    else:
        translated = UnavailableError(f"the database cannot answer: {error}; a write may be stored or not")
    translated.__cause__ = error
    return translated
