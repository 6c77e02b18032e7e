"""The laws of the barrier, kept by handlers of many: the suite's desk with the other kind of declaration."""

from collections.abc import Sequence
from inspect import isawaitable
from itertools import count
from typing import TypeVar

from unwind.ports import ParticipantStore
from unwind.runtime.participant import HandlerCall, Participant, TryAgain
from unwind.testing.barrier_suite import BarrierSuite, Desk, Do, Done, No, Undo

Tx = TypeVar("Tx")


class ManyDesk(Desk[Tx]):
    """Commands are handled together. As such handlers must, they write nothing for what they refuse."""

    def __init__(
        self, suite: BarrierSuite[Tx], store: ParticipantStore[Tx], saga_id: str = "saga", *, retriable: bool = False
    ) -> None:
        super().__init__(suite, store, saga_id, retriable=retriable)
        self._serials = count()
        self._participant: Participant[Tx] = Participant("suite")
        self._participant.handles_many(Do)(self._handle_many)
        self._participant.undoes_many(Undo)(self._handle_many)

    def another(self, saga_id: str, *, retriable: bool = False) -> "ManyDesk[Tx]":
        return ManyDesk(self._suite, self._store, saga_id, retriable=retriable)

    async def _handle_many(
        self, tx: Tx, commands: Sequence[Do | Undo], calls: Sequence[HandlerCall]
    ) -> Sequence[Done | No]:
        answers: list[Done | No] = []
        for command, call in zip(commands, calls, strict=True):
            if command.outcome == "refused":
                answers.append(No("no", next(self._serials)))
                continue
            written = self._suite.write(tx, f"{call.saga_id} {call.direction}")
            if isawaitable(written):
                await written
            if command.outcome == "failed":
                raise TryAgain("not now")
            if command.outcome == "broken":
                raise ZeroDivisionError("a bug")
            answers.append(Done(next(self._serials)))
        return answers
