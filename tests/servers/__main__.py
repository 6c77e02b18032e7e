"""Runs the servers that several processes need, on the loopback, until Ctrl-C; what they hold is thrown away then."""

import asyncio
import signal
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from tests.servers import nats, postgres, valkey
from tests.servers.process import NoServerError

DATABASES = {
    "DATABASE_URL": "unwind",
    "INVENTORY_DATABASE_URL": "inventory",
    "PAYMENT_DATABASE_URL": "payment",
    "SHIPMENT_DATABASE_URL": "shipment",
}
_STOPS = (signal.SIGINT, signal.SIGTERM)


async def make_databases(url: str) -> None:
    """Empty ones, one for each variable."""
    connection = await asyncpg.connect(url)
    try:
        for name in DATABASES.values():
            await connection.execute(f"create database {name}")
    finally:
        await connection.close()


def stop(number: int, frame: object) -> None:
    """End the process in order; a second signal does not break that off."""
    for each in _STOPS:
        signal.signal(each, signal.SIG_IGN)
    raise SystemExit(0)


def main() -> None:
    """Start them, say how they are reached, and wait."""
    for number in _STOPS:
        signal.signal(number, stop)
    with TemporaryDirectory(prefix="unwind-servers-") as place, ExitStack() as stack:
        folder = Path(place)
        database = stack.enter_context(postgres.running(folder / "postgres"))
        bus = stack.enter_context(nats.running(folder / "nats"))
        cache = stack.enter_context(valkey.running(folder / "valkey"))
        asyncio.run(make_databases(database.url()))
        for variable, name in DATABASES.items():
            print(f"export {variable}='{database.url(name)}'")
        print(f"export NATS_URL={bus.url} REDIS_ADDR={cache.address}")
        print(
            "# Paste these lines into each terminal. Ctrl-C ends the servers, and what they hold is gone.", flush=True
        )
        while True:
            signal.pause()


if __name__ == "__main__":
    try:
        main()
    except NoServerError as error:
        raise SystemExit(f"servers: {error}") from error
