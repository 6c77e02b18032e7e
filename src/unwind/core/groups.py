"""Steps side by side, `Parallel` and `ForEach`, and which step stands before which in the saga they are part of."""

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from typing import Any, Generic, Self, TypeVar

import msgspec
from msgspec import Raw, Struct

from unwind.core.steps import Step
from unwind.errors import DefinitionError

C = TypeVar("C")
T = TypeVar("T")

MAX_ITEMS = 256
MAX_RUNS = 1_024
"""Items of one `ForEach`, and its items times its steps: all of them are parts of one saga's state."""


class Parallel(Generic[C]):
    """Branches that go on side by side; what follows begins when all are over.

    A branch is a step, or a list of what comes one after another in it, groups among them. Each step keeps its own
    retry, timeout and guard. When a branch fails, nothing new begins and what is under way in the others may settle;
    then everything is undone: each branch backwards, the branches side by side.
    """

    def __init__(self, *branches: "Branch[C]") -> None:
        """At least two branches, else DefinitionError when the saga is built."""
        self.branches = branches


class ForEach(Step[C, None], Generic[C, T]):
    """The same steps for each of some items, side by side; what follows begins when all are over.

    Which items there are is asked once, when the group begins, and recorded; the steps are those of `steps`, each a
    class that says `OfItem[T]` and finds its item in `self.item`. Their names are `step[key]`, so each item has effects
    of its own. No items: nothing is done.
    """

    def __init__(
        self,
        name: str,
        steps: "Branch[C]",
        *,
        items: Callable[[C], Mapping[str, T]],
        of: type[T],
        at_once: int = MAX_ITEMS,
        at_most: int | None = None,
    ) -> None:
        """`items` is pure: key → item, in the order in which they begin; keys are printable, without brackets or '/'.

        `of` is the items' type, stored as JSON. `at_once` is how many items are under way at the same time, going
        forward; `at_most` how many there may be (more block the saga): as many as can be unless it says so, which is
        `MAX_ITEMS`, and `MAX_RUNS` by the number of steps.
        """
        self.name = name  # type: ignore[misc]
        self.steps = steps
        self.items = items
        self.of = of
        self.at_once = at_once
        self.at_most = at_most
        self.most = MAX_ITEMS
        """What that comes to; known once the saga is built."""


class OfItem(Generic[T]):
    """A step of a `ForEach`: `class Pack(CommandStep[Order, Packed], OfItem[Parcel])`."""

    stored_item: Raw
    item_type: Any

    @cached_property
    def item(self) -> T:
        """The item that this run of the step is about."""
        item: T = msgspec.json.decode(self.stored_item, type=self.item_type)
        return item

    def of_item(self, stored: Raw, of: Any) -> Self:
        """The same step, about that item."""
        step = copy(self)
        step.stored_item, step.item_type = stored, of
        return step


Part = Step[C, Any] | Parallel[C]
Branch = Part[C] | Sequence[Part[C]]


class Place(Struct, frozen=True):
    """Where a step stands: what must be over before it begins, by name."""

    step: Step[Any, Any]
    after: tuple[str, ...]
    """Directly; nothing at a saga's beginning."""
    before: frozenset[str]
    """All of them, those that stand before those too."""
    grouped: bool
    """It has neighbours that may be under way at the same time."""
    each: str = ""
    """The `ForEach` whose items it is done for."""


def lay_out(saga: str, parts: Sequence[Part[Any]]) -> list[Place]:
    """Every step of a saga with its place, in the order of the declaration. Raises DefinitionError."""
    layout = _Layout(saga)
    layout.sequence(parts, (), grouped=False, each="")
    return layout.places


class _Layout:
    def __init__(self, saga: str) -> None:
        self.saga = saga
        self.places: list[Place] = []
        self._before: dict[str, frozenset[str]] = {}

    def sequence(self, parts: object, after: tuple[str, ...], *, grouped: bool, each: str) -> tuple[str, ...]:
        """One after another; gives the names after which what follows may begin."""
        for part in parts if isinstance(parts, list | tuple) else (parts,):
            if isinstance(part, Parallel):
                after = self._side_by_side(part, after, each)
            elif isinstance(part, ForEach):
                after = self._for_each(part, after, grouped=grouped, each=each)
            elif isinstance(part, Step):
                after = self._put(part, after, grouped=grouped, each=each)
            else:
                raise DefinitionError(f"saga {self.saga}: {part!r} is no step; give steps, Parallel(…) or ForEach(…)")
        return after

    def _side_by_side(self, group: Parallel[Any], after: tuple[str, ...], each: str) -> tuple[str, ...]:
        if len(group.branches) < 2 or not all(group.branches):  # noqa: PLR2004 - one branch is a sequence
            raise DefinitionError(
                f"saga {self.saga}, the group after {after[-1] if after else 'the beginning'!r}: Parallel needs at "
                "least two branches, each with a step; what comes one after another is a list inside one branch"
            )
        ends = [self.sequence(branch, after, grouped=True, each=each) for branch in group.branches]
        return tuple(name for end in ends for name in end)

    def _for_each(
        self, group: ForEach[Any, Any], after: tuple[str, ...], *, grouped: bool, each: str
    ) -> tuple[str, ...]:
        where = f"saga {self.saga}, step {group.name!r}"
        if each:
            raise DefinitionError(f"{where}: a ForEach cannot stand inside another ({each!r}); list the pairs as items")
        if group.at_once < 1:
            raise DefinitionError(f"{where}: at_once must be at least 1")
        if isinstance(group.steps, Sequence) and not group.steps:
            raise DefinitionError(f"{where}: it has no steps; give what is to be done for each item")
        try:
            msgspec.json.schema(group.of)
        except TypeError as error:
            raise DefinitionError(
                f"{where}: the items' type {group.of!r} cannot be stored as JSON ({error})"
            ) from error
        head = self._put(group, after, grouped=grouped, each="")
        ends = self.sequence(group.steps, head, grouped=True, each=group.name)
        most = min(MAX_ITEMS, MAX_RUNS // sum(place.each == group.name for place in self.places))
        if group.at_most is not None and not 1 <= group.at_most <= most:
            raise DefinitionError(f"{where}: at_most must lie between 1 and {most} for as many steps as it has")
        group.most = most if group.at_most is None else group.at_most
        return ends

    def _put(self, step: Step[Any, Any], after: tuple[str, ...], *, grouped: bool, each: str) -> tuple[str, ...]:
        if isinstance(step, OfItem) != bool(each):
            mend = (
                f"it is done for each of {each!r}: derive it from OfItem too" if each else "OfItem is for ForEach only"
            )
            raise DefinitionError(f"saga {self.saga}, step {step.name!r}: {mend}")
        before = frozenset(after).union(*(self._before.get(name, frozenset()) for name in after))
        self.places.append(Place(step, after, before, grouped, each))
        self._before[step.name] = before
        return (step.name,)
