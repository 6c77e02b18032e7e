"""Instants as people and tools read them: RFC 3339 text in UTC, with microseconds."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def instant(micros: int) -> str:
    """Microseconds since the epoch as RFC 3339 text, e.g. `2026-11-23T01:18:30.000000Z`."""
    return (_EPOCH + timedelta(microseconds=micros)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def instant_or_none(micros: int | None) -> str | None:
    """The same, where there may be none."""
    return None if micros is None else instant(micros)
