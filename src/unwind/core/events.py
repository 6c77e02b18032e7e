"""What the machine records: the events of a saga, and domain events that go with them. Closed unions of frozen values.

The tags are the names under which events are stored, `name/version`: a stored name never changes its meaning. A new
shape gets a new version, and an upcaster in `codec.py` from the old one.
"""

from typing import Literal

from msgspec import Raw, Struct

from unwind.core.messages import NULL, Attempt, Cause, CommandCall, Direction, Waits


class SagaEvent(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="type"):
    """A fact about a saga."""

    at: int


Searched = str | int | bool
"""A value that sagas are found by."""


class SagaStarted(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="saga_started/1"):
    """A saga was accepted. It is bound to this definition for good."""

    saga_id: str
    definition: str
    definition_version: int
    definition_hash: str
    context: Raw
    deadline: int | None = None
    request_hash: str = ""
    correlation_id: str = ""
    traceparent: str = ""
    begin_at: int = 0
    """When the first step may begin at the earliest; 0: at once. The deadline counts from then."""
    parent: str = ""
    """`saga/step` of which it is the doing."""
    attributes: dict[str, Searched] | None = None
    """What it can be found by, for good; None: nothing."""


class StepStarted(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_started/1"):
    """A step was begun: what it sent, and the clock of its first attempt."""

    step: str
    attempt: Attempt
    command: CommandCall | None = None
    """None: an action, a step that only records, or one that waits."""
    pivot: bool = False
    waits: Waits = ""
    child: str = ""
    """Name of the definition of the saga that is the step's doing; its context is the command's payload."""


class StepSkipped(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_skipped/1"):
    """A guard said skip, or an operator did."""

    step: str
    reason: str = ""
    pivot: bool = False
    """The pivot itself was skipped: from here there is only forward all the same."""
    actor: str = ""
    """Who skipped what was blocked, begun or not; empty: the guard said so."""


class StepDone(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_done/1"):
    """A step was done, whatever the attempt that was answered."""

    step: str
    attempt: int
    reply: Raw = NULL
    context: Raw = NULL
    """The context after the step; null where the step did not change it."""


class StepRefused(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_refused/1"):
    """The participant, or a signal, said no. The saga turns round."""

    step: str
    attempt: int
    reason: str = ""
    reply: Raw = NULL


class StepFailed(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_failed/1"):
    """An attempt is over without an answer that counts; another one follows at `retry_at`."""

    step: str
    attempt: int
    retry_at: int
    reason: str = ""
    timed_out: bool = False


class StepRetried(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_retried/1"):
    """The next attempt began."""

    step: str
    attempt: Attempt


class StepUnknown(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_unknown/1"):
    """The attempts are used up and nobody can say whether the effect happened: it is undone like a done one."""

    step: str
    attempt: int
    reason: str = ""
    timed_out: bool = False


class StepSettled(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="step_settled/1"):
    """An action that was still running when the saga turned round has ended; its undo may go."""

    step: str
    outcome: Literal["ok", "refused", "failed"]
    reason: str = ""


class CompensationStarted(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="compensation_started/1"):
    """The saga turned round."""

    cause: Cause
    targets: tuple[str, ...] = ()
    """The steps to undo, first to last."""
    step: str = ""
    reason: str = ""
    actor: str = ""


class TurningRound(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="turning_round/1"):
    """A step failed while others were under way beside it: nothing new begins, and they may settle first."""

    cause: Cause
    step: str
    reason: str


class ItemsListed(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="items_listed/1"):
    """For which items the steps of a `ForEach` are done, by key."""

    step: str
    items: tuple[tuple[str, Raw], ...]


class UndoStarted(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="undo_started/1"):
    """The undo of a step was begun."""

    step: str
    attempt: Attempt
    command: CommandCall | None = None
    child: str = ""
    """As in `StepStarted`."""


class UndoFailed(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="undo_failed/1"):
    """An attempt at undoing is over; another one follows at `retry_at`."""

    step: str
    attempt: int
    retry_at: int
    reason: str = ""
    timed_out: bool = False


class UndoRetried(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="undo_retried/1"):
    """The next attempt at undoing began."""

    step: str
    attempt: Attempt


class UndoDone(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="undo_done/1"):
    """The step is undone, confirmed by its participant."""

    step: str
    attempt: int
    reply: Raw = NULL


class ActionTakenOver(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="action_taken_over/1"):
    """The runner of an action fell silent for longer than its lease; another worker runs it."""

    step: str
    direction: Direction
    runner: str


class AttemptParked(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="attempt_parked/1"):
    """The time of an attempt is up while its participant answers nobody: it is left alone, and not spent."""

    step: str
    direction: Direction
    until: int


class AttemptReleased(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="attempt_released/1"):
    """The clock of a parked attempt starts anew, and its command is sent again."""

    step: str
    direction: Direction


class SagaBlocked(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="saga_blocked/1"):
    """The saga needs a person. What is outstanding is tried again every `retry_every`, without an event."""

    step: str
    direction: Direction
    reason: str
    retry_every: int
    refused: bool = False


class SagaPaused(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="saga_paused/1"):
    """An operator wants nothing new begun."""

    actor: str
    reason: str = ""


class SagaResumed(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="saga_resumed/1"):
    """An operator wants what is outstanding driven now."""

    actor: str
    reason: str = ""


class RetryOrdered(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="retry_ordered/1"):
    """An operator wants what is blocked, or in a backoff, tried anew at once."""

    step: str
    direction: Direction
    actor: str
    reason: str = ""
    command: CommandCall | None = None
    """What is sent from now on, where the operator replaced it."""
    replaced: CommandCall | None = None


class ResolvedByHand(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="resolved_by_hand/1"):
    """A person did, or undid, what was blocked. That it is done follows."""

    step: str
    direction: Direction
    actor: str
    evidence: str
    reference: str = ""


class UndoSkipped(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="undo_skipped/1"):
    """A person answers for it that the step stays as it is, done perhaps."""

    step: str
    actor: str
    reason: str = ""


class SignalReceived(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="signal_received/1"):
    """Somebody said what a step waits for, or will wait for."""

    step: str
    payload: Raw = NULL
    signal_id: str = ""
    actor: str = ""


class DomainRecorded(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="domain_recorded/1"):
    """Domain events went to another stream in the same transaction."""

    stream: str
    count: int


class SagaCompleted(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="saga_completed/1"):
    """Every step is done or skipped."""


class SagaCompensated(SagaEvent, frozen=True, gc=False, omit_defaults=True, tag="saga_compensated/1"):
    """Everything that was done is undone."""


Event = (
    StepDone
    | StepStarted
    | SagaStarted
    | SagaCompleted
    | DomainRecorded
    | StepRefused
    | StepFailed
    | StepRetried
    | StepUnknown
    | StepSkipped
    | StepSettled
    | CompensationStarted
    | UndoDone
    | UndoStarted
    | UndoFailed
    | UndoRetried
    | SagaCompensated
    | ActionTakenOver
    | SagaBlocked
    | SagaPaused
    | SagaResumed
    | RetryOrdered
    | ResolvedByHand
    | UndoSkipped
    | SignalReceived
    | TurningRound
    | ItemsListed
    | AttemptParked
    | AttemptReleased
)

# -------------------------------------------------------------------------------------------------------- domain events


class Record(Struct, frozen=True, gc=False):
    """A domain event for another stream, committed together with the step that caused it.

    A stream belongs to one saga, which counts what it writes there: another saga that writes to it, a child too, is
    refused by the store.
    """

    stream: str
    category: str
    event: Struct
    """A tagged struct; the tag is its stored name."""
