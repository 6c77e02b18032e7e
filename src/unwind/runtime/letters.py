"""What operators do with dead letters: the bus does it, the log tells who did. There is no other history of it."""

from collections.abc import Awaitable, Callable, Sequence

import structlog
from msgspec import Struct

from unwind.queues import OperatedBus

log = structlog.get_logger("unwind.letters")


class LetterAct(Struct, frozen=True):
    """What came of an act on some letters."""

    done: tuple[str, ...]
    missing: tuple[str, ...]
    """They were not there: somebody else was faster, or they were never there."""


async def redrive(bus: OperatedBus, ids: Sequence[str], *, actor: str, reason: str = "") -> LetterAct:
    """Put letters back where they came from. Raises UnavailableError: some may have been put back."""
    return await _act("redrive", bus.redrive, ids, actor, reason)


async def discard(bus: OperatedBus, ids: Sequence[str], *, actor: str, reason: str = "") -> LetterAct:
    """Forget letters for good. Raises UnavailableError: some may be gone."""
    return await _act("discard", bus.discard, ids, actor, reason)


async def _act(
    name: str, act: Callable[[Sequence[str]], Awaitable[Sequence[str]]], ids: Sequence[str], actor: str, reason: str
) -> LetterAct:
    asked = list(dict.fromkeys(ids))
    # Told before it is done too: it may break off between.
    log.info("dead_letters_asked", act=name, actor=actor, reason=reason, letters=asked)
    found = set(await act(asked))
    done, missing = [each for each in asked if each in found], [each for each in asked if each not in found]
    log.warning("dead_letters_acted", act=name, actor=actor, reason=reason, letters=done, missing=missing)
    return LetterAct(tuple(done), tuple(missing))
