"""The promise on real processes and real files: the server is killed with -9 again and again, and every order ends."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.eventually import eventually

pytestmark = pytest.mark.integration  # the programs themselves, as processes

PROGRAM = str(Path(sys.executable).parent / "order-saga")
CLIENTS = 16
PATIENCE = 60.0

MIX = (
    ("customer-1", "product-1", 2, "compensated or completed"),
    ("customer-2", "product-2", 1, "completed"),
    ("customer-456", "product-1", 100, "compensated"),
    ("customer-3", "product-3", 3, "completed"),
    ("customer-4", "product-out-of-stock", 1, "compensated"),
    ("customer-5", "product-5", 1, "completed"),
    ("customer-nowhere", "product-6", 1, "compensated"),
    ("customer-6", "product-flaky", 1, "completed"),
)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """The order application as a process of its own, on files that outlive it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.environment = {
            **os.environ,
            "SERVER_PORT": str(self.port),
            "UNWIND_DATA_DIR": str(folder),
            "DATABASE_URL": f"sqlite:///{folder / 'unwind.db'}",
            "UNWIND_LOG_LEVEL": "error",
        }
        self.up = asyncio.Event()
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait for the line that says it is ready."""
        self.process = await asyncio.create_subprocess_exec(
            PROGRAM, "serve", env=self.environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert self.process.stdout is not None
        said = b""
        async with asyncio.timeout(PATIENCE):
            while b"ready at" not in said:
                line = await self.process.stdout.readline()
                assert line, f"the server ended before it was ready: {said!r}"
                said += line
        self.up.set()

    async def end(self, how: signal.Signals) -> int:
        """Send it a signal and wait until it is gone; its exit code."""
        assert self.process is not None
        self.up.clear()
        self.process.send_signal(how)
        assert self.process.stdout is not None
        async with asyncio.timeout(PATIENCE):
            await self.process.stdout.read()
            return await self.process.wait()


def body(number: int) -> dict[str, Any]:
    customer, product, quantity, _ = MIX[number % len(MIX)]
    price = 10_000 if customer == "customer-456" else 12.5
    return {"customer_id": customer, "items": [{"product_id": product, "quantity": quantity, "price": price}]}


async def place(client: httpx.AsyncClient, server: Server, number: int) -> str:
    """Place an order, repeating the call with its key until it is accepted; the saga's id."""
    while True:
        await server.up.wait()
        try:
            answer = await client.post(
                "/api/v1/orders", json=body(number), headers={"Idempotency-Key": f"order-{number}"}
            )
        except httpx.TransportError:
            continue
        if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE:
            assert answer.status_code == httpx.codes.ACCEPTED, answer.text
            return str(answer.json()["saga_id"])


async def crash_and_audit(folder: Path, orders: int, kills: int) -> Counter[str]:
    """Place orders under kills; how the sagas ended. Every accepted one must, and the books must agree."""
    server = Server(folder)
    await server.start()
    accepted: dict[int, str] = {}
    numbers = iter(range(orders))
    milestones = [orders * (index + 1) // (kills + 1) for index in range(kills)]
    reached = {milestone: asyncio.Event() for milestone in milestones}
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=10) as client:

        async def customer() -> None:
            for number in numbers:
                accepted[number] = await place(client, server, number)
                if len(accepted) in reached:
                    reached[len(accepted)].set()

        async def killer() -> None:
            for milestone in milestones:
                await reached[milestone].wait()
                assert await server.end(signal.SIGKILL) == -signal.SIGKILL
                await server.start()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(killer())
            for _ in range(CLIENTS):
                tasks.create_task(customer())

        ended: Counter[str] = Counter()
        for number, saga_id in accepted.items():

            async def status(saga_id: str = saga_id) -> str | None:
                saga = (await client.get(f"/api/v1/sagas/{saga_id}")).json()
                return str(saga["status"]) if saga["status"] in {"completed", "compensated"} else None

            how = await eventually(status, within=PATIENCE)
            assert how in MIX[number % len(MIX)][3]
            ended[how] += 1
    assert await server.end(signal.SIGTERM) == 0
    audit = await asyncio.create_subprocess_exec(
        PROGRAM, "audit", env=server.environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    said, _ = await audit.communicate()
    assert audit.returncode == 0, said.decode()
    assert f"{orders} sagas" in said.decode()
    return ended


async def test_every_accepted_order_ends_though_the_server_is_killed(tmp_path: Path) -> None:
    ended = await crash_and_audit(tmp_path, orders=160, kills=3)
    assert ended["completed"] > 0
    assert ended["compensated"] > 0


@pytest.mark.slow
async def test_five_hundred_orders_and_five_kills(tmp_path: Path) -> None:
    ended = await crash_and_audit(tmp_path, orders=500, kills=5)
    assert sum(ended.values()) == 500
