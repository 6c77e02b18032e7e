"""What is known of a saga at one moment, and the figures that follow from it: how long, how often, what failed last."""

from collections.abc import Sequence
from typing import Any, TypeVar

from msgspec import Struct

from unwind.core.events import Event, SagaEvent, SagaPaused, StepFailed, UndoFailed
from unwind.core.messages import Direction
from unwind.core.rules import awaited_action, settling
from unwind.core.saga import Saga
from unwind.core.state import AWAITED, State, StepRun

SECOND = 1_000_000
_UNITS = ((86_400, "day"), (3_600, "hour"), (60, "minute"))
_DOUBLE = 2
"""From two of a unit on it is spoken of in that unit: 119 s, 2 minutes."""
E = TypeVar("E", bound=SagaEvent)


class Situation(Struct, frozen=True):
    """All that is known of a saga: its definition (None: not known here), its state, its log, and the time."""

    saga: Saga[Any] | None
    state: State
    log: Sequence[Event]
    now: int

    def ago(self, at: int) -> str:
        """How long ago that was."""
        return spoken(self.now - at)

    def within(self, at: int) -> str:
        """When that will be."""
        return f"in {spoken(at - self.now)}" if at > self.now else "any moment now"

    def all_awaited(self) -> list[tuple[Direction, StepRun]]:
        """The steps, or undos, that have begun and are not over, the latest first.

        Of a saga that is being undone also the actions that must end before their undo may begin.
        """
        state = self.state
        found: list[tuple[Direction, StepRun]] = [("undo", undo) for undo in reversed(state.undos)]
        for run in reversed(state.runs):
            if state.status == "running" and run.status in AWAITED:
                if state.turning is None or run in settling(state):
                    found.append(("do", run))
            elif run.status == "outstanding" and self.saga:
                plan = self.saga.template(run.step)
                if plan is not None and awaited_action(state, plan, run):
                    found.append(("do", run))
        return found

    def awaited(self) -> tuple[Direction, StepRun] | None:
        """The latest of them."""
        return next(iter(self.all_awaited()), None)

    def attempts(self, step: str, direction: Direction) -> int | None:
        """How many attempts a step, or its undo, has."""
        if self.saga is None:
            return None
        plan = self.saga.template(step)
        return None if plan is None else (plan.retry if direction == "do" else plan.undo_retry).attempts


def spoken(micros: int) -> str:
    """A duration as people say it: `20 s`, `4 minutes`, `2 days`. Less than a second is `less than a second`."""
    seconds = micros // SECOND
    for size, unit in _UNITS:
        if seconds >= _DOUBLE * size:
            return f"{seconds // size} {unit}s"
    return f"{seconds} s" if seconds > 0 else "less than a second"


def times_sent(told: Situation, run: StepRun) -> int | None:
    """How often the command was due to be sent in this attempt; a pause holds it back, a block makes it rarer."""
    attempt = run.attempt
    blocked = next((block for block in told.state.blocks if block.step == run.step), None)
    if run.command is None or run.status == "backoff" or attempt.expires is None:
        return None
    until = last(told, SagaPaused).at if told.state.paused else told.now
    usual = min(until, attempt.expires, until if blocked is None else blocked.since)
    count = 1 + max(0, usual - attempt.at) // attempt.resend
    return count if blocked is None else count + max(0, until - blocked.since) // blocked.retry_every


def failure(told: Situation, direction: Direction, step: str) -> StepFailed | UndoFailed | None:
    """The latest attempt at a step, or its undo, that failed and was followed by another."""
    kind = StepFailed if direction == "do" else UndoFailed
    return next((event for event in reversed(told.log) if isinstance(event, kind) and event.step == step), None)


def last(told: Situation, kind: type[E]) -> E:
    """The latest event of a kind that the state says there is."""
    return next(event for event in reversed(told.log) if isinstance(event, kind))


def named(direction: Direction, step: str) -> str:
    """A step or its undo, as it is spoken of."""
    return step if direction == "do" else f"the undo of {step}"


def said(reason: str) -> str:
    """A reason as part of a sentence."""
    return reason.strip().rstrip(".") or "nobody said why"
