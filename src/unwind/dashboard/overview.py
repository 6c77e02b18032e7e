"""The first page: what needs a person, how many sagas there are, which are the oldest, and figures over time."""

import asyncio

from litestar import Response, get
from litestar.response import Stream

from unwind.dashboard.attention import look_over
from unwind.dashboard.charts import charts_of
from unwind.dashboard.course import SPANS, TheCourses, span_of
from unwind.dashboard.live import TheLive
from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import AnyRequest, TheEngine, TheQueries
from unwind.dashboard.shares import TheShares
from unwind.dashboard.traffic import TheBus, TheTraffic


@get("/", scope="read")
async def overview(
    request: AnyRequest,
    *,
    pages: ThePages,
    queries: TheQueries,
    engine: TheEngine,
    courses: TheCourses,
    shares: TheShares,
    traffic: TheTraffic,
    bus: TheBus,
) -> Response[str]:
    """What is to be seen first."""
    span = span_of(request.query_params.get("range", ""))
    seen, course, told, samples = await asyncio.gather(
        look_over(queries, engine.circuits()),
        courses.read(queries, span),
        traffic.read(bus),
        shares.read(queries, sorted(engine.newest)),
    )
    return pages.render(
        "overview.html",
        seen=seen,
        dead=0 if told is None else told.dead,
        spans=SPANS,
        span=span,
        course=course,
        charts=() if course is None else charts_of(course),
        samples=[each for each in samples.values() if each is not None and each.windows],
    )


@get("/live/overview", scope="read")
async def overview_news(request: AnyRequest, live: TheLive, queries: TheQueries, engine: TheEngine) -> Stream:
    """Whether it shows something else by now."""

    async def mark() -> str:
        return (await look_over(queries, engine.circuits())).mark

    return await live.stream(request, mark, shared="overview")


overview_routes = [overview, overview_news]
