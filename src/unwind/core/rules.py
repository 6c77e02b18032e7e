"""The rules of `decide` that are questions about a state: each a small function, called by its name in this module."""

from collections.abc import Mapping
from typing import Any

from unwind.core.messages import Direction, Reply, effect_id
from unwind.core.plans import StepPlan
from unwind.core.saga import Saga
from unwind.core.state import State, StepRun


def compensation_targets(saga: Saga[Any], runs: tuple[StepRun, ...]) -> tuple[str, ...]:
    """Every started step that is not definitely refused, last first (rule 4)."""
    return tuple([run.step for run in reversed(runs) if must_undo(run) and undoable(saga, run)])


def undoable(saga: Saga[Any], run: StepRun) -> bool:
    """Whether the author says how the step is undone."""
    plan = saga.by_name.get(run.step) or saga.template(run.step)
    return plan is not None and plan.undoable


def must_undo(run: StepRun) -> bool:
    """Done, unknown, outstanding, or waiting in a backoff: its effect happened or may have. What waits has none."""
    return run.status in {"done", "unknown", "outstanding", "backoff"} and not run.waits


def overdue(state: State, at: int) -> bool:
    """Past the deadline, where it holds (rule 6)."""
    return deadline_holds(state) and state.deadline is not None and at >= state.deadline


def still_running(state: State, plan: StepPlan, at: int, leases: Mapping[str, int] | None) -> bool:
    """Whether an action to be undone may still be at work (rule 10). Only a tick knows the leases (else None)."""
    if plan.shape != "action":
        return False
    run = state.run(plan.name)
    if run is None or run.status != "outstanding":
        return False
    return leases is None or at < lease_end(run, leases.get(effect_id(state.saga_id, plan.name, "do"), 0))


def awaited_action(state: State, plan: StepPlan, run: StepRun) -> bool:
    """Whether this is an action that must end before its undo may begin (rule 10)."""
    waits = state.status == "compensating" and run.step in state.targets and state.undo_of(run.step) is None
    return waits and plan.shape == "action" and run.status == "outstanding"


def current(run: StepRun, reply: Reply) -> bool:
    """Whether a failure belongs to the attempt in progress (rule 2)."""
    return reply.attempt == run.attempt.number


def forward_only(state: State, run: StepRun) -> bool:
    """Past the pivot: not even a refusal turns the saga round (rule 6)."""
    return state.pivoted and not run.pivot


def held(state: State) -> bool:
    """The pivot has been started: nothing outstanding is ever given up (rule 6)."""
    return state.pivoted


def deadline_holds(state: State) -> bool:
    """Whether passing the deadline would turn the saga round; past the pivot it is an alarm only."""
    return state.deadline is not None and state.status == "running" and not state.pivoted


def lease_end(run: StepRun, held_until: int) -> int:
    """Until when nobody but its runner may touch an action."""
    return max(run.attempt.at + run.attempt.lease, held_until)


def in_backoff(state: State) -> list[tuple[Direction, StepRun]]:
    """What waits for its next attempt: steps of a running saga, or undos of a compensating one."""
    if state.status == "running":
        return [("do", run) for run in state.runs if run.status == "backoff"] if state.turning is None else []
    return [("undo", undo) for undo in state.undos if undo.status == "backoff"]


def unheard(state: State) -> list[tuple[Direction, StepRun]]:
    """What was parked and has not been answered since, whether it is asked again just now or not (rule 15)."""
    if state.status == "running":
        return [("do", run) for run in state.runs if run.silent and run.status == "outstanding"]
    return [("undo", undo) for undo in state.undos if undo.silent]


def waiting(state: State) -> list[StepRun]:
    """The steps that wait for a signal, or for time."""
    if state.status != "running" or state.turning is not None:
        return []
    return [run for run in state.runs if run.waits and run.status == "outstanding"]


def settling(state: State) -> list[StepRun]:
    """What is under way beside a step that failed, and is let finish before anything is undone (rule 13).

    Not what only waits, is a saga of its own, is parked or needs a person: its effect is undone like an unknown one.
    """
    return [
        run
        for run in state.runs
        if run.status == "outstanding"
        and not (run.waits or run.child or run.parked or state.blocked_on(run.step, "do"))
    ]
