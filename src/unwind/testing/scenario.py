"""Given, when, then: tests of a whole saga without a broker, a database or a clock.

    Scenario(order_saga).given(order).then(effects=[ReserveInventory(...)])

    (
        Scenario(order_saga)
        .given(order)
        .when(ok("reserve_inventory", InventoryReserved("r-1")))
        .when(refused("process_payment", "insufficient balance"))
        .then(events=[StepRefused, CompensationStarted, UndoStarted], effects=[ReleaseInventory(...)])
        .when(undone("reserve_inventory"))
        .then(status="compensated", effects=[])
    )

`at` lets time pass: timeouts, retries and deadlines happen on the way, exactly when they would. Each expectation is
about what the last `given`, `when` or `at` did. After every input the log is encoded, decoded and folded, and must give
the same state.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, Self, TypeVar

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.core.codec import SAGA_EVENTS, fold
from unwind.core.decide import decide
from unwind.core.draft import Verdict
from unwind.core.effects import Effect, SendCommand, TellParent
from unwind.core.events import Event, Record, SagaEvent
from unwind.core.messages import (
    Cancel,
    Input,
    Moment,
    Pause,
    Reply,
    ResolveStep,
    Resume,
    RetryStep,
    Signal,
    SkipStep,
    Start,
    Tick,
)
from unwind.core.pending import due, pending
from unwind.core.saga import Saga
from unwind.core.state import NEW, ShownStatus, State
from unwind.core.steps import Command

C = TypeVar("C")

SECOND = 1_000_000
START = 1_700_000_000 * SECOND
"""When scenarios begin, in microseconds since the epoch."""
PARKED = 60 * SECOND
CURRENT = 0
"""As the attempt of a reply: whichever is in progress."""


def ok(step: str, reply: object = None, *, attempt: int = CURRENT) -> Reply:
    """The participant, or the action, said yes."""
    return Reply(step, "do", "ok", attempt, _raw(reply))


def refused(step: str, reason: str = "no", reply: object = None, *, attempt: int = CURRENT) -> Reply:
    """The participant said no: a business answer."""
    return Reply(step, "do", "refused", attempt, _raw(reply), reason)


def failed(step: str, reason: str = "broken", *, attempt: int = CURRENT) -> Reply:
    """The attempt failed; try again."""
    return Reply(step, "do", "failed", attempt, reason=reason)


def undone(step: str, *, attempt: int = CURRENT) -> Reply:
    """The undo was done."""
    return Reply(step, "undo", "ok", attempt)


def undo_refused(step: str, reason: str = "no", *, attempt: int = CURRENT) -> Reply:
    """The participant refused to undo."""
    return Reply(step, "undo", "refused", attempt, reason=reason)


def undo_failed(step: str, reason: str = "broken", *, attempt: int = CURRENT) -> Reply:
    """The attempt to undo failed; try again."""
    return Reply(step, "undo", "failed", attempt, reason=reason)


def cancel(actor: str = "alice", reason: str = "") -> Cancel:
    """Somebody wants everything undone."""
    return Cancel(actor, reason)


def pause(actor: str = "alice", reason: str = "") -> Pause:
    """Somebody wants nothing new begun."""
    return Pause(actor, reason)


def resume(actor: str = "alice", reason: str = "") -> Resume:
    """Somebody wants what is outstanding driven now."""
    return Resume(actor, reason)


def retry(step: str = "", command: object = None, *, actor: str = "alice", reason: str = "") -> RetryStep:
    """Somebody wants what is blocked tried anew, with another command if one is given."""
    return RetryStep(actor, reason, None, step, None if command is None else _raw(command))


def resolve(step: str = "", reply: object = None, *, evidence: str = "seen", actor: str = "alice") -> ResolveStep:
    """Somebody has done by hand what is blocked."""
    return ResolveStep(actor, "", None, step, evidence, "", _raw(reply))


def skip(step: str = "", reason: str = "", *, actor: str = "alice") -> SkipStep:
    """Somebody answers for it that what is blocked is left out."""
    return SkipStep(actor, reason, None, step)


def signal(step: str, payload: object = None, *, signal_id: str = "", actor: str = "alice") -> Signal:
    """Somebody says what the step waits for, or will wait for."""
    return Signal(step, _raw(payload), signal_id, actor)


def _raw(value: object) -> Raw:
    return Raw(msgspec.json.encode(value))


class Scenario(Generic[C]):
    """One saga and its story so far. Every method but the properties gives the scenario back, to go on."""

    def __init__(
        self, saga: Saga[C], *, saga_id: str = "saga-1", worker: str = "worker-1", jitter: float = 0.0
    ) -> None:
        """`worker` runs the actions; `jitter`, in [0, 1), stands for chance."""
        self.saga = saga
        self.saga_id = saga_id
        self.worker = worker
        self.jitter = jitter
        self.now = START
        self.state: State = NEW
        """The saga as it is now."""
        self.log: list[Event] = []
        """Everything that happened."""
        self.happened: list[Event] = []
        """What the last `given`, `when` or `at` did."""
        self.records: list[Record] = []
        """The domain events that go with it."""
        self.verdict: Verdict = "ignored"
        self.reason = ""
        """What the last input was answered."""

    @property
    def effects(self) -> tuple[Effect, ...]:
        """What is in flight now."""
        return pending(self.state)

    @property
    def context(self) -> C:
        """The author's context as it is now."""
        return self.saga.decode_context(self.state.context)

    def given(self, context: C, *, begins: float = 0) -> Self:
        """The saga is started with this context, to begin after so many seconds. Raises AssertionError."""
        self._forget()
        begin_at = START + round(begins * SECOND) if begins else 0
        reason = self._apply(Start(self.saga_id, _raw(context), definition_hash=self.saga.hash, begin_at=begin_at))
        _expect("verdict", "accepted", self.verdict, reason)
        return self

    def when(self, *inputs: Input) -> Self:
        """These inputs come in, one after the other, without time passing."""
        self._forget()
        for message in inputs:
            self._apply(self._with_attempt(message) if isinstance(message, Reply) else message)
        return self

    def at(self, seconds: float, *, leases: Mapping[str, int] | None = None, silent: Sequence[str] = ()) -> Self:
        """Time passes until `seconds` after the start; the saga is woken whenever it is due.

        `leases` says until when actions are held (effect id → microseconds since the epoch). Services that are
        `silent` answer nobody meanwhile: an attempt at one of them that is not answered is parked for a minute.
        """
        self._forget()
        until = START + round(seconds * SECOND)
        if until < self.now:
            raise ValueError(f"time goes forward only; it is {(self.now - START) / SECOND} s already")
        while (wake := due(self.state, self.now)) is not None and wake <= until:
            self.now = max(self.now, wake)
            before = self.state
            self._apply(Tick(self.now, dict(leases or {}), self._held(silent)))
            again = due(self.state, self.now)
            if self.state == before and again is not None and again <= self.now:
                raise AssertionError(f"the saga spins: it is due, and waking it changes nothing\n{before}")
        self.now = until
        return self

    def then(
        self,
        *,
        events: Sequence[SagaEvent | type[SagaEvent]] | None = None,
        effects: Sequence[Command | str] | None = None,
        records: Sequence[Struct] | None = None,
        status: ShownStatus | None = None,
        context: C | None = None,
        verdict: Verdict | None = None,
    ) -> Self:
        """Check what was given; what is left out is not checked. Raises AssertionError.

        `events`: what happened, each as an event or only its type. `effects`: all that is in flight, each as a command
        or as `step/do`, `step/undo`. `records`: the domain events. `status`: as shown to callers.
        """
        if events is not None:
            _expect("events", list(events), _seen_as(events, self.happened), f"in full: {self.happened}")
        if effects is not None:
            _expect("effects", [_wanted(effect) for effect in effects], _flying_as(effects, self.effects))
        if records is not None:
            _expect("records", list(records), [record.event for record in self.records])
        if status is not None:
            _expect("status", status, self.state.shown_status, str(self.state.blocked or ""))
        if context is not None:
            _expect("context", context, self.context)
        if verdict is not None:
            _expect("verdict", verdict, self.verdict)
        return self

    def nothing_happened(self) -> Self:
        """The last input, or the time that passed, left no trace. Raises AssertionError."""
        return self.then(events=[], records=[])

    def _held(self, silent: Sequence[str]) -> dict[str, int]:
        """What is asked of these services, and until when it is left alone."""
        asked = [*(("do", run) for run in self.state.runs), *(("undo", undo) for undo in self.state.undos)]
        return {
            f"{self.state.saga_id}/{run.step}/{direction}": self.now + PARKED
            for direction, run in asked
            if run.command is not None and run.command.service in silent
        }

    def _forget(self) -> None:
        self.happened, self.records = [], []

    def _apply(self, message: Input) -> str:
        decision = decide(self.saga, self.state, message, Moment(self.now, self.jitter, self.worker))
        self.state, self.verdict, self.reason = decision.state, decision.verdict, decision.reason
        self.happened += decision.events
        self.records += decision.records
        self.log += decision.events
        folded = fold([(1, SAGA_EVENTS.encode(self.log))])
        _expect("state folded from the log", folded, self.state)
        return decision.reason

    def _with_attempt(self, reply: Reply) -> Reply:
        run = self.state.undo_of(reply.step) if reply.direction == "undo" else self.state.run(reply.step)
        if reply.attempt != CURRENT:
            return reply
        return replace(reply, attempt=1 if run is None else run.attempt.number)


