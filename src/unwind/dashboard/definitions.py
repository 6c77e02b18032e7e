"""The definitions that this process knows: each as a graph of its steps, with what was agreed for them."""

from litestar import Response, get

from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import TheEngine, TheQueries
from unwind.dashboard.shares import TheShares
from unwind.runtime.drawing import graph_of


@get("/definitions", scope="read")
async def definitions(pages: ThePages, engine: TheEngine, queries: TheQueries, shares: TheShares) -> Response[str]:
    """All definitions, the newest version of each name first, and what became of the steps of sagas that ended last."""
    known = sorted(engine.sagas.values(), key=lambda saga: (saga.name, -saga.version))
    samples = await shares.read(queries, sorted(engine.newest))
    return pages.render("definitions.html", graphs=[graph_of(saga) for saga in known], samples=samples)


definition_routes = [definitions]
