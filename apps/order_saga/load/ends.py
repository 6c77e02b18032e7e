"""Sees how accepted orders end, with few questions: the latest by the list of what has ended, old ones one by one."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import httpx

from order_saga.load.arrivals import Begun
from order_saga.load.tally import Tally
from unwind.cli import wait_of

EVERY = 0.5
"""Seconds between two looks."""
OLD = 10.0
"""Seconds after which an order is asked for by itself: one that stays must not make each look read all since then."""
_AT_ONCE = 50
"""Of those, in one look."""
_FEW = 10
"""So many are asked for one by one in any case."""
_ENDED = "completed,compensated"


class Ends:
    """Looks at what the run's orders have become."""

    def __init__(
        self, http: httpx.AsyncClient, tally: Tally, begun: Mapping[str, Begun], clock: Callable[[], float]
    ) -> None:
        """`begun` says when each was accepted, by `clock`, which is monotonic and in seconds."""
        self._http = http
        self._tally = tally
        self._begun = begun
        self._clock = clock

    async def follow(self, done: Callable[[], bool]) -> None:
        """Until `done` says so. A server that does not answer is asked again."""
        while not done():
            try:
                await self._look()
                pause = EVERY
            except httpx.TransportError:
                pause = EVERY
            except httpx.HTTPStatusError as error:
                pause = max(EVERY, wait_of(error.response) or 0.0)
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        waiting = list(self._tally.open)
        young = [] if len(waiting) <= _FEW else [each for each in waiting if self._is_young(self._begun[each])]
        since = [begun.earliest for begun in map(self._begun.__getitem__, young) if begun.earliest is not None]
        if since:
            await self._list(min(since))
        listed = set(young)
        for saga_id in [each for each in waiting if each not in listed][:_AT_ONCE]:
            await self._ask(saga_id)

    def _is_young(self, begun: Begun) -> bool:
        return begun.earliest is not None and self._clock() - begun.at < OLD

    async def _list(self, since: datetime) -> None:
        """What has ended of all that was begun since."""
        cursor: str | None = None
        while True:
            query = {"status": _ENDED, "definition": "order_saga", "started_from": since.isoformat(), "limit": "200"}
            page = await self._get("/api/v1/sagas", query | ({"cursor": cursor} if cursor else {}))
            for row in page["sagas"]:
                self._note(row)
            cursor = page["next_cursor"]
            if cursor is None:
                return

    async def _ask(self, saga_id: str) -> None:
        saga = await self._get(f"/api/v1/sagas/{saga_id}")
        if saga["ended_at"] is not None:
            self._note(saga)
            return
        # To the end of the row, so that all of them have their turn.
        if self._tally.open.pop(saga_id, None) is not None:
            self._tally.open[saga_id] = saga["status"]

    def _note(self, saga: Mapping[str, Any]) -> None:
        took = datetime.fromisoformat(saga["ended_at"]) - datetime.fromisoformat(saga["started_at"])
        self._tally.end(saga["saga_id"], saga["status"], took.total_seconds())

    async def _get(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        response = await self._http.get(path, params=query)
        response.raise_for_status()
        return response.json()
