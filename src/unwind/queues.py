"""What operators need of a bus beside the port itself: how much waits on it, and what could not be handled."""

from collections.abc import Sequence
from typing import Protocol

from msgspec import Struct

from unwind.ports import Bus, Message


class Queue(Struct, frozen=True, order=True):
    """What waits for one group of consumers. Counts are of publications; an instant is by the bus's clock."""

    topic: str
    group: str
    waiting: int | None
    """Not handed out yet; None: the bus does not tell."""
    held: int
    """Handed out, and not acknowledged."""
    oldest_at: int | None = None
    """When the oldest of them was published, in microseconds since the epoch; None: the bus does not tell."""


class DeadLetter(Struct, frozen=True):
    """One publication that was set aside, since it could never be handled."""

    id: str
    """The bus's own: it stays the same as long as the letter is there."""
    topic: str
    """Where it was to be handled."""
    reason: str
    at: int
    """When it was set aside, in microseconds since the epoch, by the bus's clock."""
    size: int
    """In bytes, as it travelled."""
    messages: tuple[Message, ...]
    """None where it cannot be read."""
    data: bytes = b""
    """What cannot be read, as it came."""


class DeadLetters(Struct, frozen=True):
    """A page of what was set aside, the oldest first."""

    letters: tuple[DeadLetter, ...]
    next: str | None
    """After which the following page begins; None at the end."""
    total: int
    """How many there are in all."""


class OperatedBus(Bus, Protocol):
    """A bus with what operators need: every one of ours. Each call raises UnavailableError."""

    async def queues(self) -> Sequence[Queue]:
        """How much waits for whom, in order; dead letters are not among it."""
        ...

    async def dead_letters(self, limit: int, after: str = "") -> DeadLetters:
        """What was set aside, the oldest first; `after` is the last id of the page before."""
        ...

    async def find_dead(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        """Of these ids what is there, in their order."""
        ...

    async def redrive(self, ids: Sequence[str]) -> Sequence[str]:
        """Put each back where it came from, without the reason; forget it once the bus has it. Which there were.

        Done twice, or broken off between, it is delivered twice: like everything on a bus.
        """
        ...

    async def discard(self, ids: Sequence[str]) -> Sequence[str]:
        """Forget these for good. Which there were."""
        ...
