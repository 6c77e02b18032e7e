"""Routes by which operators steer a saga: cancel, pause, resume, signal; where it is blocked, retry, resolve, skip.

Each act is kept in the saga's history with its reason. One that names the version on which it was decided is refused
with 409 when the saga has moved on since, so that of two people, or two clicks, only one acts.
"""

from typing import Annotated, Any

from litestar import post
from litestar.params import FromPath
from msgspec import Meta, Raw, Struct, field
from msgspec.json import Decoder

from unwind.core.messages import NULL
from unwind.errors import UnchangedError
from unwind.http.access import actor_of
from unwind.http.bodies import read_json, read_optional_json
from unwind.http.openapi import Answer, Docs
from unwind.http.problems import FieldError, invalid
from unwind.http.sagas import AnyRequest, TheEngine, known
from unwind.http.submissions import SIGNAL_ID, idempotency_key

_FAILURES = (400, 404, 409, 413, 415, 422, 503)

Version = Annotated[int, Meta(ge=0, le=2**62)] | None
"""Act only while this is the saga's version; 409 when it has moved on."""
StepName = Annotated[str, Meta(max_length=255, description="The step it is about; empty: whatever needs a person.")]
Text = Annotated[str, Meta(max_length=1000)]
Said = Annotated[str, Meta(min_length=1, max_length=1000)]


class ActRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why an operator does this; kept in the saga's history."""

    reason: Text = ""
    expected_version: Version = None


class RetryRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which step is tried anew, and, if need be, with which command in place of its own."""

    reason: Text = ""
    step: StepName = ""
    command: Raw = field(default_factory=Raw)
    """Must fit the type of the step's own command."""
    expected_version: Version = None


class ResolveRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How it is known that the step was done, or undone, by hand."""

    evidence: Said
    reference: Text = ""
    """Where to find it: a ticket, a document."""
    step: StepName = ""
    reply: Raw = field(default_factory=Raw)
    """What the participant would have answered; needed where the step works with its reply."""
    expected_version: Version = None


class SkipRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Why the step is left out."""

    reason: Said
    step: StepName = ""
    expected_version: Version = None


class Acted(Struct, frozen=True):
    """An operator's act was recorded."""

    saga_id: str
    status: str
    message: str


def _docs(request: type, *, required: bool = False) -> Docs:
    answer = Answer(202, "It is recorded and under way", Acted)
    return Docs((answer,), _FAILURES, request=request, request_required=required)


_act_request = Decoder(ActRequest)
_retry_request = Decoder(RetryRequest)
_resolve_request = Decoder(ResolveRequest)
_skip_request = Decoder(SkipRequest)
_anything = Decoder(Raw)
_SIGNAL = Docs(
    (Answer(202, "It is recorded, and under way or kept", Acted),),
    _FAILURES,
    parameters=(SIGNAL_ID,),
    request=Any,
    request_required=False,
)
_ACT = _docs(ActRequest)


