"""How an author declares a saga: `Saga`, its steps, its policies. Everything is checked when it is built."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from enum import StrEnum
from hashlib import sha256
from typing import Any, ClassVar, Generic, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct

from unwind.core.events import Record
from unwind.errors import DefinitionError

C = TypeVar("C")
R = TypeVar("R")

MAX_STEPS = 64
MAX_ATTEMPTS = 1_000
MAX_FACTOR = 1_000
MAX_DURATION = timedelta(days=3_650)
_SECOND = 1_000_000


def micros(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return (duration.days * 86_400 + duration.seconds) * _SECOND + duration.microseconds


class Command(Struct, frozen=True, forbid_unknown_fields=True):
    """Base of commands. The tag is `service.name`: `class Reserve(Command, frozen=True, tag="inventory.reserve")`."""


class Refusal(Struct, frozen=True):
    """Base of a participant's business answer "no": a value, never an exception. Starts compensation at once."""

    reason: str


class Refused(Refusal, frozen=True, tag="refused"):
    """A refusal that needs no type of its own."""


class Kind(StrEnum):
    """The classes of steps (Garcia-Molina & Salem 1987; Richardson, *Microservices Patterns*, ch. 4)."""

    COMPENSATABLE = "compensatable"
    """Can be undone."""
    PIVOT = "pivot"
    """The point of no return: once it is started there is no cancel and no deadline; once done, no way back."""
    RETRIABLE = "retriable"
    """After the pivot: is retried until it succeeds."""


class Retry(Struct, frozen=True):
    """How often, and how long apart, a step is tried. Durations are in microseconds."""

    attempts: int = 1
    initial: int = 0
    factor: float = 1.0
    cap: int = 300 * _SECOND
    spread: float = 0.0
    """Share of the delay that jitter may take away, 0 to 1."""

    @staticmethod
    def none() -> "Retry":
        """One attempt."""
        return Retry()

    @staticmethod
    def fixed(attempts: int, delay: timedelta) -> "Retry":
        """The same delay before each further attempt."""
        return Retry(attempts, micros(delay), cap=max(micros(delay), Retry().cap))

    @staticmethod
    def exponential(
        attempts: int,
        initial: timedelta = timedelta(seconds=1),
        factor: float = 2.0,
        cap: timedelta = timedelta(minutes=5),
        spread: float = 0.2,
    ) -> "Retry":
        """Delays that grow by `factor` up to `cap`, each shortened at random by up to `spread` of itself."""
        return Retry(attempts, micros(initial), factor, micros(cap), spread)

    def delay(self, attempt: int, jitter: float) -> int:
        """Microseconds between the failure of attempt `attempt` (from 1) and the next; `jitter` is in [0, 1)."""
        exponent = min(attempt - 1, 64)
        full = min(float(self.cap), self.initial * self.factor**exponent)
        return int(full * (1.0 - self.spread * jitter))


UNDO_RETRY = Retry.exponential(attempts=8)
"""How undos are retried unless the step says otherwise. After the last attempt the saga is blocked, and tries on."""


class Fail(Struct, frozen=True):
    """A guard's verdict: turn round."""

    reason: str


Verdict = Literal["proceed", "skip"] | Fail
PROCEED: Literal["proceed"] = "proceed"
SKIP: Literal["skip"] = "skip"


class Outcome(Struct, Generic[C], frozen=True):
    """A step's new context together with domain events for other streams, committed in the same transaction."""

    context: C
    records: Sequence[Record] = ()


class ActionCall(Struct, frozen=True):
    """What an action is told about the run it is part of. Outside effects must carry `effect_id`."""

    effect_id: str
    saga_id: str
    attempt: int


class Step(Generic[C, R]):
    """What every step declares. Subclass `CommandStep`, `ActionStep` or `RecordStep`."""

    name: ClassVar[str] = ""
    kind: ClassVar[Kind] = Kind.COMPENSATABLE
    timeout: ClassVar[timedelta] = timedelta(seconds=30)
    """Per attempt."""
    retry: ClassVar[Retry] = Retry.none()
    undo_timeout: ClassVar[timedelta] = timedelta(seconds=30)
    undo_retry: ClassVar[Retry] = UNDO_RETRY

    def guard(self, context: C) -> Verdict:
        """Whether the step is to be done, skipped, or the saga to turn round. Pure."""
        return PROCEED


