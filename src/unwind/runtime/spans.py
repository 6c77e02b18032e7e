"""The spans of a saga, told from its log: the saga, each step, each undo with a link to what it undoes.

The log has all that is needed, so that no process holds a span while it is open. A saga's spans are told at its
milestones: where it ends, where it needs a person or is paused, and where it begins to wait for somebody. Each one
tells what was over since the one before; which that is, the log says too. So each span is told once, by whoever commits
the milestone, whatever was killed before.

No payloads, nor words of participants or authors, which may quote them; only what a saga's author has made searchable.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct, field

from unwind.core import events as e
from unwind.core.messages import CommandCall, Direction, effect_id
from unwind.ports import COMMANDS
from unwind.runtime.span import Kind, Span, SpanEvent
from unwind.runtime.trace_context import TraceContext, read_context, span_id_of

Key = tuple[str, Direction]

_ENDS = frozenset({e.SagaCompleted, e.SagaCompensated})
_MILESTONES = frozenset({*_ENDS, e.SagaBlocked, e.SagaPaused})
_OUTCOMES: Mapping[type, tuple[Direction, str]] = {
    e.StepDone: ("do", "done"),
    e.StepRefused: ("do", "refused"),
    e.StepUnknown: ("do", "unknown"),
    e.StepSkipped: ("do", "skipped"),
    e.UndoDone: ("undo", "undone"),
    e.UndoSkipped: ("undo", "skipped"),
}
_SETTLED = {"ok": "done", "refused": "refused", "failed": "unknown"}
_ERRORS = frozenset({"refused", "unknown", "unanswered"})
_NOTES: Mapping[type, tuple[Direction | None, str]] = {
    e.StepFailed: ("do", "attempt failed"),
    e.StepRetried: ("do", "retried"),
    e.UndoFailed: ("undo", "attempt failed"),
    e.UndoRetried: ("undo", "retried"),
    e.SignalReceived: ("do", "signal received"),
    e.ActionTakenOver: (None, "taken over"),
    e.AttemptParked: (None, "parked"),
    e.AttemptReleased: (None, "released"),
    e.SagaBlocked: (None, "blocked"),
    e.RetryOrdered: (None, "retry ordered"),
    e.ResolvedByHand: (None, "resolved by hand"),
    e.TurningRound: (None, "step failed"),
    e.SagaPaused: (None, "paused"),
    e.SagaResumed: (None, "resumed"),
    e.CompensationStarted: (None, "turned round"),
}
"""What happens within a span, and of which way it is; None: as the event says, else the saga's."""
_TOLD = ("step", "direction", "attempt", "timed_out", "cause")
"""Of an event's fields those that go along."""
_WHERE = ("step", "direction")
"""Of these those that the span of a step has itself."""


def is_milestone(event: e.Event) -> bool:
    """Whether what was over until then is told now."""
    return type(event) in _MILESTONES or (isinstance(event, e.StepStarted) and event.waits != "")


def spans_told(log: Sequence[e.Event], known: int, now: int) -> Sequence[Span]:
    """What a commit tells that has brought the saga from `known` events to `now`. `log` begins with its first event.

    Nothing where the log is that of no saga, or of one outside of any recorded trace.
    """
    started = log[0] if log else None
    context = read_context(started.traceparent) if isinstance(started, e.SagaStarted) else None
    if not isinstance(started, e.SagaStarted) or context is None or not context.sampled:
        return ()
    first = last = 0
    for number, event in enumerate(log[:now], 1):
        if is_milestone(event):
            first, last = (number if number <= known else first), number
    story = _Story(started, context)
    return [span for number, event in enumerate(log[:last], 1) for span in story.hear(event) if number > first]


class _Open(Struct):
    """A span that is not over yet."""

    name: str
    id: str
    parent: str
    kind: Kind
    began: int
    attributes: dict[str, Any]
    events: list[SpanEvent] = field(default_factory=list)
    link: str = ""


