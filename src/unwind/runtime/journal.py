"""The log lines of sagas: one for each beginning, end, refusal, retry and block, after its commit.

One pass over a batch, and none of it where nobody wants to read it. No payloads, nor words of participants or authors,
which may quote them: `explain` has those.
"""

import logging
from collections.abc import Sequence

import structlog

from unwind.core.events import (
    CompensationStarted,
    Event,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaStarted,
    StepRefused,
    StepRetried,
    StepUnknown,
    UndoRetried,
)
from unwind.runtime.limits import SECOND
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.trace_context import read_context
from unwind.runtime.unit import Decided

log = structlog.get_logger("unwind.sagas")

_LINES: dict[type, str] = {
    SagaStarted: "saga_started",
    SagaCompleted: "saga_completed",
    SagaCompensated: "saga_compensated",
    CompensationStarted: "saga_turned_round",
    StepRefused: "step_refused",
    StepUnknown: "step_unknown",
    StepRetried: "step_retried",
    UndoRetried: "undo_retried",
}


class Journal:
    """Tells the log what has become durable: blocks as warnings, everything else as information."""

    def saw(self, settled: Sequence[Decided]) -> None:
        """A batch has been committed."""
        told = log.bind()
        everything = told.is_enabled_for(logging.INFO)
        if not (everything or told.is_enabled_for(logging.WARNING)):
            return
        for made in settled:
            if not (everything or made.after.blocks):
                continue
            for event in made.events:
                kind = type(event)
                if kind is SagaBlocked:
                    told.warning("saga_blocked", **_about(made), **_details(event))
                elif everything and kind in _LINES:
                    told.info(_LINES[kind], **_about(made), **_details(event))


def _about(made: Decided) -> dict[str, object]:
    after, saga = made.after, made.saga
    told: dict[str, object] = {"saga_id": after.saga_id, "correlation_id": after.correlation_id}
    told |= {"definition": saga.name, "definition_version": saga.version}
    context = read_context(after.traceparent)
    if context is not None:
        told["trace_id"] = context.trace_id
    if after.ended_at is not None:
        told["took_s"] = (after.ended_at - after.started_at) / SECOND
    return told


def _details(event: Event) -> dict[str, object]:
    match event:
        case StepRefused(step=step, attempt=attempt) | StepUnknown(step=step, attempt=attempt):
            return {"step": step, "attempt": attempt}
        case StepRetried(step=step, attempt=begun) | UndoRetried(step=step, attempt=begun):
            return {"step": step, "attempt": begun.number}
        case CompensationStarted(cause=cause, step=step):
            return {"cause": cause, "step": step} if step else {"cause": cause}
        case SagaBlocked(step=step, direction=direction):
            return {"step": step, "direction": direction}
        case _:
            return {}


def journalled() -> Telemetry:
    """What a process counts, with the lines of its sagas."""
    telemetry = Telemetry()
    telemetry.hear.append(Journal().saw)
    return telemetry
