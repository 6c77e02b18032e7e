"""The barrier inside of your own transaction on a connection of Python's sqlite3.

with connection:
    connection.execute("BEGIN IMMEDIATE")
    replies = answer_within(connection, inventory, delivery.messages)
# committed: now publish the replies, then acknowledge the delivery
"""

import sqlite3
from collections.abc import Sequence

from unwind.adopt.replies import replies_within
from unwind.ports import Message
from unwind.runtime.participant import Participant
from unwind.stores.inline import run_inline
from unwind.stores.sqlite.barrier import SQL, SQLiteTransaction

TABLES = SQL["schema"]
"""SQL for your migrations: the table `barrier`, unless it is there."""


def answer_within(
    connection: sqlite3.Connection, participant: Participant[sqlite3.Connection], messages: Sequence[Message]
) -> Sequence[Message]:
    """Answer commands in the connection's open transaction; publish the replies once it is committed.

    Handlers are called with the connection, and must not wait for anything. Whatever is raised, roll back.
    InputError: a message can never be handled, set it aside. sqlite3's own errors: handle the messages again.
    RuntimeError: there is no transaction, or a handler waited.
    """
    if not connection.in_transaction:
        raise RuntimeError('answer_within needs an open transaction: connection.execute("BEGIN IMMEDIATE")')
    return run_inline(replies_within(SQLiteTransaction(connection), participant, messages))
