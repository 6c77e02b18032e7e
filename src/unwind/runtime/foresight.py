"""The read side of what comes next: reads the log, and asks the core for the plan."""

from collections.abc import Mapping
from typing import Any

from unwind.core.foresight import Plan, foresee
from unwind.core.saga import Saga
from unwind.core.state import NEW, evolve
from unwind.runtime.queries import Queries

Definitions = Mapping[str, Saga[Any]]
"""What this process knows: content hash → definition."""


async def plan_of(queries: Queries, definitions: Definitions, saga_id: str) -> Plan:
    """What is left to do, and what a cancel would undo now. Raises NotFoundError, UnavailableError.

    Of a saga whose definition is not among `definitions` it tells what the log alone can tell.
    """
    state = NEW
    for event in await queries.log(saga_id):
        state = evolve(state, event)
    return foresee(definitions.get(state.definition_hash), state, await queries.now())
