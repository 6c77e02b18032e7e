"""A saga's definition: `Saga`. Everything is checked when it is built."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import timedelta
from hashlib import sha256
from typing import Any, Generic, TypeVar

import msgspec

from unwind.core.attributes import Attribute, check_attributes
from unwind.core.events import Record
from unwind.core.groups import Part, Place, lay_out
from unwind.core.plans import StepPlan, check_duration, key_of, plan_step
from unwind.core.state import Listed
from unwind.core.steps import Kind, micros
from unwind.errors import DefinitionError

C = TypeVar("C")

MAX_STEPS = 64


def revision_of(name: str, version: int, content_hash: str) -> str:
    """A definition in one string: what a running saga is bound to."""
    return f"{name}@{version}#{content_hash}"


def version_in(revision: str) -> int:
    """The definition's version in such a string."""
    return int(revision.rpartition("#")[0].rpartition("@")[2])


class Saga(Generic[C]):
    """A saga's definition: immutable, named, versioned; running sagas stay bound to its content hash."""

    def __init__(
        self,
        name: str,
        *,
        context: type[C],
        steps: Sequence[Part[C]],
        version: int = 1,
        deadline: timedelta | None = None,
        on_started: Callable[[C], Sequence[Record]] | None = None,
        on_compensated: Callable[[C], Sequence[Record]] | None = None,
        attributes: Mapping[str, Attribute[C, Any]] | None = None,
    ) -> None:
        """Check the declaration and work out the plan.

        `steps` come one after another, but for those in a `Parallel` or a `ForEach`.
        `on_started` and `on_compensated` give domain events for the saga's first and last transaction; they are pure.
        `attributes` are what sagas of this definition can be found by; changing them needs no new version, and what
        has started before keeps those it started with.

        Raises DefinitionError naming the step and the mend.
        """
        if not name.isidentifier():
            raise DefinitionError(f"saga {name!r}: the name must be a Python identifier, e.g. 'order_saga'")
        if version < 1:
            raise DefinitionError(f"saga {name}: version is {version}; number versions from 1")
        if deadline is not None:
            check_duration(f"saga {name}", "deadline", deadline)
        self.name = name
        self.version = version
        self.deadline = None if deadline is None else micros(deadline)
        self.on_started = on_started
        self.on_compensated = on_compensated
        check_attributes(name, attributes or {})
        self.attributes: Mapping[str, Attribute[C, Any]] = dict(attributes or {})
        places = lay_out(name, steps)
        self.plans: tuple[StepPlan, ...] = tuple(plan_step(name, place) for place in places)
        """In the order of the declaration."""
        self.flat = not any(place.grouped or place.each for place in places)
        """Whether every step comes after the one before it."""
        self.asks = any(plan.shape == "command" for plan in self.plans)
        """Whether any step asks a participant."""
        _check_sequence(name, places, self.plans)
        self.children: tuple[Saga[Any], ...] = tuple(_child(name, plan) for plan in self.plans if plan.shape == "saga")
        """The sagas that are its steps' doing."""
        self.context_type = context
        try:
            self.decode_context: Callable[[bytes | msgspec.Raw], C] = msgspec.json.Decoder(context).decode
            schema = msgspec.json.schema(context)
        except TypeError as error:
            raise DefinitionError(
                f"saga {name}: context {context!r} cannot be stored as JSON ({error}); "
                "use a msgspec.Struct or dataclass of plain types"
            ) from error
        self.by_name: Mapping[str, StepPlan] = {plan.name: plan for plan in self.plans}
        self.hash = _content_hash(self, schema)
        self.revision = revision_of(name, version, self.hash)
        """Name, version and content hash in one string: what a running saga is bound to."""

    def template(self, step: str) -> StepPlan | None:
        """The plan of a step as it was declared: for an item's step, of that step for any item. None: no such step."""
        plan = self.by_name.get(step)
        if plan is not None or self.flat:
            return plan
        name, key = key_of(step)
        plan = self.by_name.get(name)
        return plan if plan is not None and plan.each and key else None

    def plan(self, step: str, items: Sequence[Listed]) -> StepPlan | None:
        """The plan of a step, an item's with its item in `step.item`. None: it has no such step, or no such item."""
        template = self.template(step)
        if template is None or not template.each:
            return template
        _, key = key_of(step)
        listed = next((listed.items for listed in items if listed.step == template.each), ())
        found = next((raw for each, raw in listed if each == key), None)
        return None if found is None else template.for_item(step, self.by_name[template.each].step.of, found)


