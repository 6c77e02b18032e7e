"""What an author declares of a step: the classes of steps, their policies, what their functions take and give."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Generic, Literal, TypeVar

from msgspec import Struct

from unwind.core.events import Record
from unwind.errors import DefinitionError

C = TypeVar("C")
R = TypeVar("R")

SECOND = 1_000_000


def micros(duration: timedelta) -> int:
    """A duration in whole microseconds."""
    return (duration.days * 86_400 + duration.seconds) * SECOND + duration.microseconds


def _delay(policy: str, label: str, delay: object) -> int:
    """What an author gave for it, before there is a step that could be named."""
    if not isinstance(delay, timedelta):
        raise DefinitionError(f"Retry.{policy}: {label} is {delay!r}; give a timedelta, e.g. timedelta(seconds=1)")
    return micros(delay)


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
    cap: int = 300 * SECOND
    spread: float = 0.0
    """Share of the delay that jitter may take away, 0 to 1."""

    @staticmethod
    def none() -> "Retry":
        """One attempt."""
        return Retry()

    @staticmethod
    def fixed(attempts: int, delay: timedelta) -> "Retry":
        """The same delay before each further attempt. Raises DefinitionError for what is no timedelta."""
        each = _delay("fixed", "delay", delay)
        return Retry(attempts, each, cap=max(each, Retry().cap))

    @staticmethod
    def exponential(
        attempts: int,
        initial: timedelta = timedelta(seconds=1),
        factor: float = 2.0,
        cap: timedelta = timedelta(minutes=5),
        spread: float = 0.2,
    ) -> "Retry":
        """Delays that grow by `factor` up to `cap`, each shortened at random by up to `spread` of itself.

        Raises DefinitionError for what is no timedelta.
        """
        first, longest = _delay("exponential", "initial", initial), _delay("exponential", "cap", cap)
        return Retry(attempts, first, factor, longest, spread)

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
    """What every step declares. Subclass one of the classes below."""

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

    def when(self, context: C) -> bool:
        """The condition of a step that not every saga needs: where it is false the step is skipped. Pure."""
        return True


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


class SagaStep(Step[C, R]):
    """A step that is a saga of its own: done when that saga is completed, undone by undoing all of it.

    R is the type of the other saga's context. The step says no when that saga was undone, for whatever reason, or was
    cancelled. A step that can be undone needs a saga without a pivot, and none comes after the pivot: what it began may
    end undone. Timeouts and retries are the other saga's own.
    """

    saga: ClassVar[Any]
    """The `Saga` that is begun; it needs not be registered by itself."""
    resend: ClassVar[timedelta] = timedelta(seconds=30)
    """How often the other saga is looked after: its word may be lost when a worker dies."""

    def begin(self, context: C) -> R:
        """The context that the other saga begins with. Pure."""
        raise NotImplementedError

    def succeeded(self, context: C, reply: R) -> C | Outcome[C]:
        """The context after the other saga was completed with the context `reply`. Pure."""
        return context


class SignalStep(Step[C, R]):
    """A step that waits until somebody outside says something: an approval, a webhook. All methods are pure.

    The signal has the step's name. One that comes before its step is begun is kept until then. R is the type of what it
    says: what does not fit is refused to whoever sends it. Nothing was done, so there is nothing to undo.
    """

    timeout: ClassVar[timedelta] = timedelta(days=7)
    """How long the signal is waited for."""
    on_timeout: ClassVar[Literal["turn_round", "skip"]] = "turn_round"
    """What no signal in time means: undo what was done, or go on without it. Past the pivot there is no way back:
    there the saga is blocked instead."""

    def succeeded(self, context: C, reply: R) -> C | Outcome[C] | Refusal:
        """The context after the signal; a `Refusal` where it says no, which turns the saga round."""
        return context


class SleepStep(Step[C, None]):
    """A step that lets time pass: a `duration`, or up to what `until` says. There is nothing to undo.

    It goes on while the saga is paused; the saga's deadline does not wait for it.
    """

    duration: ClassVar[timedelta | None] = None

    def until(self, context: C) -> datetime:
        """The instant at which it is over, with its time zone; one that has passed means at once. Pure."""
        raise NotImplementedError