class CommandStep(Step[C, R]):
    """A step done by a participant: a command goes out, a reply comes back. All methods are pure."""

    resend: ClassVar[timedelta | None] = None
    """Interval of re-sending an unanswered command; default a third of the timeout, at most 5 s."""

    def execute(self, context: C) -> Command:
        """The command to send. It is frozen: re-sends and retries carry the same payload."""
        raise NotImplementedError

    def succeeded(self, context: C, reply: R) -> C | Outcome[C]:
        """The context after the participant said yes."""
        return context

    def compensate(self, context: C) -> Command:
        """The command that undoes the step. The reply may never have come: work from what is known without it."""
        raise NotImplementedError


class ActionStep(Step[C, R]):
    """A step done by an async function in the worker. At least once; it may overlap itself after a crash."""

    lease: ClassVar[timedelta] = timedelta(seconds=30)
    """How long others leave a silent runner alone."""

    async def run(self, context: C, call: ActionCall) -> R | Refusal:
        """Do it. Return a result, or a `Refusal` for a business no; whatever is raised means "try again"."""
        raise NotImplementedError

    def succeeded(self, context: C, reply: R) -> C | Outcome[C]:
        """The context after the action ended well. Pure."""
        return context

    async def compensate(self, context: C, call: ActionCall) -> Refusal | None:
        """Undo it. It may never have happened."""
        raise NotImplementedError


class RecordStep(Step[C, None]):
    """A step that only records domain events; it is done in the decision that starts it. Pure."""

    def record(self, context: C) -> Outcome[C]:
        """The domain events, and the context after them."""
        raise NotImplementedError

    def compensate(self, context: C) -> Outcome[C]:
        """The domain events that take it back; the context is not changed any more."""
        raise NotImplementedError


class StepPlan(Struct, frozen=True, gc=False):
    """What the machine needs of a step, worked out once when the saga is built. Durations in microseconds."""

    name: str
    kind: Kind
    shape: Literal["command", "action", "record"]
    step: Any
    reply_type: Any
    undoable: bool
    guarded: bool
    maps_reply: bool
    """Whether the author overrides `succeeded`."""
    timeout: int
    retry: Retry
    undo_timeout: int
    undo_retry: Retry
    resend: int
    lease: int


class Saga(Generic[C]):
    """A saga's definition: immutable, named, versioned; running sagas stay bound to its content hash."""

    def __init__(
        self,
        name: str,
        *,
        context: type[C],
        steps: Sequence[Step[C, Any]],
        version: int = 1,
        deadline: timedelta | None = None,
        on_started: Callable[[C], Sequence[Record]] | None = None,
        on_compensated: Callable[[C], Sequence[Record]] | None = None,
    ) -> None:
        """Check the declaration and work out the plan.

        `on_started` and `on_compensated` give domain events for the saga's first and last transaction; they are pure.

        Raises DefinitionError naming the step and the mend.
        """
        if not name.isidentifier():
            raise DefinitionError(f"saga {name!r}: the name must be a Python identifier, e.g. 'order_saga'")
        if version < 1:
            raise DefinitionError(f"saga {name}: version is {version}; number versions from 1")
        if deadline is not None:
            _check_duration(f"saga {name}", "deadline", deadline)
        self.name = name
        self.version = version
        self.deadline = None if deadline is None else micros(deadline)
        self.on_started = on_started
        self.on_compensated = on_compensated
        self.plans: tuple[StepPlan, ...] = tuple(_plan(name, step) for step in steps)
        _check_sequence(name, self.plans)
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
        self.revision = f"{name}@{version}#{self.hash}"
        """Name, version and content hash in one string: what a running saga is bound to."""


def _reply_type(step: Step[Any, Any]) -> Any:
    """What the author wrote as R in `CommandStep[C, R]`, here or in a base class; Any where nobody said."""
    for cls in type(step).__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin, args = get_origin(base), get_args(base)
            said = isinstance(origin, type) and issubclass(origin, Step) and len(args) == 2  # noqa: PLR2004
            if said and args[1] is not Any and not isinstance(args[1], TypeVar):
                return args[1]
    return Any


def _overrides(step: Step[Any, Any], method: str) -> bool:
    base = next(cls for cls in (CommandStep, ActionStep, RecordStep) if isinstance(step, cls))
    return getattr(type(step), method) is not getattr(base, method)


