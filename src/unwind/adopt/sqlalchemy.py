"""The barrier inside of your own transaction on SQLAlchemy's AsyncSession or AsyncConnection.

async with sessions.begin() as session:
    replies = await answer_within(session, inventory, delivery.messages)
# committed: now publish the replies, then acknowledge the delivery
"""

from collections.abc import Mapping, Sequence
from typing import Any, Generic, TypeVar

from msgspec import Raw
from sqlalchemy import CheckConstraint, Column, DateTime, MetaData, Table, Text, func, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession, AsyncSessionTransaction, AsyncTransaction

from unwind.adopt.replies import OVERTAKEN, replies_within
from unwind.core.barrier import Answer
from unwind.errors import UnavailableError
from unwind.ports import Message
from unwind.runtime.participant import Participant

H = TypeVar("H", AsyncSession, AsyncConnection)

metadata = MetaData()
"""For `create_all`, or for your migrations: it has the table `barrier`, and nothing else."""
barrier = Table(
    "barrier",
    metadata,
    Column("effect_id", Text, primary_key=True),
    Column("outcome", Text, CheckConstraint("outcome in ('ok', 'refused')"), nullable=False),
    Column("name", Text, nullable=False),
    Column("reply", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("recorded_at", DateTime(timezone=True), nullable=False, server_default=func.now()),
)
_ANSWERS = select(barrier.c.effect_id, barrier.c.outcome, barrier.c.name, barrier.c.reply, barrier.c.reason)


async def answer_within(handle: H, participant: Participant[H], messages: Sequence[Message]) -> Sequence[Message]:
    """Answer commands in the session's or connection's transaction; publish the replies once it is committed.

    Handlers are called with it. Whatever is raised, roll back. InputError: a message can never be handled, set it
    aside. UnavailableError and SQLAlchemy's own errors: handle the messages again.
    """
    return await replies_within(_Transaction(handle), participant, messages)


class _Transaction(Generic[H]):
    """Implements `ParticipantTransaction`."""

    def __init__(self, handle: H) -> None:
        self.handle: H = handle
        self._savepoint: AsyncSessionTransaction | AsyncTransaction

    async def lookup(self, effect_ids: Sequence[str]) -> Mapping[str, Answer]:
        found = await self.handle.execute(_ANSWERS.where(barrier.c.effect_id.in_(effect_ids)))
        return {key: Answer(outcome, name, Raw(reply.encode()), why) for key, outcome, name, reply, why in found}

    async def record(self, rows: Mapping[str, Answer]) -> None:
        try:
            await self.handle.execute(insert(barrier), [_row(key, rows[key]) for key in sorted(rows)])
        except IntegrityError as error:
            raise UnavailableError(OVERTAKEN) from error

    async def savepoint(self) -> None:
        self._savepoint = await self.handle.begin_nested()

    async def release(self) -> None:
        await self._savepoint.commit()

    async def rollback(self) -> None:
        await self._savepoint.rollback()


def _row(effect_id: str, answer: Answer) -> dict[str, Any]:
    return {
        "effect_id": effect_id,
        "outcome": answer.outcome,
        "name": answer.name,
        "reply": bytes(answer.payload).decode(),
        "reason": answer.reason,
    }
