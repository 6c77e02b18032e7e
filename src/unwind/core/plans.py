"""What the machine needs of a step, checked and worked out once when its saga is built."""

from collections.abc import Callable
from datetime import timedelta
from inspect import iscoroutinefunction
from typing import Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.core.groups import ForEach, Place
from unwind.core.messages import Waits
from unwind.core.steps import (
    SECOND,
    ActionStep,
    CommandStep,
    Kind,
    RecordStep,
    Retry,
    SagaStep,
    SignalStep,
    SleepStep,
    Step,
    micros,
)
from unwind.errors import DefinitionError

MAX_ATTEMPTS = 1_000
MAX_FACTOR = 1_000
MAX_DURATION = timedelta(days=3_650)

Shape = Literal["command", "action", "record", "signal", "sleep", "each", "saga"]
_BASES: tuple[tuple[type[Step[Any, Any]], Shape, str | None], ...] = (
    (CommandStep, "command", "execute"),
    (ActionStep, "action", "run"),
    (RecordStep, "record", "record"),
    (SagaStep, "saga", "begin"),
    (SignalStep, "signal", None),
    (SleepStep, "sleep", None),
    (ForEach, "each", None),
)
"""The classes of steps, and what the author must define in each."""


class StepPlan(Struct, frozen=True, gc=False):
    """What the machine needs of a step, worked out once when the saga is built. Durations in microseconds."""

    name: str
    kind: Kind
    shape: Shape
    step: Any
    reply_type: Any
    decode_reply: Callable[[Raw], Any]
    undoable: bool
    guarded: bool
    conditional: bool
    """Whether the author overrides `when`."""
    maps_reply: bool
    """Whether the author overrides `succeeded`."""
    timeout: int
    retry: Retry
    undo_timeout: int
    undo_retry: Retry
    resend: int
    lease: int
    duration: int | None = None
    """Of a sleep whose length is fixed."""
    on_timeout: Literal["", "turn_round", "skip"] = ""
    """What no signal in time means."""
    waits: Waits = ""
    """Nobody is asked for anything, so nothing is done that could be undone."""
    after: tuple[str, ...] = ()
    """What must be over directly before it begins, by name."""
    before: frozenset[str] = frozenset()
    """All that must be over before it begins."""
    each: str = ""
    """The `ForEach` for whose items it is done."""

    @property
    def idle(self) -> bool:
        """It asks nobody for anything itself, so it needs no undo and may stand anywhere."""
        return self.waits != "" or self.shape == "each"

    def for_item(self, name: str, of: Any, item: Raw) -> "StepPlan":
        """The plan of one item's step; `of` is the items' type."""
        return replace(self, name=name, step=self.step.of_item(item, of))


def item_step(step: str, key: str) -> str:
    """The name of a step for one item of its `ForEach`."""
    return f"{step}[{key}]"


def key_of(step: str) -> tuple[str, str]:
    """Name and key of a step for one item; the key of any other step is empty."""
    name, _, key = step.removesuffix("]").partition("[") if step.endswith("]") else (step, "", "")
    return name, key


def well_named(name: object) -> bool:
    """Whether effect ids can be made of a step's name, or an item's key."""
    return isinstance(name, str) and name != "" and name.isprintable() and not set(name) & set("/[]")


def _reply_type(step: Step[Any, Any]) -> Any:
    """What the author wrote as R in `CommandStep[C, R]`, here or in a base class; Any where nobody said."""
    for cls in type(step).__mro__:
        for base in cls.__dict__.get("__orig_bases__", ()):
            origin, args = get_origin(base), get_args(base)
            said = isinstance(origin, type) and issubclass(origin, Step) and len(args) == 2  # noqa: PLR2004
            if said and args[1] is not Any and not isinstance(args[1], TypeVar):
                return args[1]
    return Any


def _decoder(where: str, reply_type: Any) -> Callable[[Raw], Any]:
    try:
        return msgspec.json.Decoder(reply_type).decode
    except (TypeError, NameError) as error:
        raise DefinitionError(
            f"{where}: replies of type {reply_type!r} cannot be read from JSON ({error}); "
            "use a msgspec.Struct or dataclass of plain types"
        ) from error


def _overrides(step: Step[Any, Any], method: str) -> bool:
    base = next(cls for cls, _, _ in _BASES if isinstance(step, cls))
    return getattr(type(step), method, None) is not getattr(base, method, None)


