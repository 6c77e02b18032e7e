"""Routes about what comes next: the plan of a saga, and why it is where it is."""

from litestar import get
from litestar.params import FromPath

from unwind.core.foresight import Plan
from unwind.http.sagas import TheEngine, TheQueries, known, look
from unwind.runtime.explain import Explanation
from unwind.runtime.foresight import explanation_of, plan_of


@get("/sagas/{saga_id:str}/plan", docs=look("What is left to do, and what a cancel would undo", Plan), scope="read")
async def saga_plan(saga_id: FromPath[str], queries: TheQueries, engine: TheEngine) -> Plan:
    """Show what is left to do, and what would be undone if the saga were cancelled now.

    The undos are the machine's own: a cancel right now would send these commands, in this order. Commands of steps
    that are not begun are forecasts. Where this process does not know the saga's definition, `definition_known` is
    false, and only what the log has is told.
    """
    return await plan_of(queries, engine.sagas, known(saga_id))


@get("/sagas/{saga_id:str}/explain", docs=look("Why the saga is where it is", Explanation), scope="read")
async def explain_saga(saga_id: FromPath[str], queries: TheQueries, engine: TheEngine) -> Explanation:
    """Explain in plain language why a saga is where it is.

    What it waits for, since when, which attempt, what comes next and when, and what an operator may do.
    """
    return await explanation_of(queries, engine.sagas, known(saga_id))


foresight_routes = [saga_plan, explain_saga]
