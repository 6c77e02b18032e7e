"""The order application as a client sees it: real engine, real SQLite files, the HTTP application called in-process."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from order_saga.main import application
from unwind.cli import read_settings
from unwind.http.problems import MEDIA_TYPE

ITEM = {"product_id": "product-1", "quantity": 2, "price": 100.0}
ORDER = {"customer_id": "customer-1", "items": [ITEM]}
SLOW = {"customer_id": "customer-1", "items": [{"product_id": "product-slow", "quantity": 1, "price": 5}]}
BROKE = {"customer_id": "customer-456", "items": [{"product_id": "product-1", "quantity": 100, "price": 10_000}]}


class Shop:
    """A client of the application."""

    def __init__(self, http: httpx.AsyncClient, app: Any) -> None:
        self.http = http
        self.app = app

    async def order(self, body: Any = None, **headers: str) -> httpx.Response:
        """Place an order; bytes are sent as they are."""
        content = {"content": body} if isinstance(body, bytes) else {"json": ORDER if body is None else body}
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post("/api/v1/orders", headers={"Content-Type": "application/json", **given}, **content)

    async def saga(self, saga_id: str) -> Any:
        return (await self.http.get(f"/api/v1/sagas/{saga_id}")).json()

    async def until(self, saga_id: str, *statuses: str) -> Any:
        """The saga, as soon as it is in one of these statuses; the test's own time limit ends the wait."""
        while (saga := await self.saga(saga_id))["status"] not in statuses:
            assert saga["status"] not in {"completed", "compensated"}
        return saga

    async def history(self, saga_id: str) -> Any:
        return (await self.http.get(f"/api/v1/sagas/{saga_id}/history")).json()

    async def stored(self) -> int:
        """How many sagas there are."""
        return len((await self.http.get("/api/v1/sagas")).json()["sagas"])


def check_problem(response: httpx.Response, status: int, name: str) -> Any:
    """The problem in an answer, after checking that it is one."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == MEDIA_TYPE
    problem = response.json()
    assert problem["type"] == f"/problems/{name}"
    assert problem["status"] == status
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"] == response.request.url.path
    assert problem["request_id"] == response.headers["x-request-id"]
    return problem


@pytest.fixture
async def shop(tmp_path: Path) -> AsyncIterator[Shop]:
    settings = read_settings({"DATABASE_URL": f"sqlite:///{tmp_path}/unwind.db"})
    async with application(settings) as served:
        transport = httpx.ASGITransport(served.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            yield Shop(client, served.app)
