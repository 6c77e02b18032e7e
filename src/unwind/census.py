"""What the read side needs of a store beside the port itself: sagas counted without being listed."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from msgspec import Struct

from unwind.ports import Query, SagaRow, Store


class Tally(Struct, frozen=True, order=True):
    """How many sagas of one definition have one status."""

    definition: str
    status: str
    count: int
    amount: int | None = None
    """Sum of the attribute that was asked for; None: no such saga has it."""


class Standing(Struct, frozen=True, order=True):
    """The live sagas of one definition that have one status. Instants in microseconds, by the store's clock."""

    definition: str
    status: str
    count: int
    started_at: int
    """Of the one that was accepted first."""
    updated_at: int
    """Since when the one has had its status that has had it for longest."""
    wake_at: int | None
    """The earliest wake-up among them; None: all are paused."""


class Living(Struct, frozen=True):
    """What has not ended, as counted at one moment."""

    now: int
    standings: tuple[Standing, ...]
    """In order of definition and status."""


class Pace(Struct, frozen=True, order=True):
    """How many sagas began, or ended, within one stretch of time."""

    stretch: int
    """Which: its begin, divided by its length."""
    what: str
    """`started`, or the status that they ended with."""
    took: int
    """For how long they lived, in microseconds, cut to two significant digits; 0 of those that began."""
    count: int


class Paces(Struct, frozen=True):
    """How fast sagas began and ended, as counted at one moment."""

    now: int
    paces: tuple[Pace, ...]
    """In order."""


class Census(Protocol):
    """Counts. In a port of its own, since what drives sagas has no use for it."""

    async def living(self, revisions: Sequence[str]) -> Living:
        """Count the sagas of these revisions that have not ended, along the index of those: it reads no others.

        Raises UnavailableError, also where there are too many to be counted in time.
        """
        ...

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        """Count what the query's conditions fit, whatever its page and limit; in order of definition and status.

        `amounts` names an attribute for a definition: its values are added up, those that are no whole numbers apart.
        Raises UnavailableError, also where there is too much to be counted in time.
        """
        ...

    async def paces(self, since: int, stretch: int) -> Paces:
        """What began and ended from `since` on, by stretches of so many microseconds: it reads no other rows.

        Raises UnavailableError, also where there is too much to be counted in time.
        """
        ...

    async def ended(self, definition: str, limit: int) -> Sequence[SagaRow]:
        """The sagas of a definition that ended last, the newest first. Raises UnavailableError."""
        ...


class CountedStore(Store, Census, Protocol):
    """A store with both: what every one of ours is."""
