"""Which step may begin next and which may be undone next, where not all come one after another."""

from collections.abc import Collection, Iterator
from typing import Any, cast

from unwind.core.plans import StepPlan, item_step, key_of
from unwind.core.saga import Saga
from unwind.core.state import State

OVER = frozenset(("done", "skipped"))
"""Statuses of a step behind which the next one may begin."""


def next_to_begin(saga: Saga[Any], state: State, tried: Collection[str]) -> StepPlan | None:
    """The first step, in the order of the declaration, before which everything is over; none of those `tried`."""
    return next(_startable(saga, _Progress(saga, state), tried), None)


def all_over(saga: Saga[Any], state: State) -> bool:
    """Whether every step is done or skipped. For what `next_to_begin` leaves nothing of."""
    progress = _Progress(saga, state)
    return all(progress.over(plan.name) for plan in saga.plans)


class _Progress:
    """How far each step of one state is, by name."""

    def __init__(self, saga: Saga[Any], state: State) -> None:
        self.saga = saga
        self.runs = {run.step: run.status for run in state.runs}
        self.listed = {listed.step: [key for key, _ in listed.items] for listed in state.items}
        self.items = state.items
        self._under_way: dict[str, set[str]] = {}

    def over(self, name: str, key: str = "") -> bool:
        """Of a step of a `ForEach`: for that item; without a key, for all of them."""
        plan = self.saga.by_name[name]
        if plan.shape == "each":
            return name in self.listed or self.runs.get(name) in OVER
        if not plan.each:
            return self.runs.get(name) in OVER
        if key:
            return self.runs.get(item_step(name, key)) in OVER
        keys = self.listed.get(plan.each)
        if keys is None:
            return self.runs.get(plan.each) in OVER
        return all(self.runs.get(item_step(name, each)) in OVER for each in keys)

    def may_begin(self, plan: StepPlan) -> bool:
        """Of what is not done for items."""
        begun = plan.name in self.runs or plan.name in self.listed
        return not begun and all(self.over(other) for other in plan.after)

    def under_way(self, each: str) -> set[str]:
        """The items of a `ForEach` of which something was begun and not all is over."""
        found = self._under_way.get(each)
        if found is None:
            plans = [plan for plan in self.saga.plans if plan.each == each]
            found = self._under_way[each] = {
                key
                for key in self.listed[each]
                if any(item_step(plan.name, key) in self.runs for plan in plans)
                and not all(self.over(plan.name, key) for plan in plans)
            }
        return found


def _startable(saga: Saga[Any], progress: _Progress, tried: Collection[str]) -> Iterator[StepPlan]:
    for plan in saga.plans:
        if plan.each:
            yield from _startable_items(saga, progress, plan, tried)
        elif plan.name not in tried and progress.may_begin(plan):
            yield plan


def _startable_items(
    saga: Saga[Any], progress: _Progress, plan: StepPlan, tried: Collection[str]
) -> Iterator[StepPlan]:
    if plan.each not in progress.listed:
        return
    keys, at_once = progress.listed[plan.each], saga.by_name[plan.each].step.at_once
    under_way = progress.under_way(plan.each) if at_once < len(keys) else set(keys)
    for key in keys:
        name = item_step(plan.name, key)
        if name in progress.runs or name in tried or not (key in under_way or len(under_way) < at_once):
            continue
        if all(progress.over(other, key) for other in plan.after):
            yield cast("StepPlan", saga.plan(name, progress.items))  # the item is listed


def next_to_undo(saga: Saga[Any], state: State, tried: Collection[str]) -> StepPlan | None:
    """The first target that nothing holds back which is still to be undone: what was begun after it, in its branch."""
    begun = {undo.step for undo in state.undos}
    ahead: dict[str, set[str]] = {}
    for target in state.targets:
        name, key = key_of(target)
        if target not in begun and target not in tried and not _held_back(saga, name, key, ahead):
            return saga.plan(target, state.items)
        ahead.setdefault(name, set()).add(key)
    return None


def _held_back(saga: Saga[Any], name: str, key: str, ahead: dict[str, set[str]]) -> bool:
    """Whether one of those ahead of it, by name and keys, comes after it in the definition."""
    group = saga.by_name[name].each
    return any(
        name in saga.by_name[other].before and (not group or saga.by_name[other].each != group or key in keys)
        for other, keys in ahead.items()
    )