def _plan(saga: str, step: Step[Any, Any]) -> StepPlan:
    where = f"saga {saga}, step {step.name or type(step).__name__!r}"
    if not step.name or "/" in step.name or not step.name.isprintable():
        raise DefinitionError(f"{where}: the class needs `name = \"…\"`, printable and without '/'")
    shapes: tuple[tuple[type, Literal["command", "action", "record"], str], ...] = (
        (CommandStep, "command", "execute"),
        (ActionStep, "action", "run"),
        (RecordStep, "record", "record"),
    )
    shape, method = next(((shape, method) for cls, shape, method in shapes if isinstance(step, cls)), (None, ""))
    if shape is None:
        raise DefinitionError(f"{where}: derive it from CommandStep, ActionStep or RecordStep")
    if not _overrides(step, method):
        raise DefinitionError(f"{where}: define `{method}`")
    _check_policies(where, step)
    timeout, undo_timeout = micros(step.timeout), micros(step.undo_timeout)
    resend, lease = 0, 0
    if isinstance(step, CommandStep):
        resend = min(timeout // 3, 5 * _SECOND) if step.resend is None else micros(step.resend)
        if not 0 < resend < timeout:
            raise DefinitionError(f"{where}: resend is {step.resend}; it must lie between 0 and the timeout")
    if isinstance(step, ActionStep):
        _check_duration(where, "lease", step.lease)
        lease = micros(step.lease)
    return StepPlan(
        name=step.name,
        kind=step.kind,
        shape=shape,
        step=step,
        reply_type=_reply_type(step),
        undoable=_overrides(step, "compensate"),
        guarded=type(step).guard is not Step.guard,
        maps_reply=shape != "record" and _overrides(step, "succeeded"),
        timeout=timeout,
        retry=step.retry,
        undo_timeout=undo_timeout,
        undo_retry=step.undo_retry,
        resend=resend,
        lease=lease,
    )


def _check_duration(where: str, label: str, duration: timedelta) -> None:
    if not timedelta(0) < duration <= MAX_DURATION:
        longest = MAX_DURATION.days
        raise DefinitionError(f"{where}: {label} is {duration}; give a positive duration of at most {longest} days")


def _check_policies(where: str, step: Step[Any, Any]) -> None:
    for label, duration in (("timeout", step.timeout), ("undo_timeout", step.undo_timeout)):
        _check_duration(where, label, duration)
    for label, retry in (("retry", step.retry), ("undo_retry", step.undo_retry)):
        if not 1 <= retry.attempts <= MAX_ATTEMPTS:
            raise DefinitionError(f"{where}: {label} has {retry.attempts} attempts; allowed are 1 to {MAX_ATTEMPTS}")
        if retry.initial < 0 or not 1 <= retry.factor <= MAX_FACTOR or not 0 <= retry.spread <= 1:
            raise DefinitionError(
                f"{where}: {label} needs a delay ≥ 0, a factor from 1 to {MAX_FACTOR} and a spread between 0 and 1"
            )
        if not 0 < retry.cap <= micros(MAX_DURATION):
            raise DefinitionError(f"{where}: {label} needs a cap > 0 and of at most {MAX_DURATION.days} days")


def _check_sequence(saga: str, plans: tuple[StepPlan, ...]) -> None:
    """Compensatable steps, then at most one pivot, then retriable ones; and nothing that cannot be undone before it."""
    if not plans:
        raise DefinitionError(f"saga {saga}: it has no steps; give at least one")
    if len(plans) > MAX_STEPS:
        raise DefinitionError(f"saga {saga}: it has {len(plans)} steps; at most {MAX_STEPS} are allowed")
    seen: set[str] = set()
    pivot: str | None = None
    for plan in plans:
        where = f"saga {saga}, step {plan.name!r}"
        if plan.name in seen:
            raise DefinitionError(
                f"{where}: another step has the same name; names identify effects, make them distinct"
            )
        seen.add(plan.name)
        if plan.kind is Kind.PIVOT:
            if pivot is not None:
                raise DefinitionError(f"{where}: {pivot!r} is the pivot already; a saga has one point of no return")
            pivot = plan.name
        elif plan.kind is Kind.RETRIABLE and pivot is None:
            raise DefinitionError(f"{where}: it is retriable but stands before any pivot; declare the pivot before it")
        elif plan.kind is Kind.COMPENSATABLE and pivot is not None:
            raise DefinitionError(
                f"{where}: it is compensatable but stands after the pivot {pivot!r}; "
                "move it before the pivot or make it retriable"
            )
        if plan.kind is Kind.COMPENSATABLE and not plan.undoable:
            raise DefinitionError(
                f"{where}: it has no `compensate` and can be followed by a failure; "
                "define `compensate`, or make it the pivot, or move it after the pivot as retriable"
            )


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