class _Story:
    """A saga's spans while its log is read."""

    def __init__(self, started: e.SagaStarted, context: TraceContext) -> None:
        self._saga_id = started.saga_id
        self._started = started
        self._context = context
        self._lives = 0
        self._open: dict[Key, _Open] = {}
        self._saga = self._life(started.at)

    def hear(self, event: e.Event) -> Iterator[Span]:
        """What is over with this event."""
        kind = type(event)
        if kind in _NOTES:
            self._note(event)
        elif isinstance(event, e.StepStarted):
            self._begin(event, "do")
        elif isinstance(event, e.UndoStarted):
            yield from self._close((event.step, "do"), event.at, "unanswered")
            self._begin(event, "undo")
        elif kind in _OUTCOMES:
            direction, outcome = _OUTCOMES[kind]
            key: Key = (event.step, direction)  # type: ignore[union-attr]
            if key not in self._open:
                self._saga.events.append(SpanEvent(outcome, event.at, {"step": key[0], "direction": direction}))
            yield from self._close(key, event.at, outcome)
        elif isinstance(event, e.StepSettled):
            yield from self._close((event.step, "do"), event.at, _SETTLED[event.outcome])
        elif kind in _ENDS:
            for key in tuple(self._open):
                yield from self._close(key, event.at, "unanswered")
            outcome = "completed" if kind is e.SagaCompleted else "compensated"
            yield self._closed(self._saga, event.at, outcome)
            self._lives += 1
            self._saga = self._life(event.at)

    def _life(self, at: int) -> _Open:
        """The saga, or all that comes after its end: one that is the doing of a step may be undone later, with that."""
        started, name = self._started, self._started.definition
        identity = span_id_of(f"{self._saga_id}#{self._lives}" if self._lives else self._saga_id)
        parent = self._context.span_id
        if started.parent:
            above, _, step = started.parent.rpartition("/")
            parent = span_id_of(effect_id(above, step, "undo" if self._lives else "do"))
        attributes = self._about()
        attributes |= {f"unwind.attribute.{each}": value for each, value in (started.attributes or {}).items()}
        title = f"undo {name}" if self._lives else name
        return _Open(title, identity, "" if parent == identity else parent, "internal", at, attributes)

    def _about(self) -> dict[str, Any]:
        started = self._started
        told: dict[str, Any] = {"unwind.saga.id": self._saga_id, "unwind.saga.definition": started.definition}
        told["unwind.saga.definition_version"] = started.definition_version
        if started.correlation_id:
            told["unwind.saga.correlation_id"] = started.correlation_id
        return told

    def _begin(self, event: e.StepStarted | e.UndoStarted, direction: Direction) -> None:
        step, command = event.step, event.command
        identity = effect_id(self._saga_id, step, direction)
        attributes = self._about() | {"unwind.step": step, "unwind.direction": direction, "unwind.attempts": 1}
        sends = command is not None and not event.child
        if sends:
            attributes |= _destination(command, identity)
        name = step.partition("[")[0]  # of the steps of a ForEach, the item would make a name of its own for each
        name = name if direction == "do" else f"undo {name}"
        kind: Kind = "producer" if sends else "internal"
        begun = _Open(name, span_id_of(identity), self._saga.id, kind, event.at, attributes)
        if direction == "undo":
            begun.link = span_id_of(effect_id(self._saga_id, step, "do"))
        self._open[step, direction] = begun

    def _note(self, event: e.Event) -> None:
        given, name = _NOTES[type(event)]
        direction = given or getattr(event, "direction", None)
        of_step = self._open.get((getattr(event, "step", ""), direction)) if direction else None
        told: dict[str, Any] = {each: value for each in _TOLD if (value := getattr(event, each, None))}
        if of_step is not None:
            told = {each: value for each, value in told.items() if each not in _WHERE}
        span = of_step or self._saga
        if isinstance(event, e.StepRetried | e.UndoRetried):
            told["attempt"] = span.attributes["unwind.attempts"] = event.attempt.number
        if self._lives and isinstance(event, e.CompensationStarted):
            self._saga.began = event.at
        span.events.append(SpanEvent(name, event.at, told))

    def _close(self, key: Key, at: int, outcome: str) -> Iterator[Span]:
        span = self._open.pop(key, None)
        if span is not None:
            yield self._closed(span, at, outcome)

    def _closed(self, span: _Open, at: int, outcome: str) -> Span:
        return Span(
            span.name,
            self._context.of(span.id),
            span.parent,
            span.kind,
            span.began,
            max(at, span.began),  # two stores' clocks, or one that was set back
            outcome in _ERRORS,
            span.attributes | {"unwind.outcome": outcome},
            span.events,
            span.link,
        )


def _destination(command: CommandCall | None, identity: str) -> dict[str, Any]:
    if command is None:
        return {}
    return {
        "messaging.operation.type": "send",
        "messaging.destination.name": COMMANDS + command.service,
        "messaging.message.id": identity,
        "unwind.command": command.name,
    }
