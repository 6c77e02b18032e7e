"""Starts a saga inside the caller's own transaction: it exists exactly when what the caller writes there does.

async with connection.transaction():
    await connection.execute("insert into orders …")
    await start(order_saga, context, key=order_id, conn=connection)
# committed: some worker takes it up at once
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from functools import reduce
from hashlib import sha256
from itertools import takewhile
from typing import Any, TypeVar

import asyncpg
import msgspec
from msgspec import Raw
from msgspec.structs import replace

from unwind.core.codec import fold
from unwind.core.decide import decide
from unwind.core.events import DomainRecorded
from unwind.core.evolve import evolve
from unwind.core.messages import Moment, Start
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.errors import DefinitionError, IdempotencyError, InputError, UnavailableError
from unwind.ports import Unit
from unwind.runtime.engine import Started
from unwind.runtime.instants import micros_of
from unwind.runtime.keys import id_of_key
from unwind.runtime.limits import Limits
from unwind.runtime.unit import Decided, make_unit
from unwind.stores.postgres.batch import Batch, to_json
from unwind.stores.postgres.connections import translated
from unwind.stores.postgres.store import SQL, loaded, write_winners
from unwind.stores.text import storable

C = TypeVar("C")
LIMITS = Limits()


async def start(
    saga: Saga[C],
    context: C,
    *,
    key: str,
    conn: Any,
    request: bytes | None = None,
    correlation_id: str = "",
    traceparent: str = "",
    begin_at: datetime | None = None,
) -> Started:
    """Accept a saga in the open transaction of `conn`, on the database where Unwind has its tables.

    `conn` is an asyncpg connection, or an AsyncConnection or AsyncSession of SQLAlchemy on asyncpg. The saga begins
    when the transaction is committed, or at `begin_at` if that is later, from which its deadline counts too; it was
    never there when the transaction is rolled back. The same key is answered with the
    saga that was accepted first; `request` is what must be the same then, by default the context as JSON.

    Raises IdempotencyError (same key, other request), InputError (context too large, or not to be stored),
    DefinitionError (`on_started` or an attribute raised), RejectedError (the data is refused), UnavailableError
    (repeat the whole transaction), RuntimeError (there is no open transaction). None of them harms the transaction, as
    long as the connection lives.
    """
    message = _opening(saga, context, key, request, correlation_id, traceparent)
    if begin_at is not None:
        message = replace(message, begin_at=micros_of("begin_at", begin_at))
    connection = await _driver_of(conn)
    with translated():
        async with _savepoint(connection):
            state, now = await _stored(connection, message.saga_id)
            created = False
            if state.status == "new":
                state, unit = _first_unit(saga, message, now)
                created = bool((await write_winners(connection, Batch([unit]), None)).won)
                if not created:
                    state, _ = await _stored(connection, message.saga_id)
    if state.status == "new":
        raise UnavailableError("this key is being used by another transaction; repeat this one")
    if state.request_hash != message.request_hash:
        raise IdempotencyError("this key was used for a different request; use a new key")
    return Started(message.saga_id, created, state)


def _opening(  # noqa: PLR0917 - the arguments of `start`
    saga: Saga[Any], context: object, key: str, request: bytes | None, correlation_id: str, traceparent: str
) -> Start:
    if not key or not storable(key):
        raise InputError("give a key of printable text: it tells a repeated start from another one", "key")
    try:
        encoded = msgspec.json.encode(context)
    except (TypeError, ValueError) as error:
        raise InputError(f"the context cannot be stored as JSON: {error}") from error
    if len(encoded) > LIMITS.payload:
        raise InputError(f"the context has {len(encoded)} bytes; at most {LIMITS.payload} are allowed")
    asked = sha256(encoded if request is None else request).hexdigest()
    saga_id = id_of_key(f"start {saga.name}", key)
    return Start(saga_id, Raw(encoded), asked, correlation_id, traceparent, saga.hash)


async def _driver_of(conn: Any) -> asyncpg.Connection:
    """The asyncpg connection, with its transaction begun."""
    connection = conn
    if not isinstance(connection, asyncpg.Connection):
        # Late: who has no SQLAlchemy does not give its connections.
        from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession  # noqa: PLC0415

        if isinstance(connection, AsyncSession):
            connection = await connection.connection()
        if not isinstance(connection, AsyncConnection):
            raise TypeError(f"conn is {type(conn)}; give an asyncpg connection, an AsyncConnection or an AsyncSession")
        # SQLAlchemy puts the beginning of a transaction off until the first statement that goes through it.
        await connection.exec_driver_sql("select")
        connection = (await connection.get_raw_connection()).driver_connection
        if not isinstance(connection, asyncpg.Connection):
            raise TypeError("conn does not use the driver asyncpg; give the engine a URL with postgresql+asyncpg://")
    if not connection.is_in_transaction():
        raise RuntimeError("start needs an open transaction: `async with connection.transaction():`")
    return connection


@asynccontextmanager
async def _savepoint(connection: asyncpg.Connection) -> AsyncIterator[None]:
    """Whatever goes wrong inside leaves the caller's transaction as it was."""
    await connection.execute("savepoint unwind_start")
    done = False
    try:
        yield
        done = True
    finally:
        if not connection.is_closed():
            back = "" if done else "rollback to savepoint unwind_start; "
            await connection.execute(f"{back}release savepoint unwind_start")


async def _stored(connection: asyncpg.Connection, saga_id: str) -> tuple[State, int]:
    """The saga as this transaction sees it, and the database's time."""
    answer = loaded(await connection.fetch(SQL["load"], None, to_json({saga_id: 0}), False))
    stream = answer.streams.get(saga_id)
    return NEW if stream is None else fold(stream.commits), answer.now


def _first_unit(saga: Saga[Any], message: Start, now: int) -> tuple[State, Unit]:
    """Only the acceptance: the first step is begun by the worker whom the wake-up, due at once, comes to."""
    decision = decide(saga, NEW, message, Moment(now, 0.0, ""))
    if decision.verdict == "author_error":
        raise DefinitionError(decision.reason)
    accepted, *later = decision.events
    recorded = list(takewhile(lambda event: isinstance(event, DomainRecorded), later))
    events = [accepted, *recorded]
    records = decision.records[: sum(event.count for event in recorded if isinstance(event, DomainRecorded))]
    state = reduce(evolve, events, NEW)
    return state, make_unit(Decided(saga, NEW, state, events, records, None, False), now, LIMITS.claim_push)
