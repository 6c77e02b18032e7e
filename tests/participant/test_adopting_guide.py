"""docs/adopting.md: each driver's section, run as it stands there, against the real thing."""

import asyncio
import re
import sqlite3
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest
from msgspec import Raw
from sqlalchemy import text
from sqlalchemy.ext.asyncio import async_sessionmaker, create_async_engine

from unwind.adopt import asyncpg as on_asyncpg
from unwind.adopt import sqlalchemy as on_sqlalchemy
from unwind.adopt import sqlite as on_sqlite
from unwind.buses.memory import MemoryBus
from unwind.core.messages import Direction, effect_id
from unwind.ports import COMMANDS, REPLIES, Message
from unwind.runtime.clock import SystemClock

GUIDE = (Path(__file__).parents[2] / "docs" / "adopting.md").read_text("utf-8")
TABLE = "create table reservations (seat text primary key, saga_id text not null)"


def section(title: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The shared code and that of a section, as a module."""
    parts = re.split(r"^## ", GUIDE, flags=re.MULTILINE)
    [chosen] = [part for part in parts if part.startswith(f"{title}\n")]
    blocks = [
        *re.findall(r"```python\n(.*?)```", parts[0], re.DOTALL),
        *re.findall(r"```python\n(.*?)```", chosen, re.DOTALL),
    ]
    assert len(blocks) == 2
    module = ModuleType("guide")
    monkeypatch.setitem(sys.modules, "guide", module)  # annotations are looked up there
    exec("".join(blocks), vars(module))  # noqa: S102 - it is ours
    return module


def message(name: str, saga: str) -> Message:
    direction: Direction = "undo" if name == "free" else "do"
    payload = Raw(b'{"seat":"12A"}')
    return Message(effect_id(saga, "seat", direction), f"seats.{name}", payload, saga, "seat", direction)


async def converse(serve: Callable[[Any, Any], Awaitable[None]], database: object) -> None:
    """What happens to one seat that several want."""
    bus = MemoryBus(SystemClock())
    replies = await bus.subscribe(REPLIES, "engine")
    serving = asyncio.ensure_future(serve(database, bus))
    said = []
    for asked in ("reserve a", "reserve b", "reserve a", "free a", "free c", "reserve c", "reserve d"):
        await bus.publish(f"{COMMANDS}seats", [message(*asked.split())])
        fetched = asyncio.ensure_future(replies.fetch(1))
        await asyncio.wait([serving, fetched], return_when=asyncio.FIRST_COMPLETED)
        [delivery] = await fetched
        said += [(asked, reply.outcome) for reply in delivery.messages]
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    await bus.close()
    assert said == [
        ("reserve a", "ok"),
        ("reserve b", "refused"),
        ("reserve a", "ok"),
        ("free a", "ok"),
        ("free c", "ok"),
        ("reserve c", "refused"),
        ("reserve d", "ok"),
    ]


@pytest.mark.integration
async def test_asyncpg(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = section("asyncpg", monkeypatch)
    async with asyncpg.create_pool(postgres_url, min_size=1) as pool:
        await pool.execute(f"{TABLE}; {on_asyncpg.TABLES}")
        await converse(guide.serve, pool)
        assert await pool.fetchval("select saga_id from reservations") == "d"


@pytest.mark.integration
async def test_sqlalchemy(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = section("SQLAlchemy", monkeypatch)
    engine = create_async_engine(urlsplit(postgres_url)._replace(scheme="postgresql+asyncpg", query="").geturl())
    async with engine.begin() as connection:
        await connection.run_sync(guide.Base.metadata.create_all)
        await connection.run_sync(on_sqlalchemy.metadata.create_all)
    await converse(guide.serve, async_sessionmaker(engine))
    async with engine.connect() as connection:
        assert (await connection.execute(text("select saga_id from reservations"))).scalars().all() == ["d"]
    await engine.dispose()


async def test_sqlite3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = section("sqlite3", monkeypatch)
    connection = sqlite3.connect(tmp_path / "seats.db")
    connection.executescript(f"{TABLE}; {on_sqlite.TABLES}")
    await converse(guide.serve, connection)
    assert connection.execute("select saga_id from reservations").fetchall() == [("d",)]
    connection.close()
