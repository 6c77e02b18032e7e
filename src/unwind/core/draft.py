"""A decision, and one in the making: the state so far and the events that led to it."""

from collections.abc import Sequence
from typing import Any, Literal, cast

from msgspec import Struct

from unwind.core.author import ask
from unwind.core.events import DomainRecorded, Event, Record
from unwind.core.evolve import EVOLVE
from unwind.core.messages import Attempt, Direction, Moment
from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.state import State

Verdict = Literal[
    "accepted", "ignored", "exists", "ended", "past_pivot", "undoing", "author_error", "conflict", "unfit", "invalid"
]


class Decision(Struct, frozen=True, gc=False):
    """What one input does: the events, the domain events that go with them, and the state after both."""

    state: State
    events: tuple[Event, ...] = ()
    records: tuple[Record, ...] = ()
    verdict: Verdict = "accepted"
    """For whoever asked: whether the input counted, and if not, why."""
    reason: str = ""


class Draft(Struct, gc=False):
    """A decision being made. Lives no longer than one call of `decide`."""

    saga: Saga[Any]
    state: State
    moment: Moment
    at: int
    events: list[Event] = []
    records: list[Record] = []

    def emit(self, event: Event) -> None:
        self.events.append(event)
        self.state = EVOLVE[type(event)](self.state, event)

    def record(self, records: Sequence[Record]) -> None:
        if not records:
            return
        if len(records) == 1:  # as most have it
            self.emit(DomainRecorded(self.at, records[0].stream, 1))
            self.records.append(records[0])
            return
        counts: dict[str, int] = {}
        for record in records:
            counts[record.stream] = counts.get(record.stream, 0) + 1
        for stream, count in counts.items():
            self.emit(DomainRecorded(self.at, stream, count))
        self.records.extend(records)

    def decision(self, verdict: Verdict = "accepted") -> Decision:
        return Decision(self.state, tuple(self.events), tuple(self.records), verdict)

    def known(self, step: str) -> StepPlan | None:
        """The plan of a step; None where the saga has none of that name."""
        return self.saga.by_name.get(step) if self.saga.flat else self.saga.plan(step, self.state.items)

    def plan(self, step: str) -> StepPlan:
        """The plan of a step that has been begun."""
        return cast("StepPlan", self.known(step))

    def context(self) -> Any:
        return ask("the context", self.saga.decode_context, self.state.context)

    def attempt(self, plan: StepPlan, direction: Direction, number: int) -> Attempt:
        """A new attempt, its timings frozen. Jitter spreads re-sends: a batch's sagas must not wake as one."""
        if plan.shape == "action":
            return Attempt(self.at, number, lease=plan.lease, runner=self.moment.worker)
        if plan.shape == "record":
            return Attempt(self.at, number)
        if plan.shape == "saga":
            return Attempt(self.at, number, resend=plan.resend - int(plan.resend * 0.2 * self.moment.jitter))
        timeout = plan.timeout if direction == "do" else plan.undo_timeout
        resend = min(plan.resend, timeout // 2)
        return Attempt(self.at, number, self.at + timeout, resend - int(resend * 0.2 * self.moment.jitter))
