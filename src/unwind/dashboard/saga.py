"""The page of one saga: why it is where it is, the picture, the plan, all attempts, acts, and what was said."""

from collections.abc import Callable, Mapping, Sequence
from functools import reduce

from litestar import Response, get
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from litestar.response import Stream
from msgspec import Raw, Struct
from msgspec.structs import replace

from unwind.core.events import Event
from unwind.core.evolve import evolve
from unwind.core.foresight import Plan, foresee
from unwind.core.messages import NULL
from unwind.core.state import NEW, State
from unwind.dashboard.changes import Change, changed
from unwind.dashboard.live import TheLive
from unwind.dashboard.messages import Said, said
from unwind.dashboard.pages import ThePages, TheRelated
from unwind.dashboard.requests import AnyRequest, TheEngine, TheQueries, known
from unwind.dashboard.timeline import draw
from unwind.dashboard.words import pretty
from unwind.errors import InputError, NotFoundError
from unwind.runtime.engine import Engine
from unwind.runtime.explain import Explanation, explain
from unwind.runtime.history import History, HistoryEntry, tell
from unwind.runtime.queries import Queries, SagaView, view

Shows = Mapping[str, Callable[[Raw], Raw]]
TheShows = NamedDependency[SkipValidation[Shows]]
FIRST, LAST = 10, 20
"""Attempts that are listed of very many."""
_SHOWN = 24_000
"""Characters of all messages together that a page shows; longer ones have pages of their own."""
_EACH = 1_200
_MOST_ACTS = 60
_DIGITS = 10
"""Of a version."""
_CONTEXT = 6_000


class Whole(Struct, frozen=True):
    """Everything about one saga, read at one moment."""

    newest: int
    """Its newest version; `log` and all that follows may be of an earlier one."""
    log: Sequence[Event]
    state: State
    saga: SagaView
    now: int
    told: Explanation
    plan: Plan
    history: History


async def read_whole(queries: Queries, engine: Engine, saga_id: str, at: int | None = None) -> Whole:
    """Read a saga, as it is now or as it stood after its event number `at`. Raises NotFoundError, UnavailableError."""
    whole = await queries.log(known(saga_id))
    if at is not None and not 1 <= at <= len(whole):
        raise NotFoundError(f"saga {saga_id} has no version {at}; its newest is {len(whole)}")
    log = whole[:at]
    now = await queries.now() if at is None else log[-1].at
    state = reduce(evolve, log, NEW)
    definition = engine.sagas.get(state.definition_hash)
    return Whole(
        len(whole),
        log,
        state,
        view(state),
        now,
        explain(definition, state, log, now),
        foresee(definition, state, now),
        tell(log),
    )


@get("/sagas/{saga_id:str}", scope="read")
async def show_saga(
    saga_id: FromPath[str],
    request: AnyRequest,
    *,
    pages: ThePages,
    queries: TheQueries,
    engine: TheEngine,
    shows: TheShows,
    related: TheRelated,
) -> Response[str]:
    """One saga, as it is now or as it stood after the version `at`."""
    at = _version(request.query_params.get("at", ""))
    whole = await read_whole(queries, engine, saga_id, at)
    saga = whole.saga
    context = pretty(_shown(saga, shows))
    entries = whole.history.entries
    return pages.render(
        "saga.html",
        saga=saga,
        told=whole.told,
        plan=whole.plan,
        picture=draw(whole.state, whole.history, whole.plan, whole.now),
        context=context[:_CONTEXT],
        context_left=len(context) > _CONTEXT,
        entries=_few(entries),
        first=FIRST,
        left_out=max(len(entries) - FIRST - LAST, 0),
        acts=whole.history.acts[-_MOST_ACTS:],
        acts_left=max(len(whole.history.acts) - _MOST_ACTS, 0),
        messages=tuple(_within(said(whole.log))),
        live=whole.state.live and at is None,
        at=at,
        newest=whole.newest,
        change=_change(whole, shows),
        related=related(saga),
        turned=whole.state.status == "compensating",
    )


@get("/live/sagas/{saga_id:str}", scope="read")
async def saga_news(saga_id: FromPath[str], request: AnyRequest, live: TheLive, queries: TheQueries) -> Stream:
    """Whether the saga has moved on."""
    identity = known(saga_id)

    async def mark() -> str:
        return str((await queries.show(identity)).version)

    return await live.stream(request, mark)


@get("/sagas/{saga_id:str}/context", scope="read")
async def show_context(saga_id: FromPath[str], pages: ThePages, queries: TheQueries, shows: TheShows) -> Response[str]:
    """All of a context, however long."""
    saga = await queries.show(known(saga_id))
    text = pretty(_shown(saga, shows))
    return pages.render("text.html", saga_id=saga.saga_id, title="Context", text=text)


@get("/sagas/{saga_id:str}/messages/{number:int}", scope="read")
async def show_message(
    saga_id: FromPath[str], number: FromPath[int], pages: ThePages, queries: TheQueries
) -> Response[str]:
    """All of a command or reply, however long."""
    found = next((each for each in said(await queries.log(known(saga_id))) if each.number == number), None)
    if found is None:
        raise NotFoundError(f"event {number} of saga {saga_id} is no message, or not there yet")
    title = f"{found.step}: {found.what}"
    return pages.render("text.html", saga_id=saga_id, title=title, text=pretty(found.body))


saga_routes = [show_saga, saga_news, show_context, show_message]


def _version(text: str) -> int | None:
    """Raises InputError for what is no version."""
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
        raise InputError("at: give a version of the saga, e.g. 3", "at")
    return int(text)


def _change(whole: Whole, shows: Shows) -> Change:
    """What the last event of the log brought."""
    before = reduce(evolve, whole.log[:-1], NEW)
    was = NULL if len(whole.log) == 1 else _shown(view(before), shows)
    return changed(whole.log[-1], (was, before), (_shown(whole.saga, shows), whole.state))


def _shown(saga: SagaView, shows: Shows) -> Raw:
    """The context as the application shows it."""
    show = shows.get(f"{saga.definition}@{saga.definition_version}") or shows.get(saga.definition)
    return saga.context if show is None else show(saga.context)


def _few(entries: Sequence[HistoryEntry]) -> Sequence[HistoryEntry]:
    return entries if len(entries) <= FIRST + LAST else [*entries[:FIRST], *entries[-LAST:]]


def _within(messages: Sequence[Said]) -> list[tuple[Said, str, bool]]:
    """Each with its text, cut where all together would be too long, and whether that is so."""
    left, found = _SHOWN, []
    for message in messages:
        text = pretty(message.body)
        most = max(min(_EACH, left), 0)
        left -= min(len(text), most)
        found.append((replace(message, body=Raw(b"")), text[:most], len(text) > most))
    return found
