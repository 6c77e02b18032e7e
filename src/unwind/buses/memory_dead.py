"""Dead letters of the in-process bus: the newest, as long as the process lives."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import islice

from unwind.buses.envelope import encode_batch, letter_of
from unwind.ports import DEAD, Message
from unwind.queues import DeadLetter, DeadLetters


class DeadMemory:
    """Publications that were set aside, by their number."""

    def __init__(self, keep: int, now: Callable[[], int]) -> None:
        """The newest `keep` are kept; `now` tells the time in microseconds since the epoch."""
        self._keep = keep
        self._now = now
        self._count = 0
        self._letters: OrderedDict[str, DeadLetter] = OrderedDict()

    def add(self, topic: str, messages: Sequence[Message]) -> None:
        """`topic` is that of the dead."""
        self._count += 1
        key = str(self._count)
        self._letters[key] = letter_of(key, topic.removeprefix(DEAD), "", self._now(), encode_batch(messages))
        if len(self._letters) > self._keep:
            self._letters.popitem(last=False)

    def page(self, limit: int, after: str) -> DeadLetters:
        later = (letter for key, letter in self._letters.items() if int(key) > (int(after) if after.isdecimal() else 0))
        found = tuple(islice(later, limit + 1))
        page = found[:limit]
        return DeadLetters(page, page[-1].id if len(found) > limit else None, len(self._letters))

    def find(self, ids: Sequence[str]) -> Sequence[DeadLetter]:
        return [self._letters[key] for key in dict.fromkeys(ids) if key in self._letters]

    def forget(self, key: str) -> None:
        self._letters.pop(key, None)
