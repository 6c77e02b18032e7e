"""Attempts at a participant that answers nobody (rule 15): parked without being spent, then begun anew.

Who answers nobody is what one worker has seen, and no truth: a worker that knows nothing of it lets the attempt go at
once, which asks the participant once more and costs no attempt either.
"""

from collections.abc import Mapping

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core.draft import Draft
from unwind.core.state import StepRun
from unwind.core.steps import SECOND

LEAST = SECOND
MOST = 300 * SECOND
"""Microseconds for which an attempt is parked at a time, whatever the worker says: no saga sleeps for ever."""


def park(draft: Draft, run: StepRun, direction: m.Direction, held: Mapping[str, int]) -> bool:
    """Leave an attempt alone whose participant is held.

    False: it is not, it needs a person anyway, or is undone anyway once it is over.
    """
    until = held.get(m.effect_id(draft.state.saga_id, run.step, direction))
    if (
        until is None
        or run.command is None
        or draft.state.turning is not None
        or draft.state.blocked_on(run.step, direction)
    ):
        return False
    bounded = min(max(until, draft.at + LEAST), draft.at + MOST)
    draft.emit(e.AttemptParked(draft.at, run.step, direction, bounded))
    return True


def wake_parked(draft: Draft, run: StepRun, direction: m.Direction, tick: m.Tick) -> None:
    """What a wake-up does to a parked attempt: once its time has come it is parked again, or begun anew.

    It is begun anew before that where its participant is back.
    """
    if draft.state.turning is not None:
        return
    back = m.effect_id(draft.state.saga_id, run.step, direction) in tick.back
    if back or (draft.at >= run.parked and not park(draft, run, direction, tick.held)):
        draft.emit(e.AttemptReleased(draft.at, run.step, direction))
