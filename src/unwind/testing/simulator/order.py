"""Which step of a simulated saga stands before which, and which are over: by its definition and its events."""

from typing import Any

from unwind.core.plans import StepPlan
from unwind.core.saga import Saga


class Order:
    """The order of one saga's steps, those of its items among them as far as the items are known."""

    def __init__(self, saga: Saga[Any]) -> None:
        """Nothing has begun."""
        self.saga = saga
        self.plans = {plan.name: plan for plan in saga.plans}
        self.steps: dict[str, dict[str, Any]] = {}
        """What was begun, by name, in the order in which it was; `st` says how it stands."""
        self.items: dict[str, list[str]] = {}
        """The keys that each group has listed."""
        self.blocks: dict[tuple[str, str], tuple[int, int]] = {}
        """What needs a person: since when, and how often it is tried again."""

    @staticmethod
    def template(step: str) -> str:
        return step.partition("[")[0]

    def plan(self, step: str) -> StepPlan:
        return self.plans[self.template(step)]

    def known(self, step: str) -> bool:
        return step in self.every_step()

    def every_step(self) -> list[str]:
        """All steps by name; those of a group once for each item, as far as the items are known."""
        return [
            name
            for plan in self.saga.plans
            for name in ([f"{plan.name}[{key}]" for key in self.items.get(plan.each, ())] if plan.each else [plan.name])
        ]

    def stands_before(self, one: str, other: str) -> bool:
        """Whether `one` must be over before `other` begins, and be undone after it."""
        mine, yours = self.plan(one), self.plan(other)
        if mine.name not in yours.before:
            return False
        same_group = mine.each != "" and mine.each == yours.each
        return not same_group or one.partition("[")[2] == other.partition("[")[2]

    def over(self, step: str) -> bool:
        return step in self.items or self.steps.get(step, {}).get("st") in {"done", "skipped"}

    def under_way(self, step: str) -> set[str]:
        """The items of its group that have begun and are not over."""
        group = [name for name in self.every_step() if self.plan(name).each == self.plan(step).each != ""]
        begun = {name.partition("[")[2] for name in group if name in self.steps}
        return begun & {name.partition("[")[2] for name in group if not self.over(name)}

    def at_once(self, step: str) -> int:
        each = self.plan(step).each
        most: int = self.plans[each].step.at_once if each else 1
        return most

    def settling(self) -> list[str]:
        """What is under way and is let finish when a step beside it fails."""
        out = {
            name for name, step in self.steps.items() if step["st"] == "out" and not (step["waits"] or step["parked"])
        }
        return [name for name in out if (name, "do") not in self.blocks and self.plan(name).shape != "saga"]
