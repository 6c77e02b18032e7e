"""What is told of a saga that is parked: who is silent since when, that nothing is spent, what comes next."""

from unwind.core.events import StepRetried, StepStarted, UndoRetried, UndoStarted
from unwind.core.messages import Direction
from unwind.core.state import StepRun
from unwind.runtime.instants import instant
from unwind.runtime.situation import Situation, named


def parked_story(told: Situation, direction: Direction, run: StepRun, service: str) -> list[str]:
    """The headline, and the sentences that follow it."""
    number, what = run.attempt.number, named(direction, run.step)
    attempts = told.attempts(run.step, direction)
    of = f" of {attempts}" if attempts else ""
    asked = _first_asked(told, direction, run)
    return [
        f"Parked for {told.ago(run.silent)}: {service} does not answer, and {what} waits until it does.",
        f"{service} was first asked for it {told.ago(asked)} ago ({instant(asked)}), and was silent to others too.",
        f"No attempt is being spent: it is still attempt {number}{of}.",
        f"It is tried again {told.within(run.parked)}, by itself; an answer that comes before that counts.",
        "If its participant will never come back, a person may resolve it by hand, as what is blocked.",
    ]


def _first_asked(told: Situation, direction: Direction, run: StepRun) -> int:
    """When this attempt began, before it was parked for the first time."""
    kinds = (StepStarted, StepRetried) if direction == "do" else (UndoStarted, UndoRetried)
    begun = (event.at for event in reversed(told.log) if isinstance(event, kinds) and event.step == run.step)
    return next(begun, run.attempt.at)