@post("/sagas/{saga_id:str}/cancel", status_code=202, docs=_ACT, scope="operate")
async def cancel_saga(saga_id: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Undo a saga.

    Refused with 409 once the saga has ended or its point of no return was begun. Harmless to repeat: of one that is
    being undone already the answer tells its status, and that nothing changed.
    """
    given = await given_reason(request)
    try:
        state = await engine.cancel(
            known(saga_id),
            actor=actor_of(request),
            reason=given.reason,
            expected_version=given.expected_version,
            anew=True,
        )
    except UnchangedError as unchanged:
        return Acted(saga_id, unchanged.status, "The saga is being undone already: nothing changed")
    status = "blocked" if state.shown_status == "blocked" else "compensating"
    return Acted(saga_id, status, "Saga cancellation started: what was done is being undone")


@post("/sagas/{saga_id:str}/resume", status_code=202, docs=_ACT, scope="operate")
async def resume_saga(saga_id: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Drive a saga on.

    Un-pauses, ends a backoff, retries what is blocked, sends again what is outstanding.
    """
    given = await given_reason(request)
    await engine.resume(
        known(saga_id), actor=actor_of(request), reason=given.reason, expected_version=given.expected_version
    )
    return Acted(saga_id, "resumed", "Saga resumed: what is outstanding is driven now")


@post("/sagas/{saga_id:str}/pause", status_code=202, docs=_ACT, scope="operate")
async def pause_saga(saga_id: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Begin nothing new in a saga.

    Answers that are under way are still recorded. Resume or cancel ends the pause.
    """
    given = await given_reason(request)
    await engine.pause(
        known(saga_id), actor=actor_of(request), reason=given.reason, expected_version=given.expected_version
    )
    return Acted(saga_id, "paused", "Saga paused: nothing new begins until it is resumed")


@post("/sagas/{saga_id:str}/retry", status_code=202, docs=_docs(RetryRequest), scope="operate")
async def retry_step(saga_id: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Try anew what is blocked or waits for its next attempt.

    With a `command` that replaces the step's own from now on, under the same effect id. Where the participant has
    stored an answer already, that one counts.
    """
    given = await read_optional_json(request, _retry_request, RetryRequest())
    printable(reason=given.reason, step=given.step)
    state = await engine.retry(
        known(saga_id),
        actor=actor_of(request),
        reason=given.reason,
        step=given.step,
        command=given.command if len(given.command) else None,
        expected_version=given.expected_version,
    )
    return Acted(saga_id, state.shown_status, "Retry ordered: a fresh attempt begins now")


@post("/sagas/{saga_id:str}/resolve", status_code=202, docs=_docs(ResolveRequest, required=True), scope="operate")
async def resolve_step(saga_id: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Take what is blocked as done, or undone, by hand.

    The saga goes on from there. The evidence is kept in its history.
    """
    given = await read_json(request, _resolve_request)
    printable(evidence=given.evidence, reference=given.reference, step=given.step)
    state = await engine.resolve(
        known(saga_id),
        actor=actor_of(request),
        evidence=given.evidence,
        reference=given.reference,
        step=given.step,
        reply=given.reply if len(given.reply) else NULL,
        expected_version=given.expected_version,
    )
    return Acted(saga_id, state.shown_status, "Resolved by hand: the saga goes on")


@post("/sagas/{saga_id:str}/skip", status_code=202, docs=_docs(SkipRequest, required=True), scope="operate")
async def skip_step(saga_id: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Leave out what is blocked.

    A step that was not begun, or is past the point of no return; or an undo, whose step is then named in
    `left_undone` for good. Refused with 409 where the step may have happened and would be forgotten.
    """
    given = await read_json(request, _skip_request)
    printable(reason=given.reason, step=given.step)
    state = await engine.skip(
        known(saga_id),
        actor=actor_of(request),
        reason=given.reason,
        step=given.step,
        expected_version=given.expected_version,
    )
    return Acted(saga_id, state.shown_status, "Skipped: the saga goes on without it")


@post("/sagas/{saga_id:str}/signals/{name:str}", status_code=202, docs=_SIGNAL, scope="operate")
async def signal_saga(saga_id: FromPath[str], name: FromPath[str], request: AnyRequest, engine: TheEngine) -> Acted:
    """Tell a saga what its step of that name waits for: an approval, a webhook.

    The body is what the signal says, as the step's type has it. One that comes before its step is kept for it. One
    that is repeated, with its `Idempotency-Key` and its body, counts once; another one is refused with 409.
    """
    payload = await read_optional_json(request, _anything, NULL)
    state = await engine.signal(
        known(saga_id), name, payload, signal_id=idempotency_key(request), actor=actor_of(request)
    )
    waits = state.run(name) is None
    return Acted(saga_id, state.shown_status, "Signal kept for its step" if waits else "Signal received")


async def given_reason(request: AnyRequest) -> ActRequest:
    """The body of an act that needs none."""
    given = await read_optional_json(request, _act_request, ActRequest())
    printable(reason=given.reason)
    return given


def printable(**texts: str) -> None:
    """Raises RequestError for a text, named as its field is, that would do something to a terminal."""
    for name, text in texts.items():
        if not all(character.isprintable() or character == "\n" for character in text):
            raise invalid(FieldError(name, "control characters are not allowed"))


act_routes = [cancel_saga, resume_saga, pause_saga, retry_step, resolve_step, skip_step, signal_saga]