def _seen_as(expected: Sequence[object], events: Sequence[Event]) -> list[object]:
    """Each event as the expectation at its place speaks of it: its type, or all of it."""
    whole = [isinstance(item, SagaEvent) for item in expected] + [False] * len(events)
    return [event if whole[place] else type(event) for place, event in enumerate(events)]


def _wanted(effect: Command | str) -> object:
    return effect if isinstance(effect, str) else (effect.__struct_config__.tag, msgspec.json.encode(effect))


def _flying_as(expected: Sequence[object], effects: Sequence[Effect]) -> list[object]:
    named = [isinstance(item, str) for item in expected] + [False] * len(effects)
    return [_flying(effect, named=named[place]) for place, effect in enumerate(effects)]


def _flying(effect: Effect, *, named: bool) -> object:
    if isinstance(effect, TellParent):
        return f"{effect.step}/{'completed' if effect.completed else 'undone'}"
    if named or not isinstance(effect, SendCommand):
        return f"{effect.step}/{effect.direction}"
    return (effect.command.name, bytes(effect.command.payload))


def _expect(what: str, expected: Any, happened: Any, more: str = "") -> None:
    if expected != happened:
        raise AssertionError(f"{what}\n  expected: {expected}\n  happened: {happened}\n  {more}".rstrip())
