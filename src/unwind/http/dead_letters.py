"""Routes about dead letters: what could never be handled, put back where it came from, or thrown away."""

from typing import Annotated, Any

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

from unwind.core.messages import NULL
from unwind.http.access import actor_of
from unwind.http.acts import Text, printable
from unwind.http.bodies import read_json
from unwind.http.openapi import Answer, Docs, Parameter
from unwind.http.problems import FieldError, invalid
from unwind.http.sagas import AnyRequest
from unwind.ports import Message
from unwind.queues import DeadLetter, OperatedBus
from unwind.runtime.instants import instant
from unwind.runtime.letters import LetterAct, discard, redrive

TheBus = NamedDependency[SkipValidation[OperatedBus]]
MOST = 100
"""Letters in a page, or in one act."""
USUAL = 20
MAX_ID = 512
_WHOLE = 16 * 1024
"""Bytes of a letter up to which its payloads are in the list."""
_DIGITS = 9

LetterId = Annotated[str, Meta(min_length=1, max_length=MAX_ID)]


class MessageView(Struct, frozen=True):
    """One message of a letter."""

    id: str
    """The effect id of a command or a reply."""
    name: str
    saga_id: str
    step: str
    direction: str
    attempt: int
    payload: Raw
    """Null in letters of more than 16 KiB."""


class LetterView(Struct, frozen=True):
    """One publication that was set aside."""

    id: str
    topic: str
    """Where it was to be handled: `commands.` and a service, or `replies`."""
    reason: str
    set_aside_at: str
    size: int
    """Bytes."""
    messages: tuple[MessageView, ...]
    """None where it cannot be read."""
    unreadable: str | None
    """The beginning of what cannot be read."""


class LetterList(Struct, frozen=True):
    """A page of dead letters, the oldest first."""

    dead_letters: tuple[LetterView, ...]
    total: int
    next: str | None
    """What `after` has to be for the following page; null at the end."""


class LettersRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which letters, and why."""

    ids: Annotated[tuple[LetterId, ...], Meta(min_length=1, max_length=MOST)]
    reason: Text = ""
    """Kept in this program's log, with who asked."""


_request = Decoder(LettersRequest)
_PAGE = (
    Parameter("limit", "How many at most.", {"type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL}),
    Parameter("after", "The `next` of the page before.", {"type": "string", "minLength": 1, "maxLength": MAX_ID}),
)
_LIST = Docs((Answer(200, "What was set aside", LetterList),), (422, 503), parameters=_PAGE, tag="dead letters")
_FAILURES = (400, 413, 415, 422, 503)
_REDRIVE = Docs((Answer(200, "What was put back", LetterAct),), _FAILURES, request=LettersRequest, tag="dead letters")
_DISCARD = Docs((Answer(200, "What is gone", LetterAct),), _FAILURES, request=LettersRequest, tag="dead letters")


@get("/dead-letters", docs=_LIST, scope="read")
async def list_dead_letters(request: AnyRequest, bus: TheBus) -> LetterList:
    """List what no participant, nor the engine, could ever handle, and why.

    Nothing is lost by it: a saga whose command lies here sends it again until it is answered, or its attempts are over.
    """
    page = await bus.dead_letters(_limit(request), _after(request))
    return LetterList(tuple(map(_shown, page.letters)), page.total, page.next)


@post("/dead-letters/redrive", status_code=200, docs=_REDRIVE, scope="operate")
async def redrive_dead_letters(request: AnyRequest, bus: TheBus) -> LetterAct:
    """Put letters back where they came from, once what they lacked is there.

    One is forgotten only when the bus has it again, so it may come twice, never not at all. Participants answer what
    they have done already from their barrier.
    """
    given = await _given(request)
    return await redrive(bus, given.ids, actor=actor_of(request), reason=given.reason)


@post("/dead-letters/discard", status_code=200, docs=_DISCARD, scope="operate")
async def discard_dead_letters(request: AnyRequest, bus: TheBus) -> LetterAct:
    """Throw letters away for good."""
    given = await _given(request)
    return await discard(bus, given.ids, actor=actor_of(request), reason=given.reason)


dead_letter_routes = [list_dead_letters, redrive_dead_letters, discard_dead_letters]


async def _given(request: AnyRequest) -> LettersRequest:
    given = await read_json(request, _request)
    printable(reason=given.reason)
    return given


def _limit(request: AnyRequest) -> int:
    text = request.query_params.get("limit", str(USUAL))
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and 1 <= int(text) <= MOST):
        raise invalid(FieldError("limit", f"give a whole number from 1 to {MOST}"))
    return int(text)


def _after(request: AnyRequest) -> str:
    after: Any = request.query_params.get("after")
    if after is None:
        return ""
    if not 1 <= len(after) <= MAX_ID:
        raise invalid(FieldError("after", "give the `next` of a page"))
    return str(after)


def _shown(letter: DeadLetter) -> LetterView:
    whole = letter.size <= _WHOLE
    return LetterView(
        letter.id,
        letter.topic,
        letter.reason,
        instant(letter.at),
        letter.size,
        tuple(_message(message, whole=whole) for message in letter.messages),
        None if letter.messages else letter.data[:1_000].decode(errors="replace"),
    )


def _message(message: Message, *, whole: bool) -> MessageView:
    return MessageView(
        message.id,
        message.name,
        message.saga_id,
        message.step,
        message.direction,
        message.attempt,
        message.payload if whole else NULL,
    )
