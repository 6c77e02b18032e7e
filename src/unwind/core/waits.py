"""Steps that wait, for a signal or for time (rule 12): what a signal does, and what time does."""

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core.advance import advance, block, take_signal, turn_round
from unwind.core.author import AuthorError, decoded_reply
from unwind.core.draft import Decision, Draft
from unwind.core.plans import StepPlan
from unwind.core.state import AWAITED, Heard, StepRun


def hear(draft: Draft, signal: m.Signal) -> Decision:
    """A signal comes: for a step that waits, or to be kept for one that will."""
    state = draft.state
    if not state.live:
        return draft.decision("ended" if state.status != "new" else "ignored")
    why = _not_awaited(draft, signal)
    if why is not None:
        return Decision(state, verdict="unfit", reason=why) if why else draft.decision()
    plan = draft.plan(signal.step)
    try:
        decoded_reply(plan, signal.payload)
    except AuthorError as error:
        return Decision(state, verdict="invalid", reason=error.reason)
    draft.emit(e.SignalReceived(draft.at, signal.step, signal.payload, signal.signal_id, signal.actor))
    if state.run(signal.step) is not None:
        _take(draft, plan, Heard(signal.step, signal.payload, signal.signal_id))
        if draft.state.status == "running":
            advance(draft)
    return draft.decision()


def _not_awaited(draft: Draft, signal: m.Signal) -> str | None:
    """Why a signal is refused; empty: it has been heard already; None: it counts."""
    state, plan = draft.state, draft.known(signal.step)
    if plan is None or plan.shape != "signal":
        known = [f"{plan.name}[…]" if plan.each else plan.name for plan in draft.saga.plans if plan.shape == "signal"]
        return f"it waits for no signal {signal.step!r}" + (f"; it has {', '.join(known)}" if known else "")
    heard, run = state.heard(signal.step), state.run(signal.step)
    if heard is not None:
        same = (heard.signal_id, heard.payload) == (signal.signal_id, signal.payload)
        blocked = state.status == "running" and state.blocked_on(signal.step, "do")
        if same or not blocked:
            return "" if same else f"another signal {signal.step} came before this one"
    if state.status != "running" or state.turning is not None:
        return "it is being undone and waits for no signal any more"
    if run is not None and run.status not in AWAITED:
        return f"{signal.step} is over and waits for no signal any more"
    return None


def wait_on(draft: Draft, plan: StepPlan, run: StepRun) -> None:
    """What time does to a step that waits: a sleep ends, a signal has not come; one that was no use is asked again.

    It is left to the caller to move on.
    """
    late = run.attempt.expires is not None and draft.at >= run.attempt.expires
    heard = draft.state.heard(run.step)
    if heard is not None:
        _take(draft, plan, heard)
    elif late and run.waits == "sleep":
        draft.emit(e.StepDone(draft.at, run.step, 1))
    elif late and plan.on_timeout == "skip":
        draft.emit(e.StepSkipped(draft.at, run.step, "no signal in time"))
    elif late and draft.state.pivoted:
        block(draft, plan, "do", "no signal in time")
    elif late:
        draft.emit(e.StepUnknown(draft.at, run.step, 1, "no signal in time", timed_out=True))
        turn_round(draft, "unknown", run.step, "no signal in time")


def _take(draft: Draft, plan: StepPlan, heard: Heard) -> None:
    try:
        take_signal(draft, plan, heard)
    except AuthorError as error:
        block(draft, plan, "do", error.reason)
