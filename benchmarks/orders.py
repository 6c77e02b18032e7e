"""The honest figure: orders placed one by one over HTTP, each a request, and carried through by the whole application.

One API, one worker and three services as processes, on PostgreSQL, NATS and Redis; every order reserves, pays, ships.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from chaos.deployment import Deployment

CLIENTS = 64
"""Connections that each send the next order when the last was answered."""
BODY = b'{"customer_id": "customer-1", "items": [{"product_id": "product-1", "quantity": 2, "price": 100.0}]}'


def place(orders: int) -> dict[str, Any]:
    """Place so many; how many a second were answered, and how many a second ended."""
    with TemporaryDirectory(prefix="unwind-orders-", ignore_cleanup_errors=True) as folder:
        deployment = Deployment(Path(folder), apis=1, workers=1)
        try:
            deployment.start()
            return asyncio.run(_measure(deployment, orders))
        finally:
            deployment.stop()


async def _measure(deployment: Deployment, orders: int) -> dict[str, Any]:
    url = deployment.apis[0].url
    await _place(url, 200)
    database = await asyncpg.connect(deployment.environment["DATABASE_URL"])
    began = time.time()
    answered = await _place(url, orders)
    accepted = orders / (time.time() - began)
    ended = "select count(ended_at), max(ended_at), count(*) from sagas"
    while (row := await database.fetchrow(ended))[0] < row[2]:  # noqa: ASYNC110
        await asyncio.sleep(0.05)  # what ends in another process tells nobody here
    spent = "select percentile_cont(array[0.5, 0.99]) within group (order by ended_at - started_at) from sagas"
    latencies = [float(each) / 1e3 for each in await database.fetchval(spent)]
    await database.close()
    return {
        "orders": orders,
        "accepted_per_second": round(accepted, 1),
        "ended_per_second": round(orders / (row[1] / 1e6 - began), 1),
        "answer_p50_ms": round(answered[len(answered) // 2] * 1e3, 2),
        "answer_p99_ms": round(answered[int(len(answered) * 0.99)] * 1e3, 2),
        "saga_p50_ms": round(latencies[0], 1),
        "saga_p99_ms": round(latencies[1], 1),
    }


async def _place(url: str, orders: int) -> list[float]:
    """Seconds until each was answered, sorted."""
    spent: list[float] = []
    left = iter(range(orders))

    async def client() -> None:
        async with _connected(url) as (reader, writer):
            for _ in left:
                began = time.perf_counter()
                await _post(reader, writer)
                spent.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return sorted(spent)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One order. A client library would cost more than the server."""
    writer.write(
        b"POST /api/v1/orders HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: %d\r\n\r\n%b" % (len(BODY), BODY)
    )
    head = await reader.readuntil(b"\r\n\r\n")
    if not head.startswith(b"HTTP/1.1 202"):
        raise AssertionError(head.decode())
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
