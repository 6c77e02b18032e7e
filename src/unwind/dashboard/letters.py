"""Dead letters: what could never be handled, why, and the two acts that there are, each asked about first."""

from collections.abc import Sequence
from typing import Literal, get_args
from urllib.parse import urlencode

import msgspec
from litestar import Response, get, post
from litestar.params import FromPath
from msgspec.json import Decoder

from unwind.dashboard.faults import Fault, fault_of
from unwind.dashboard.pages import Pages, ThePages
from unwind.dashboard.requests import AnyRequest, read_form, see_other
from unwind.dashboard.traffic import TheBus
from unwind.errors import InputError, NotFoundError
from unwind.http.access import actor_of
from unwind.queues import DeadLetter, OperatedBus
from unwind.runtime.letters import discard, redrive

PAGE = 25
_MOST = 100
"""Letters in one act."""
_MAX_ID = 512
_MAX_TEXT = 1_000
Act = Literal["redrive", "discard"]
_ids = Decoder(tuple[str, ...])


@get("/dead-letters", scope="read")
async def list_letters(request: AnyRequest, pages: ThePages, bus: TheBus) -> Response[str]:
    """A page of them, the oldest first."""
    after = _id(request.query_params.get("after", ""))
    page = await _needed(bus).dead_letters(PAGE, after)
    return pages.render(
        "letters.html",
        page=page,
        after=after,
        following="" if page.next is None else f"/dead-letters?{urlencode({'after': page.next})}",
        chosen=urlencode([("id", letter.id) for letter in page.letters]),
        done=_count(request, "done"),
        missing=_count(request, "missing"),
    )


@get("/dead-letters/{act:str}", scope="read")
async def ask_letters(act: FromPath[str], request: AnyRequest, pages: ThePages, bus: TheBus) -> Response[str]:
    """What the act would bring, and a button to confirm it."""
    name, ids = _named(act), [_id(each) for each in request.query_params.getall("id", [])]
    return _ask(pages, name, await _needed(bus).find_dead(_few(ids)), None, "")


@post("/dead-letters/{act:str}", status_code=303, scope="operate")
async def do_letters(
    act: FromPath[str], request: AnyRequest, pages: ThePages, bus: TheBus
) -> Response[str] | Response[None]:
    """Do it, and go back to the list."""
    name, form = _named(act), await read_form(request)
    ids = _read_ids(form.get("ids", ""))
    try:
        reason = _text(form.get("reason", ""))
    except InputError as error:
        return _ask(pages, name, await _needed(bus).find_dead(ids), fault_of(error), form.get("reason", ""))
    do = redrive if name == "redrive" else discard
    came = await do(_needed(bus), ids, actor=actor_of(request), reason=reason)
    return see_other(f"/dead-letters?done={len(came.done)}&missing={len(came.missing)}")


letter_routes = [list_letters, ask_letters, do_letters]


def _ask(pages: Pages, act: Act, letters: Sequence[DeadLetter], fault: Fault | None, reason: str) -> Response[str]:
    if not letters:
        raise NotFoundError("these letters are not there any more; somebody may have been faster")
    return pages.render(
        "letters_act.html",
        200 if fault is None else fault.status,
        act=act,
        letters=letters,
        ids=msgspec.json.encode([letter.id for letter in letters]).decode(),
        fault=fault,
        reason=reason,
    )


def _needed(bus: OperatedBus | None) -> OperatedBus:
    if bus is None:
        raise NotFoundError("this application does not show its bus")
    return bus


def _named(act: str) -> Act:
    if act not in get_args(Act):
        raise NotFoundError(f"there is no such act; there are {', '.join(get_args(Act))}")
    return act  # type: ignore[return-value]


def _id(text: str) -> str:
    if len(text) > _MAX_ID or not text.isprintable():
        raise NotFoundError("there is no such letter")
    return text


def _few(ids: Sequence[str]) -> Sequence[str]:
    if not 1 <= len(ids) <= _MOST:
        raise InputError(f"choose from 1 to {_MOST} letters")
    return ids


def _read_ids(text: str) -> Sequence[str]:
    try:
        ids = _ids.decode(text)
    except (msgspec.DecodeError, UnicodeError) as error:
        raise InputError("ids: the form does not say which letters; open its page again") from error
    return _few([_id(each) for each in ids])


def _text(text: str) -> str:
    if len(text) > _MAX_TEXT or not text.replace("\n", "").isprintable():
        raise InputError(f"reason: give at most {_MAX_TEXT} printable characters", "reason")
    return text.replace("\n", " ")


def _count(request: AnyRequest, name: str) -> int:
    text = request.query_params.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and int(text or 0) <= _MOST else 0
