"""Durable sagas for Python: every accepted saga ends, completed or completely undone; every effect happens once."""

from unwind.core.attributes import Attribute
from unwind.core.codec import EventCodec
from unwind.core.events import Record
from unwind.core.groups import ForEach, OfItem, Parallel
from unwind.core.messages import effect_id
from unwind.core.saga import Saga
from unwind.core.steps import (
    PROCEED,
    SKIP,
    ActionCall,
    ActionStep,
    Command,
    CommandStep,
    Fail,
    Kind,
    Outcome,
    RecordStep,
    Refusal,
    Refused,
    Retry,
    SagaStep,
    SignalStep,
    SleepStep,
    Step,
    Verdict,
)
from unwind.errors import (
    CodecError,
    DefinitionError,
    IdempotencyError,
    InputError,
    NotFoundError,
    OverloadedError,
    RejectedError,
    SettingsError,
    StateError,
    UnavailableError,
    UnchangedError,
    UnwindError,
)
from unwind.runtime.engine import Engine, Started
from unwind.runtime.limits import Limits
from unwind.runtime.participant import HandlerCall, Participant, TryAgain

__all__ = [
    "PROCEED",
    "SKIP",
    "ActionCall",
    "ActionStep",
    "Attribute",
    "CodecError",
    "Command",
    "CommandStep",
    "DefinitionError",
    "Engine",
    "EventCodec",
    "Fail",
    "ForEach",
    "HandlerCall",
    "IdempotencyError",
    "InputError",
    "Kind",
    "Limits",
    "NotFoundError",
    "OfItem",
    "Outcome",
    "OverloadedError",
    "Parallel",
    "Participant",
    "Record",
    "RecordStep",
    "Refusal",
    "Refused",
    "RejectedError",
    "Retry",
    "Saga",
    "SagaStep",
    "SettingsError",
    "SignalStep",
    "SleepStep",
    "Started",
    "StateError",
    "Step",
    "TryAgain",
    "UnavailableError",
    "UnchangedError",
    "UnwindError",
    "Verdict",
    "effect_id",
]
