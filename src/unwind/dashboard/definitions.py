"""The definitions that this process knows: each as a graph of its steps, with what was agreed for them."""

from litestar import Response, get

from unwind.dashboard.pages import ThePages
from unwind.dashboard.requests import TheEngine
from unwind.runtime.drawing import graph_of


@get("/definitions", scope="read")
async def definitions(pages: ThePages, engine: TheEngine) -> Response[str]:
    """All definitions, the newest version of each name first."""
    known = sorted(engine.sagas.values(), key=lambda saga: (saga.name, -saga.version))
    return pages.render("definitions.html", graphs=[graph_of(saga) for saga in known])


definition_routes = [definitions]
