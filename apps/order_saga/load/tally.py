"""What came of the orders: counted, timed, and put together at the end."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from msgspec import Struct

KEPT = 1.0
"""Seconds behind the schedule up to which the rate counts as kept."""
_SHOWN = 10_000
"""Of the latest latencies, while it goes on: to sort all of them each time would be load too."""


class Latencies(Struct, frozen=True):
    """In milliseconds; None: there was nothing to be timed."""

    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Summary(Struct, frozen=True):
    """A run, as it is printed."""

    rate: float
    orders: int
    seconds: float
    """For how long orders were placed."""
    accepted: int
    not_accepted: int
    """Sent, and refused for good, or without an answer until the end."""
    not_sent: int
    refused: Mapping[str, int]
    """Answers that were no yes, by status code; 429 and 503 were waited out and asked again."""
    no_answer: int
    """Calls that were not answered; they were repeated under the same key."""
    ended: Mapping[str, int]
    not_ended: Mapping[str, int]
    """Accepted orders that had not ended when the wait was over, by the status in which they were last seen."""
    kept_rate: bool
    """Whether each was sent about when its turn was."""
    behind_seconds: float
    """The furthest that an order was sent after its turn."""
    to_accept_ms: Latencies
    """From its turn until it was accepted: waiting to be sent counts, as it would for a customer."""
    to_end_ms: Latencies
    """From being accepted to its end, by the server's clock."""
    interrupted: bool


class Tally:
    """What is known so far. Times are seconds."""

    def __init__(self, rate: float, orders: int) -> None:
        """`orders` are to be placed."""
        self.rate = rate
        self.orders = orders
        self.seconds = 0.0
        self.sent = 0
        self.accepted = 0
        self.refused: Counter[str] = Counter()
        self.no_answer = 0
        self.ended: Counter[str] = Counter()
        self.open: dict[str, str] = {}
        """Accepted and not ended: saga → the status in which it was last seen."""
        self.behind = 0.0
        self.to_accept: list[float] = []
        self.to_end: list[float] = []

    def send(self, late: float, since: float) -> None:
        """An order is sent so late after its turn, and so long after the first."""
        self.sent += 1
        self.behind = max(self.behind, late)
        self.seconds = since

    def accept(self, saga_id: str, took: float) -> None:
        """An order was accepted."""
        self.accepted += 1
        self.to_accept.append(took)
        self.open[saga_id] = "pending"

    def end(self, saga_id: str, status: str, took: float) -> None:
        """An order has ended."""
        if self.open.pop(saga_id, None) is not None:
            self.ended[status] += 1
            self.to_end.append(took)

    def summary(self, *, interrupted: bool = False, latest: bool = False) -> Summary:
        """All of it; with `latest` the latencies are those of the latest orders only."""
        of = slice(-_SHOWN, None) if latest else slice(None)
        return Summary(
            rate=self.rate,
            orders=self.orders,
            seconds=round(self.seconds, 3),
            accepted=self.accepted,
            not_accepted=self.sent - self.accepted,
            not_sent=self.orders - self.sent,
            refused=dict(sorted(self.refused.items())),
            no_answer=self.no_answer,
            ended=dict(sorted(self.ended.items())),
            not_ended=dict(sorted(Counter(self.open.values()).items())),
            kept_rate=self.behind <= KEPT and (interrupted or self.sent == self.orders),
            behind_seconds=round(self.behind, 3),
            to_accept_ms=latencies(self.to_accept[of]),
            to_end_ms=latencies(self.to_end[of]),
            interrupted=interrupted,
        )


def latencies(seconds: Sequence[float]) -> Latencies:
    """By nearest rank: each is one that was measured."""
    if not seconds:
        return Latencies()
    ranked = sorted(seconds)
    shares: Any = (ranked[max(0, ceil(share * len(ranked)) - 1)] for share in (0.5, 0.95, 0.99, 1.0))
    return Latencies(*(round(value * 1_000, 3) for value in shares))
