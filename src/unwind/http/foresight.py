"""Routes about what comes next: the plan of a saga."""

from litestar import get
from litestar.params import FromPath

from unwind.core.foresight import Plan
from unwind.http.sagas import TheEngine, TheQueries, known, look
from unwind.runtime.foresight import plan_of


@get("/sagas/{saga_id:str}/plan", docs=look("What is left to do, and what a cancel would undo", Plan))
async def saga_plan(saga_id: FromPath[str], queries: TheQueries, engine: TheEngine) -> Plan:
    """Show what is left to do, and what would be undone if the saga were cancelled now.

    The undos are the machine's own: a cancel right now would send these commands, in this order. Commands of steps
    that are not begun are forecasts. Where this process does not know the saga's definition, `definition_known` is
    false, and only what the log has is told.
    """
    return await plan_of(queries, engine.sagas, known(saga_id))


foresight_routes = [saga_plan]
