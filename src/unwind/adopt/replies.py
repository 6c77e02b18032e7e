"""What all drivers share: messages in, answered by the participant's handlers in an open transaction, replies out."""

from collections.abc import Sequence
from typing import Any

from unwind.errors import DefinitionError
from unwind.ports import Message, ParticipantTransaction
from unwind.runtime.participant import Participant, answer_within, open_message

OVERTAKEN = "one of these commands was answered elsewhere meanwhile; roll back, and handle the messages again"


async def replies_within(
    tx: ParticipantTransaction[Any], participant: Participant[Any], messages: Sequence[Message]
) -> Sequence[Message]:
    """The replies, in the order of the messages.

    Raises InputError (poison) and DefinitionError before anything is written.
    """
    jobs = [open_message(participant, message) for message in messages]
    for job in jobs:
        if job.route.prepare is not None:
            raise DefinitionError(
                f"participant {participant.service}, command {job.route.command.__name__}: nothing can be prepared "
                "inside of a transaction; ask outside before you open it"
            )
    answers = await answer_within(tx, jobs)
    return [job.reply(given) for job, given in zip(jobs, answers, strict=True) if given is not None]
