"""Places orders as customers come: by the schedule, whatever the answers take, with a bound on those in flight."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from fractions import Fraction
from http import HTTPStatus

import httpx
import msgspec

from order_saga.load.orders import order
from order_saga.load.tally import Tally
from unwind.cli import wait_of

AGAIN = 1.0
"""Seconds until a call is repeated that was not answered."""
_SLACK = timedelta(seconds=2)
"""By which the time in an answer may be late: it has whole seconds."""


class Plan(msgspec.Struct, frozen=True):
    """What is to be placed."""

    rate: float
    """Orders a second."""
    orders: int
    failing: Fraction
    """The share of them that fails on purpose."""
    in_flight: int
    """Calls that may wait for an answer at once."""
    seconds: float | None
    """When to stop though not all have been sent; None: not before."""
    run: str
    """Tells the orders of this run from all others."""


class Begun(msgspec.Struct, frozen=True):
    """When an order was accepted."""

    at: float
    """By our own clock, monotonic, in seconds."""
    earliest: datetime | None
    """An instant by the server's clock before which its saga was not begun; None: it did not say."""


class _Accepted(msgspec.Struct):
    saga_id: str


class Arrivals:
    """One run's orders, on their way to being accepted."""

    def __init__(self, http: httpx.AsyncClient, plan: Plan, tally: Tally, clock: Callable[[], float]) -> None:
        """`clock` is monotonic, in seconds."""
        self._http = http
        self._plan = plan
        self._tally = tally
        self._clock = clock
        self._slots = asyncio.Semaphore(plan.in_flight)
        self.begun: dict[str, Begun] = {}
        """By the id of the saga."""

    async def place(self, patience: float) -> None:
        """Send each order when its turn has come; repeat what the server puts off for up to `patience` seconds more."""
        begun = self._clock()
        placing: set[asyncio.Task[None]] = set()
        async with asyncio.TaskGroup() as group:
            for number in range(self._plan.orders):
                due = begun + number / self._plan.rate
                await asyncio.sleep(max(0.0, due - self._clock()))
                await self._slots.acquire()
                late = self._clock() - due
                if self._plan.seconds is not None and due + late - begun > self._plan.seconds:
                    self._slots.release()
                    break
                self._tally.send(late, self._clock() - begun)
                task = group.create_task(self._until_accepted(number, due))
                placing.add(task)
                task.add_done_callback(placing.discard)
            if placing:
                _, waiting = await asyncio.wait(set(placing), timeout=patience)
                for task in waiting:
                    task.cancel()

    async def _until_accepted(self, number: int, due: float) -> None:
        """Enters with a slot."""
        body, key = order(number, self._plan.failing), f"load-{self._plan.run}-{number}"
        while True:
            try:
                pause = await self._send(body, key, due)
            finally:
                self._slots.release()
            if pause is None:
                return
            await asyncio.sleep(pause)
            await self._slots.acquire()

    async def _send(self, body: bytes, key: str, due: float) -> float | None:
        """Seconds until it is to be sent again; None: there is an answer that counts."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        sent = self._clock()
        try:
            response = await self._http.post("/api/v1/orders", content=body, headers=headers)
        except httpx.TransportError:
            self._tally.no_answer += 1
            return AGAIN
        if response.status_code != HTTPStatus.ACCEPTED:
            self._tally.refused[str(response.status_code)] += 1
            return wait_of(response)
        now = self._clock()
        saga_id = msgspec.json.decode(response.content, type=_Accepted).saga_id
        earliest = None
        if "Date" in response.headers:
            earliest = parsedate_to_datetime(response.headers["Date"]) - timedelta(seconds=now - sent) - _SLACK
        self.begun[saga_id] = Begun(now, earliest)
        self._tally.accept(saga_id, now - due)
        return None
