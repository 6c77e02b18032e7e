"""The orders: posted to either API until one of them has answered, some cancelled a moment later."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Sequence

import httpx

CANCELLED = 0.2
"""Share of the orders that are cancelled while they are under way."""
PATIENCE = 90.0
"""Seconds in which some API must have answered a request, however often they are killed."""
PAUSE = 0.2
"""Seconds before a request is repeated at the other API."""
ORDERS = (
    ("customer-1", "product-1", 2, "100.0", 60),
    ("customer-456", "product-1", 100, "10000", 10),
    ("customer-nowhere", "product-2", 1, "19.99", 10),
    ("customer-2", "product-out-of-stock", 1, "5.50", 5),
    ("customer-3", "product-flaky", 1, "7.25", 10),
    ("customer-card-down", "product-3", 3, "12.00", 5),
)
"""Customer, product, quantity, price, and how often among a hundred."""


class Load:
    """Places orders at a steady rate, and remembers what was promised."""

    def __init__(self, apis: Sequence[str], orders: int, rate: float, chance: random.Random) -> None:
        """`rate` in orders per second."""
        self.apis = apis
        self.accepted: dict[str, float] = {}
        """Saga id → when it was accepted (seconds since the epoch)."""
        self.answers: Counter[str] = Counter()
        self._orders = orders
        self._rate = rate
        self._chance = chance

    async def run(self) -> None:
        """Until every order was answered. Raises TimeoutError when no API answers any more."""
        async with httpx.AsyncClient(timeout=5) as client, asyncio.TaskGroup() as tasks:
            for number in range(self._orders):
                tasks.create_task(self._place(client, number))
                await asyncio.sleep(1 / self._rate)  # the rate of the load, not a wait for something

    async def _place(self, client: httpx.AsyncClient, number: int) -> None:
        [kind] = self._chance.choices(ORDERS, [weight for *_, weight in ORDERS])
        customer, product, quantity, price, _ = kind
        body = (
            f'{{"customer_id": "{customer}", "items": '
            f'[{{"product_id": "{product}", "quantity": {quantity}, "price": {price}}}]}}'
        )
        cancelled = self._chance.random() < CANCELLED
        delay = self._chance.random() * 0.3
        first = number % len(self.apis)
        # A key of its own per order: it is repeated after every answer that did not arrive.
        answer = await self._ask(client, first, "/api/v1/orders", body, f"chaos-{number}")
        if answer.status_code != httpx.codes.ACCEPTED:
            self.answers[f"order refused {answer.status_code}"] += 1
            return
        saga_id = answer.json()["saga_id"]
        self.accepted[saga_id] = time.time()
        self.answers["accepted"] += 1
        if cancelled:
            await asyncio.sleep(delay)
            said = await self._ask(client, first + 1, f"/api/v1/sagas/{saga_id}/cancel", "")
            self.answers[f"cancel {said.status_code}"] += 1

    async def _ask(self, client: httpx.AsyncClient, first: int, path: str, body: str, key: str = "") -> httpx.Response:
        """Ask one API after the other until one gives an answer that is not about itself."""
        headers = {"Idempotency-Key": key} if key else {}
        if body:
            headers["Content-Type"] = "application/json"
        deadline = time.monotonic() + PATIENCE
        turn = first
        while True:
            url = self.apis[turn % len(self.apis)] + path
            try:
                answer = await client.post(url, content=body, headers=headers)
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return answer
                self.answers[f"answered {answer.status_code}, repeated"] += 1
            except httpx.TransportError:
                self.answers["no answer, repeated"] += 1
            if time.monotonic() > deadline:
                raise TimeoutError(f"no API has answered POST {path} within {PATIENCE:g} s")
            turn += 1
            await asyncio.sleep(PAUSE)
