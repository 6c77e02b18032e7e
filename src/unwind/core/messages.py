"""What goes into the machine: inputs, and the values they and the events are made of. Frozen; a closed union.

Instants are integers, microseconds since the Unix epoch (UTC); durations are integers in microseconds. Payloads are
JSON bytes (`msgspec.Raw`), opaque to the machine.

The tags are the names under which events are stored, `name/version`: a stored name never changes its meaning. A new
shape gets a new version, and an upcaster in `codec.py` from the old one.
"""

from typing import Literal

from msgspec import Raw, Struct

NULL = Raw(b"null")

Direction = Literal["do", "undo"]
Waits = Literal["", "signal", "sleep"]
"""What a step waits for that nobody was asked for; empty: it did ask."""
Cause = Literal["refused", "unknown", "guard", "cancelled", "deadline", "unwound"]
"""Why a saga turned round; `unwound`: the saga that it is a step of undoes that step."""


def effect_id(saga_id: str, step: str, direction: Direction) -> str:
    """The name of a business effect, stable over retries: it is the idempotency key, the attempt is only a header."""
    return f"{saga_id}/{step}/{direction}"


class Moment(Struct, frozen=True, gc=False):
    """What the outside contributes to a decision besides its input."""

    at: int
    """The store's time."""
    jitter: float
    """Drawn uniformly from [0, 1)."""
    worker: str
    """Who runs the actions that this decision starts."""


class Attempt(Struct, frozen=True, gc=False, omit_defaults=True):
    """When one attempt began and what its clock says.

    `expires` None: no timeout that the log enforces (an action's runner enforces its own).
    """

    at: int
    number: int = 1
    expires: int | None = None
    resend: int = 0
    """Interval of re-sending the command while unanswered; 0 for actions."""
    lease: int = 0
    """How long the runner of an action holds it unquestioned; 0 for commands."""
    runner: str = ""
    """The worker that runs the action; empty for commands."""


class CommandCall(Struct, frozen=True, gc=False):
    """A command, frozen: re-sends and retries carry the same payload under the same id."""

    service: str
    name: str
    payload: Raw


# --------------------------------------------------------------------------------------------------------------- inputs


class Start(Struct, frozen=True, gc=False):
    """Begin a saga. Its id is the idempotency key; `request_hash` tells a repeated request from another."""

    saga_id: str
    context: Raw
    request_hash: str = ""
    correlation_id: str = ""
    traceparent: str = ""
    definition_hash: str = ""
    """Which registered definition to begin."""
    begin_at: int = 0
    """When its first step may begin at the earliest."""
    parent: str = ""
    """`saga/step` of which it is the doing; empty for a saga of its own."""
    attempt: int = 1
    """Of that step."""


class Unwind(Struct, frozen=True, gc=False):
    """The step that this saga is the doing of is undone: undo all of it, even when it is completed.

    Where it was never begun it never will be: the start that comes later finds it ended.
    """

    start: Start


class Reply(Struct, frozen=True, gc=False):
    """What came back for a command or an action."""

    step: str
    direction: Direction
    outcome: Literal["ok", "refused", "failed"]
    attempt: int
    payload: Raw = NULL
    reason: str = ""
    timed_out: bool = False


class Tick(Struct, frozen=True, gc=False):
    """The saga's wake-up was claimed."""

    token: int
    """The `wake_at` that the claim wrote; a move without an event applies only while it still stands."""
    leases: dict[str, int] = {}
    """Effect id → until when its runner holds it."""
    held: dict[str, int] = {}
    """Effect id of what is asked of a participant that answers nobody, as far as the worker knows → until when to leave
    it alone."""
    back: frozenset[str] = frozenset()
    """Effect ids of what is parked at a participant that answers again: it need not wait any longer."""


class OperatorAct(Struct, frozen=True, gc=False):
    """What a person orders. An act that names a version counts only while that is the saga's version."""

    actor: str
    reason: str = ""
    expected_version: int | None = None


class Cancel(OperatorAct, frozen=True, gc=False):
    """An operator or client wants everything undone."""


class Pause(OperatorAct, frozen=True, gc=False):
    """An operator wants no new work begun. Replies are still recorded."""


class Resume(OperatorAct, frozen=True, gc=False):
    """An operator wants what is outstanding driven now: un-pauses, ends a backoff, retries what is blocked."""


class RetryStep(OperatorAct, frozen=True, gc=False):
    """An operator wants what is blocked, or in a backoff, tried anew at once."""

    step: str = ""
    """Which; empty: whatever it is."""
    command: Raw | None = None
    """A payload to send in place of the step's."""


class ResolveStep(OperatorAct, frozen=True, gc=False):
    """A person has done, or undone, what is blocked, and says how it is known."""

    step: str = ""
    evidence: str = ""
    reference: str = ""
    reply: Raw = NULL
    """What the participant would have answered to the step; of no use for an undo."""


class SkipStep(OperatorAct, frozen=True, gc=False):
    """A person answers for it that what is blocked is left out."""

    step: str = ""


class Signal(Struct, frozen=True, gc=False):
    """Somebody outside says what a `SignalStep` waits for, or will wait for."""

    step: str
    """Its name is the signal's."""
    payload: Raw = NULL
    signal_id: str = ""
    """Tells a repeated signal, which says the same, from another one."""
    actor: str = ""


Input = Reply | Start | Tick | Cancel | Pause | Resume | RetryStep | ResolveStep | SkipStep | Signal | Unwind
