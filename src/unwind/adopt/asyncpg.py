"""The barrier inside of your own transaction on an asyncpg connection.

async with connection.transaction():
    replies = await answer_within(connection, inventory, delivery.messages)
# committed: now publish the replies, then acknowledge the delivery
"""

from collections.abc import Mapping, Sequence

import asyncpg
from asyncpg.pool import PoolConnectionProxy

from unwind.adopt.replies import OVERTAKEN, replies_within
from unwind.core.barrier import Answer
from unwind.errors import UnavailableError
from unwind.ports import Message
from unwind.runtime.participant import Participant
from unwind.stores.postgres.barrier import SQL, PostgresTransaction

TABLES = SQL["schema"]
"""SQL for your migrations: the table `barrier` and its index, unless they are there."""


async def answer_within(
    connection: asyncpg.Connection | PoolConnectionProxy,
    participant: Participant[asyncpg.Connection],
    messages: Sequence[Message],
) -> Sequence[Message]:
    """Answer commands in the connection's open transaction; publish the replies once it is committed.

    Handlers are called with the connection. Whatever is raised, roll back. InputError: a message can never be handled,
    set it aside. UnavailableError and asyncpg's own errors: handle the messages again. RuntimeError: there is no
    transaction, or a handler ended it.
    """
    if not connection.is_in_transaction():
        raise RuntimeError("answer_within needs an open transaction: `async with connection.transaction():`")
    tx = _Transaction(connection)
    replies = await replies_within(tx, participant, messages)
    await tx.finish()
    return replies


class _Transaction(PostgresTransaction):
    async def record(self, rows: Mapping[str, Answer]) -> None:
        try:
            await super().record(rows)
        except asyncpg.UniqueViolationError as error:
            raise UnavailableError(OVERTAKEN) from error
