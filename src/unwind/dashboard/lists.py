"""The list of sagas: filtered as its address says, page by page, newest first."""

from collections.abc import Awaitable, Callable
from hashlib import blake2b
from urllib.parse import quote

import msgspec
from litestar import Response, get
from litestar.response import Stream
from msgspec.structs import replace

from unwind.dashboard.bulk import ACTIONS, TheBulk
from unwind.dashboard.filters import PAGE, STATUSES, Filter, read_filter
from unwind.dashboard.live import TheLive
from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import AnyRequest, TheEngine, TheQueries, see_other
from unwind.errors import UnavailableError
from unwind.ports import Query
from unwind.runtime.queries import Queries, SagaPage


@get("/sagas", scope="read")
async def saga_list(
    request: AnyRequest, pages: ThePages, queries: TheQueries, engine: TheEngine, bulk: TheBulk
) -> Response[str] | Response[None]:
    """Sagas, newest first. The whole id of one, and no other condition, leads to that saga."""
    wanted = read_filter(request, "count")
    query = wanted.query(engine.searchable)
    page = await queries.find(query, parked=False)
    if wanted == Filter(text=wanted.text) and [saga.saga_id for saga in page.sagas] == [wanted.text]:
        return see_other(f"/sagas/{quote(wanted.text, safe='')}")
    following = wanted.address(before=f"{page.next[0]}.{page.next[1]}") if page.next else ""
    ask = request.query_params.get("count") == "all"
    return pages.render(
        "sagas.html",
        wanted=wanted,
        page=page,
        following=following,
        statuses=STATUSES,
        definitions=sorted(engine.newest),
        attributes=list(engine.searchable.attributes),
        mark=_mark(page),
        count=await _count(queries, query) if wanted.cheap or ask else None,
        countable=not (wanted.cheap or ask),
        actions=[] if bulk is None else ACTIONS,
        size=PAGE,
    )


@get("/live/sagas", scope="read")
async def list_news(request: AnyRequest, live: TheLive, queries: TheQueries, engine: TheEngine) -> Stream:
    """Whether that list shows something else by now."""
    wanted = read_filter(request, "since")
    shared = wanted.address(before=wanted.before)
    return await live.stream(request, _marking(queries, wanted.query(engine.searchable)), shared)


def _marking(queries: Queries, query: Query) -> Callable[[], Awaitable[str]]:
    async def mark() -> str:
        return _mark(await queries.find(query, parked=False))

    return mark


def _mark(page: SagaPage) -> str:
    shown = [(saga.saga_id, saga.status, saga.updated_at) for saga in page.sagas]
    return blake2b(msgspec.json.encode(shown), digest_size=9).hexdigest()


async def _count(queries: Queries, query: Query) -> int | None:
    """None: too many to be counted in time."""
    try:
        return sum(tally.count for tally in await queries.count(replace(query, before=None), {}))
    except UnavailableError:
        return None


list_routes = [saga_list, list_news]
