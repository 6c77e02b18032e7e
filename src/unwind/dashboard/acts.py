"""Acts of an operator: first a page that shows what the act would bring; then the act, on that version or never."""

from collections.abc import Sequence

from litestar import Response, get, post
from litestar.params import FromPath
from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.core.acts import Mend, in_need, refusal
from unwind.core.messages import NULL, Direction, ResolveStep, RetryStep, SkipStep
from unwind.core.state import State
from unwind.dashboard.faults import Fault, fault_of
from unwind.dashboard.pages import Pages, ThePages
from unwind.dashboard.requests import AnyRequest, Form, TheEngine, TheQueries, known, line_of, read_form, see_other
from unwind.dashboard.saga import Whole, read_whole
from unwind.dashboard.words import pretty
from unwind.errors import InputError, NotFoundError, StateError
from unwind.http.access import actor_of
from unwind.runtime.acts import ACTS, May
from unwind.runtime.engine import Engine

_MENDS: dict[str, type[Mend]] = {"retry": RetryStep, "resolve": ResolveStep, "skip": SkipStep}
_MUST = {"resolve": "evidence", "skip": "reason"}
"""What an act is not accepted without."""


class Target(Struct, frozen=True):
    """A step that the act may be about."""

    step: str
    direction: Direction
    command: str
    """What it sends now, as JSON; empty: nothing."""


@get("/sagas/{saga_id:str}/acts/{act:str}", scope="read")
async def ask_act(
    saga_id: FromPath[str], act: FromPath[str], pages: ThePages, queries: TheQueries, engine: TheEngine
) -> Response[str]:
    """What the act would bring, and a button to confirm it."""
    whole = await read_whole(queries, engine, saga_id)
    return _ask(pages, whole, _named(act), {}, None)


@post("/sagas/{saga_id:str}/acts/{act:str}", status_code=303, scope="operate")
async def do_act(
    saga_id: FromPath[str],
    act: FromPath[str],
    request: AnyRequest,
    *,
    pages: ThePages,
    queries: TheQueries,
    engine: TheEngine,
) -> Response[str] | Response[None]:
    """Do it, and go back to the saga. What cannot be accepted is asked for again, with all that was typed."""
    name, form = _named(act), await read_form(request)
    try:
        await _order(engine, known(saga_id), name, form, actor_of(request))
    except (InputError, StateError) as error:
        fault = fault_of(error)
        return _ask(pages, await read_whole(queries, engine, saga_id), name, form, fault)
    return see_other(f"/sagas/{known(saga_id)}")


act_routes = [ask_act, do_act]


def _named(act: str) -> str:
    if act not in ACTS:
        raise NotFoundError(f"there is no such act; there are {', '.join(ACTS)}")
    return act


def _ask(pages: Pages, whole: Whole, name: str, form: Form, fault: Fault | None) -> Response[str]:
    may = next(each for each in whole.told.may if each.act == name)
    targets = _targets(whole.state, name) if may.possible else ()
    return pages.render(
        "act.html",
        200 if fault is None else fault.status,
        saga=whole.saga,
        told=whole.told,
        may=_briefly(may),
        targets=targets,
        undo=whole.plan.undo if name == "cancel" and may.possible else (),
        form=form,
        fault=fault,
        must=_MUST.get(name, ""),
    )


def _briefly(may: May) -> May:
    return replace(may, consequence=may.consequence[:4_000])


def _targets(state: State, name: str) -> Sequence[Target]:
    mend = _MENDS.get(name)
    if mend is None:
        return ()
    found = [each for each in in_need(state, mend) if not refusal(state, mend, *each)]
    return [Target(step, direction, _command(state, direction, step)) for direction, step in found]


def _command(state: State, direction: Direction, step: str) -> str:
    run = state.run(step) if direction == "do" else state.undo_of(step)
    return "" if run is None or run.command is None else pretty(run.command.payload)


async def _order(engine: Engine, saga_id: str, name: str, form: Form, actor: str) -> None:
    """Raises InputError and StateError, and whatever else keeps it from being recorded."""
    version = _version(form)
    reason, step = line_of(form, "reason"), line_of(form, "step")
    needed = _MUST.get(name)
    if needed and not line_of(form, needed):
        raise InputError(f"{needed}: it is kept in the saga's history, and may not be empty", needed)
    match name:
        case "cancel":
            await engine.cancel(saga_id, actor=actor, reason=reason, expected_version=version, anew=True)
        case "pause":
            await engine.pause(saga_id, actor=actor, reason=reason, expected_version=version)
        case "resume":
            await engine.resume(saga_id, actor=actor, reason=reason, expected_version=version)
        case "retry":
            command = _json(form, "command")
            await engine.retry(
                saga_id, actor=actor, reason=reason, step=step, command=command, expected_version=version
            )
        case "resolve":
            await engine.resolve(
                saga_id,
                actor=actor,
                evidence=line_of(form, "evidence"),
                reference=line_of(form, "reference"),
                step=step,
                reply=_json(form, "reply") or NULL,
                expected_version=version,
            )
        case _:
            await engine.skip(saga_id, actor=actor, reason=reason, step=step, expected_version=version)


def _version(form: Form) -> int:
    """The version that the person has seen."""
    text = form.get("version", "")
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(2**31))):
        raise InputError("version: the form does not say which version it was decided on; open its page again")
    return int(text)


def _json(form: Form, name: str) -> Raw | None:
    """None: nothing was typed."""
    text = form.get(name, "")
    return Raw(text.encode()) if text else None