def with_children(sagas: Iterable[Saga[Any]]) -> list[Saga[Any]]:
    """These definitions, and all that are the doing of their steps, each once."""
    found = list(sagas)
    known = {saga.hash for saga in found}
    for saga in found:  # grows meanwhile
        for child in saga.children:
            if child.hash not in known:
                known.add(child.hash)
                found.append(child)
    return found


def _check_sequence(saga: str, places: Sequence[Place], plans: tuple[StepPlan, ...]) -> None:
    """Compensatable steps, then at most one pivot, then retriable ones; and nothing that cannot be undone before it."""
    if not plans:
        raise DefinitionError(f"saga {saga}: it has no steps; give at least one")
    if len(plans) > MAX_STEPS:
        raise DefinitionError(f"saga {saga}: it has {len(plans)} steps; at most {MAX_STEPS} are allowed")
    seen: set[str] = set()
    pivot: str | None = None
    for place, plan in zip(places, plans, strict=True):
        where = f"saga {saga}, step {plan.name!r}"
        if plan.name in seen:
            raise DefinitionError(
                f"{where}: another step has the same name; names identify effects, make them distinct"
            )
        seen.add(plan.name)
        if plan.kind is Kind.PIVOT:
            if pivot is not None:
                raise DefinitionError(f"{where}: {pivot!r} is the pivot already; a saga has one point of no return")
            if place.grouped:
                raise DefinitionError(
                    f"{where}: a pivot cannot have neighbours that may still fail; "
                    "put it before or behind the group that it is in"
                )
            pivot = plan.name
        elif plan.kind is Kind.RETRIABLE and pivot is None:
            raise DefinitionError(f"{where}: it is retriable but stands before any pivot; declare the pivot before it")
        elif plan.kind is Kind.COMPENSATABLE and pivot is not None and not plan.idle:
            raise DefinitionError(
                f"{where}: it is compensatable but stands after the pivot {pivot!r}; "
                "move it before the pivot or make it retriable"
            )
        if plan.kind is Kind.COMPENSATABLE and not plan.undoable and not plan.idle:
            raise DefinitionError(
                f"{where}: it has no `compensate` and can be followed by a failure; "
                "define `compensate`, or make it the pivot, or move it after the pivot as retriable"
            )


def _child(saga: str, plan: StepPlan) -> "Saga[Any]":
    """The saga that is a step's doing. Raises DefinitionError."""
    where, child = f"saga {saga}, step {plan.name!r}", getattr(plan.step, "saga", None)
    if not isinstance(child, Saga):
        raise DefinitionError(f"{where}: give it the Saga that it begins, `saga = …`")
    if plan.kind is Kind.RETRIABLE:
        raise DefinitionError(
            f"{where}: saga {child.name} may end undone, and after the pivot nothing could make that good; "
            "make the step the pivot, or put it before"
        )
    pivot = next((each.name for each in child.plans if each.kind is Kind.PIVOT), None)
    if pivot is not None and plan.kind is Kind.COMPENSATABLE:
        raise DefinitionError(
            f"{where}: saga {child.name} cannot be undone once its pivot {pivot!r} was begun; "
            "make the step the pivot, or begin a saga without one"
        )
    return child


def _content_hash(saga: "Saga[Any]", schema: object) -> str:
    """Twelve hex digits over what running sagas depend on: order, names, kinds, shapes, policies, context schema."""
    steps = [
        [
            plan.name,
            plan.kind.value,
            plan.shape,
            plan.undoable,
            plan.timeout,
            msgspec.to_builtins(plan.retry),
            plan.undo_timeout,
            msgspec.to_builtins(plan.undo_retry),
            plan.resend,
            plan.lease,
            *([plan.duration, plan.on_timeout] if plan.waits else []),
            # Only where it tells anything: what runs today must keep its hash.
            *([] if saga.flat else [plan.after, plan.each]),
            *([plan.step.saga.hash] if plan.shape == "saga" else []),
            *([plan.step.at_once, _without_prose(msgspec.json.schema(plan.step.of))] if plan.shape == "each" else []),
        ]
        for plan in saga.plans
    ]
    content = [saga.name, saga.version, saga.deadline, steps, _without_prose(schema)]
    return sha256(msgspec.json.encode(content, order="sorted")).hexdigest()[:12]


def _without_prose(schema: Any) -> Any:
    """A JSON schema without its descriptions: nothing that runs depends on the text of a docstring."""
    if isinstance(schema, dict):
        return {
            key: _without_prose(value)
            for key, value in schema.items()
            if not (key == "description" and isinstance(value, str))
        }
    return [_without_prose(item) for item in schema] if isinstance(schema, list) else schema
