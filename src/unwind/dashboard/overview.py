"""The first page: what needs a person, how many sagas there are, which are the oldest."""

from litestar import Response, get
from litestar.response import Stream

from unwind.dashboard.attention import look_over
from unwind.dashboard.live import TheLive
from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import AnyRequest, TheEngine, TheQueries


@get("/", scope="read")
async def overview(pages: ThePages, queries: TheQueries, engine: TheEngine) -> Response[str]:
    """What is to be seen first."""
    seen = await look_over(queries, engine.circuits())
    return pages.render("overview.html", seen=seen)


@get("/live/overview", scope="read")
async def overview_news(request: AnyRequest, live: TheLive, queries: TheQueries, engine: TheEngine) -> Stream:
    """Whether it shows something else by now."""

    async def mark() -> str:
        return (await look_over(queries, engine.circuits())).mark

    return await live.stream(request, mark, shared="overview")


overview_routes = [overview, overview_news]
