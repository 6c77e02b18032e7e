"""Which processes work on a store's sagas: each says so itself, time and again, and whoever asks is told."""

from typing import Protocol

from msgspec import Struct


class Entry(Struct, frozen=True, order=True):
    """What a process has said of itself, as JSON, and when: in microseconds, by the store's clock."""

    id: str
    seen_at: int
    told: str


class Roll(Struct, frozen=True):
    """Everybody, as known at one moment."""

    now: int
    entries: tuple[Entry, ...]
    """In order."""


class StoreAbout(Struct, frozen=True):
    """What the store is."""

    kind: str
    version: str
    """Of the database."""
    schema: int


class Roster(Protocol):
    """In a port of its own: sagas do not depend on it. Each call raises UnavailableError."""

    async def announce(self, worker: str, told: str) -> None:
        """Say that this process works, and what of it; forget those that have been silent for a day."""
        ...

    async def withdraw(self, worker: str) -> None:
        """It has stopped in order: nobody need wonder where it is."""
        ...

    async def roll(self) -> Roll:
        """Everybody who has not withdrawn, nor been forgotten."""
        ...

    async def about(self) -> StoreAbout:
        """What the store is."""
        ...


FORGOTTEN = 86_400_000_000
"""Microseconds of silence after which a process is forgotten."""
