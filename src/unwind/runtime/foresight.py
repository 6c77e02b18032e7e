"""The read side of what comes next, and of what was: reads the log, and asks the core."""

from collections.abc import Iterable, Mapping
from functools import reduce
from typing import Any

from unwind.core.events import Event
from unwind.core.evolve import evolve
from unwind.core.foresight import Plan, foresee
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.errors import NotFoundError
from unwind.runtime.explain import Explanation, explain
from unwind.runtime.queries import Queries, SagaView, view

Definitions = Mapping[str, Saga[Any]]
"""What this process knows: content hash → definition."""


async def plan_of(queries: Queries, definitions: Definitions, saga_id: str) -> Plan:
    """What is left to do, and what a cancel would undo now. Raises NotFoundError, UnavailableError.

    Of a saga whose definition is not among `definitions` it tells what the log alone can tell.
    """
    state = _state(await queries.log(saga_id))
    return foresee(definitions.get(state.definition_hash), state, await queries.now())


async def explanation_of(queries: Queries, definitions: Definitions, saga_id: str) -> Explanation:
    """Why the saga is where it is. Raises NotFoundError, UnavailableError."""
    log = await queries.log(saga_id)
    state = _state(log)
    return explain(definitions.get(state.definition_hash), state, log, await queries.now())


async def view_at(queries: Queries, saga_id: str, version: int) -> SagaView:
    """The saga as it stood after its event number `version`, from 1.

    Raises NotFoundError (also when there is no such version yet), UnavailableError.
    """
    events = await queries.log(saga_id)
    if version > len(events):
        raise NotFoundError(f"saga {saga_id} has no version {version} yet; its newest is {len(events)}")
    return view(_state(events[:version]))


def _state(events: Iterable[Event]) -> State:
    return reduce(evolve, events, NEW)