def plan_step(saga: str, place: Place) -> StepPlan:
    """The plan of a step of that saga, in its place. Raises DefinitionError naming the step and the mend."""
    step = place.step
    where = f"saga {saga}, step {step.name or type(step).__name__!r}"
    if not well_named(step.name):
        raise DefinitionError(f"{where}: the class needs `name = \"…\"`, printable and without '/' or brackets")
    shape, method = next(((shape, method) for cls, shape, method in _BASES if isinstance(step, cls)), (None, None))
    if shape is None:
        *others, last = [cls.__name__ for cls, shape, _ in _BASES if shape != "each"]
        raise DefinitionError(f"{where}: derive it from {', '.join(others)} or {last}")
    if method is not None and not _overrides(step, method):
        raise DefinitionError(f"{where}: define `{method}`")
    _check_policies(where, step)
    timeout, undo_timeout = micros(step.timeout), micros(step.undo_timeout)
    lease = 0
    if isinstance(step, ActionStep):
        _check_async(where, step)
        check_duration(where, "lease", step.lease)
        lease = micros(step.lease)
    duration = _duration(where, step) if isinstance(step, SleepStep) else None
    if isinstance(step, SignalStep) and step.on_timeout not in {"turn_round", "skip"}:
        raise DefinitionError(f"{where}: on_timeout is {step.on_timeout!r}; say 'turn_round' or 'skip'")
    waits: Waits = "signal" if isinstance(step, SignalStep) else "sleep" if isinstance(step, SleepStep) else ""
    if (waits or shape == "each") and step.kind is Kind.PIVOT:
        raise DefinitionError(f"{where}: it does nothing itself, so it is no point of no return; give it no kind")
    reply_type = _reply_type(step)
    return StepPlan(
        name=step.name,
        kind=step.kind,
        shape=shape,
        step=step,
        reply_type=reply_type,
        decode_reply=_decoder(where, reply_type),
        undoable=step.kind is Kind.COMPENSATABLE if shape == "saga" else _overrides(step, "compensate"),
        guarded=type(step).guard is not Step.guard,
        conditional=type(step).when is not Step.when,
        maps_reply=shape != "record" and _overrides(step, "succeeded"),
        timeout=timeout,
        retry=step.retry,
        undo_timeout=undo_timeout,
        undo_retry=step.undo_retry,
        resend=_resend(where, step, timeout),
        lease=lease,
        duration=duration,
        on_timeout=step.on_timeout if isinstance(step, SignalStep) else "",
        waits=waits,
        after=place.after,
        before=place.before,
        each=place.each,
    )


def _resend(where: str, step: Step[Any, Any], timeout: int) -> int:
    if isinstance(step, SagaStep):
        check_duration(where, "resend", step.resend)
        return micros(step.resend)
    if not isinstance(step, CommandStep):
        return 0
    if step.resend is None:
        return min(timeout // 3, 5 * SECOND)
    _check_timedelta(where, "resend", step.resend)
    resend = micros(step.resend)
    if not 0 < resend < timeout:
        raise DefinitionError(f"{where}: resend is {step.resend}; it must lie between 0 and the timeout")
    return resend


def _duration(where: str, step: SleepStep[Any]) -> int | None:
    if (step.duration is None) != _overrides(step, "until"):
        raise DefinitionError(f"{where}: give either a `duration`, or `until`")
    if step.duration is None:
        return None
    check_duration(where, "duration", step.duration)
    return micros(step.duration)


def check_duration(where: str, label: str, duration: timedelta) -> None:
    """Raises DefinitionError unless it is a duration, positive and bounded."""
    _check_timedelta(where, label, duration)
    if not timedelta(0) < duration <= MAX_DURATION:
        longest = MAX_DURATION.days
        raise DefinitionError(f"{where}: {label} is {duration}; give a positive duration of at most {longest} days")


def _check_timedelta(where: str, label: str, duration: object) -> None:
    if not isinstance(duration, timedelta):
        raise DefinitionError(f"{where}: {label} is {duration!r}; give a timedelta, e.g. timedelta(seconds=30)")


def _check_retry(where: str, label: str, retry: object) -> None:
    if not isinstance(retry, Retry):
        raise DefinitionError(f"{where}: {label} is {retry!r}; give a Retry, e.g. Retry.exponential(attempts=3)")
    try:
        msgspec.convert(msgspec.to_builtins(retry), Retry)
    except msgspec.ValidationError as error:
        raise DefinitionError(f"{where}: {label} is {retry!r}: {error}") from error
    if not 1 <= retry.attempts <= MAX_ATTEMPTS:
        raise DefinitionError(f"{where}: {label} has {retry.attempts} attempts; allowed are 1 to {MAX_ATTEMPTS}")
    if retry.initial < 0 or not 1 <= retry.factor <= MAX_FACTOR or not 0 <= retry.spread <= 1:
        raise DefinitionError(
            f"{where}: {label} needs a delay ≥ 0, a factor from 1 to {MAX_FACTOR} and a spread between 0 and 1"
        )
    if not 0 < retry.cap <= micros(MAX_DURATION):
        raise DefinitionError(f"{where}: {label} needs a cap > 0 and of at most {MAX_DURATION.days} days")


def _check_async(where: str, step: ActionStep[Any, Any]) -> None:
    for method in ("run", "compensate"):
        if not iscoroutinefunction(getattr(step, method)):
            raise DefinitionError(f"{where}: `{method}` is not async; declare it `async def {method}`")


def _check_policies(where: str, step: Step[Any, Any]) -> None:
    check_duration(where, "timeout", step.timeout)
    check_duration(where, "undo_timeout", step.undo_timeout)
    _check_retry(where, "retry", step.retry)
    _check_retry(where, "undo_retry", step.undo_retry)
