"""Instants as people and tools read them: RFC 3339 text in UTC, with microseconds."""

from datetime import UTC, datetime, timedelta

from unwind.errors import InputError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(3000, 1, 1, tzinfo=UTC)


def instant(micros: int) -> str:
    """Microseconds since the epoch as RFC 3339 text, e.g. `2026-11-23T01:18:30.000000Z`."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def instant_or_none(micros: int | None) -> str | None:
    """The same, where there may be none."""
    return None if micros is None else instant(micros)


def micros_of(field: str, instant: datetime) -> int:
    """Microseconds since the epoch. Raises InputError for one without a time zone, or that nobody will live to see."""
    if instant.tzinfo is None or not _EPOCH <= instant < _LATEST:
        raise InputError("give an instant with its time zone, before the year 3000, e.g. 2026-11-23T10:00:00Z", field)
    return (instant - _EPOCH) // timedelta(microseconds=1)
