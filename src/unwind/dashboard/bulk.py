"""One act on all sagas of a list: first a page with what it would meet, then the run, which is followed and stopped."""

from typing import get_args

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from litestar.response import Stream
from msgspec.structs import replace

from unwind.dashboard.faults import Fault, fault_of
from unwind.dashboard.filters import Filter, read_filter
from unwind.dashboard.live import TheLive
from unwind.dashboard.pages import Pages, ThePages
from unwind.dashboard.requests import AnyRequest, Form, TheEngine, TheQueries, line_of, read_form, see_other, whole_of
from unwind.errors import InputError, NotFoundError, OverloadedError
from unwind.http.access import actor_of
from unwind.http.bulk import FASTEST, USUAL
from unwind.http.problems import BULK_COUNT, RequestError
from unwind.http.sagas import counted
from unwind.runtime.bulk import APPLIES, Action, Bulk, BulkRun, Order, Preview
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries, SagaPage

ACTIONS: tuple[Action, ...] = get_args(Action)
TheBulk = NamedDependency[SkipValidation[Bulk | None]]
_FIRST = 10
"""Sagas that a preview names."""
_MOST = 2**53


@get("/bulk/{action:str}", scope="read")
async def ask_bulk(
    action: FromPath[str],
    request: AnyRequest,
    *,
    pages: ThePages,
    queries: TheQueries,
    engine: TheEngine,
    bulk: TheBulk,
) -> Response[str]:
    """What the act would meet among those that the filter in the address fits, and a button to begin."""
    asked = _Asked(_known(action), read_filter(request), engine, queries, _needed(bulk))
    return await _ask(pages, asked, {}, None)


@post("/bulk/{action:str}", status_code=303, scope="operate")
async def begin_bulk(
    action: FromPath[str],
    request: AnyRequest,
    *,
    pages: ThePages,
    queries: TheQueries,
    engine: TheEngine,
    bulk: TheBulk,
) -> Response[str] | Response[None]:
    """Begin, if it still applies to as many as were shown. What cannot be accepted is asked for again."""
    asked = _Asked(_known(action), read_filter(request), engine, queries, _needed(bulk))
    form = await read_form(request)
    try:
        run = await asked.begin(form, actor_of(request))
    except (InputError, RequestError, OverloadedError) as error:
        return await _ask(pages, asked, form, fault_of(error))
    return see_other(f"/bulk/runs/{run.id}")


@get("/bulk/runs/{run_id:str}", scope="read")
async def show_run(run_id: FromPath[str], pages: ThePages, bulk: TheBulk) -> Response[str]:
    """How far a run has come."""
    run = _needed(bulk).progress(run_id)
    return pages.render("bulk_run.html", run=run, mark=_mark(run), live=run.state == "running")


@get("/live/bulk/{run_id:str}", scope="read")
async def run_news(run_id: FromPath[str], request: AnyRequest, live: TheLive, bulk: TheBulk) -> Stream:
    """Whether it has come further."""
    runs = _needed(bulk)

    async def mark() -> str:
        return _mark(runs.progress(run_id))

    return await live.stream(request, mark)


@post("/bulk/runs/{run_id:str}/stop", status_code=303, scope="operate")
async def stop_run(run_id: FromPath[str], bulk: TheBulk) -> Response[None]:
    """End a run before its next act; what it has done stays done."""
    return see_other(f"/bulk/runs/{_needed(bulk).halt(run_id).id}")


bulk_pages = [ask_bulk, begin_bulk, show_run, run_news, stop_run]


class _Asked:
    """An act, and the sagas it is about."""

    def __init__(self, action: Action, wanted: Filter, engine: Engine, queries: Queries, bulk: Bulk) -> None:
        self.action = action
        self.wanted = replace(wanted, before="")
        self.query = self.wanted.query(engine.searchable)
        self.amounts = engine.searchable.amounts
        self._queries = queries
        self._bulk = bulk

    async def preview(self) -> Preview:
        return await self._bulk.preview(self.action, self.query)

    async def first(self) -> SagaPage:
        """The newest of those that it would be tried on."""
        asked = self.query.statuses or APPLIES[self.action]
        statuses = tuple(status for status in APPLIES[self.action] if status in asked)
        if not statuses:
            return SagaPage((), None)
        return await self._queries.find(replace(self.query, statuses=statuses, limit=_FIRST), parked=False)

    async def begin(self, form: Form, actor: str) -> BulkRun:
        """Raises InputError, RequestError, OverloadedError, UnavailableError."""
        reason = line_of(form, "reason")
        if not reason:
            raise InputError("reason: it is kept in the history of each saga, and may not be empty", "reason")
        if self.wanted.everything and form.get("all") != "yes":
            raise InputError("all: no condition chooses among the sagas; say that every one is meant", "all")
        pace = whole_of(form, "limit_per_second", FASTEST)
        expected = whole_of(form, "expected_count", _MOST)
        preview = await self.preview()
        if expected != preview.applies_to:
            raise RequestError(
                BULK_COUNT, f"it would apply to {preview.applies_to} sagas now, not {expected}; look at them again"
            )
        return await self._bulk.begin(Order(self.action, self.query, actor, reason, pace, expected), preview)


async def _ask(pages: Pages, asked: _Asked, form: Form, fault: Fault | None) -> Response[str]:
    preview = await asked.preview()
    return pages.render(
        "bulk.html",
        200 if fault is None else fault.status,
        action=asked.action,
        wanted=asked.wanted,
        preview=preview,
        amounts=counted(preview.applicable, asked.amounts).amounts,
        first=(await asked.first()).sagas,
        form=form,
        fault=fault,
        usual=USUAL,
        fastest=FASTEST,
    )


def _mark(run: BulkRun) -> str:
    return f"{run.state}.{run.applied}.{run.refused}.{run.total}"


def _known(action: str) -> Action:
    for each in ACTIONS:
        if each == action:
            return each
    raise NotFoundError(f"there is no such act on many sagas; there are {', '.join(ACTIONS)}")


def _needed(bulk: Bulk | None) -> Bulk:
    if bulk is None:
        raise NotFoundError("this application does nothing to many sagas at once")
    return bulk
