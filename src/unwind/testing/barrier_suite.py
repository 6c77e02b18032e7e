"""What every participant's database must do: inherit `BarrierSuite`, give it a `store` and a ledger; pytest runs it.

    class TestMyStore(BarrierSuite[MyTransaction]):
        @pytest.fixture
        async def store(self) -> AsyncIterator[ParticipantStore[MyTransaction]]: ...

Needs pytest, pytest-asyncio with asyncio_mode=auto, and hypothesis.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from inspect import isawaitable
from itertools import count, permutations
from typing import Generic, Literal, TypeVar
from uuid import uuid4

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct

from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command, Refusal
from unwind.ports import Message, ParticipantStore, ParticipantTransaction
from unwind.runtime.participant import HandlerCall, Participant, TryAgain, answer, open_message

Tx = TypeVar("Tx")
Outcome = Literal["ok", "refused", "failed", "broken"]
Delivered = tuple[Direction, Outcome]

HOUR = 3_600_000_000
ORDERS = list(permutations(("do", "undo", "do again")))


class Do(Command, frozen=True, tag="suite.do"):
    """Do it, with this outcome."""

    outcome: Outcome = "ok"


class Undo(Command, frozen=True, tag="suite.undo"):
    """Undo it, with this outcome."""

    outcome: Outcome = "ok"


class Done(Struct, frozen=True, tag="suite.done"):
    """Different at each run of a handler: only a stored answer can be the same twice."""

    serial: int


class No(Refusal, frozen=True, tag="suite.no"):
    """Different at each run too."""

    serial: int


def deliveries() -> st.SearchStrategy[list[list[Delivered]]]:
    """Batches of commands for one step of one saga."""
    directions: st.SearchStrategy[Direction] = st.sampled_from(("do", "undo"))
    outcomes: st.SearchStrategy[Outcome] = st.sampled_from(("ok", "refused", "failed"))
    return st.lists(st.lists(st.tuples(directions, outcomes), min_size=1, max_size=4), max_size=6)


class Desk(Generic[Tx]):
    """One step of one saga at a participant."""

    def __init__(
        self,
        suite: "BarrierSuite[Tx]",
        store: ParticipantStore[Tx],
        saga_id: str = "saga",
        *,
        retriable: bool = False,
    ) -> None:
        """Handlers always write to the suite's ledger, and then answer as the command says."""
        self._suite = suite
        self._store = store
        self._saga_id = saga_id
        self._retriable = retriable
        self._serials = count()
        self._participant: Participant[Tx] = Participant("suite")
        self._participant.handles(Do)(self._handle)
        self._participant.undoes(Undo)(self._handle)

    def another(self, saga_id: str, *, retriable: bool = False) -> "Desk[Tx]":
        """The same participant, another saga; `retriable`: it is past its pivot."""
        return Desk(self._suite, self._store, saga_id, retriable=retriable)

    async def give(self, *commands: Delivered) -> list[Answer]:
        """Deliver commands in one batch; their answers."""
        jobs = [open_message(self._participant, self._message(*command)) for command in commands]
        return [given for given in await answer(self._store, jobs) if given is not None]

    async def effects(self) -> list[str]:
        """What the handlers have written for this saga, as committed."""
        entries = [entry.split() for entry in await self._suite.ledger(self._store)]
        return [direction for saga_id, direction in entries if saga_id == self._saga_id]

    async def stored(self) -> dict[Direction, str]:
        """The outcomes in the barrier's rows of this step."""
        ids: dict[Direction, str] = {way: effect_id(self._saga_id, "step", way) for way in ("do", "undo")}

        async def look(tx: ParticipantTransaction[Tx]) -> dict[Direction, str]:
            rows = await tx.lookup(list(ids.values()))
            return {way: rows[key].outcome for way, key in ids.items() if key in rows}

        return await self._store.transact(look)

    def _message(self, direction: Direction, outcome: Outcome) -> Message:
        payload = Raw(msgspec.json.encode(Do(outcome) if direction == "do" else Undo(outcome)))
        key = effect_id(self._saga_id, "step", direction)
        name = f"suite.{direction}"
        return Message(key, name, payload, self._saga_id, "step", direction, retriable=self._retriable)

    async def _handle(self, tx: Tx, command: Do | Undo, call: HandlerCall) -> Done | No:
        written = self._suite.write(tx, f"{call.saga_id} {call.direction}")
        if isawaitable(written):
            await written
        match command.outcome:
            case "ok":
                return Done(next(self._serials))
            case "refused":
                return No("no", next(self._serials))
            case "failed":
                raise TryAgain("not now")
            case "broken":
                raise ZeroDivisionError("a bug")


class BarrierSuite(Generic[Tx]):
    """Laws of the port `ParticipantStore` together with the rules of `unwind.core.barrier`."""

    @pytest.fixture
    def store(self) -> ParticipantStore[Tx]:
        """The empty database under test; closed afterwards."""
        raise NotImplementedError

    def write(self, tx: Tx, entry: str) -> Awaitable[None] | None:
        """Append an entry to a ledger in the database."""
        raise NotImplementedError

    async def ledger(self, store: ParticipantStore[Tx]) -> list[str]:
        """The committed entries in order."""
        raise NotImplementedError

    @pytest.fixture
    def desk(self, store: ParticipantStore[Tx]) -> Desk[Tx]:
        """Where commands are given."""
        return Desk(self, store)

    async def test_a_repeated_do_gets_the_stored_answer(self, desk: Desk[Tx]) -> None:
        first, again = await desk.give(("do", "ok")), await desk.give(("do", "ok"))
        assert first == again
        assert first[0].outcome == "ok"
        assert await desk.effects() == ["do"]

    async def test_repetitions_in_one_batch_get_the_stored_answer(self, desk: Desk[Tx]) -> None:
        dos: list[Delivered] = [("do", "ok")] * 3
        undos: list[Delivered] = [("undo", "ok")] * 3
        answers = await desk.give(*dos, *undos)
        assert answers == [answers[0]] * 3 + [answers[3]] * 3
        assert await desk.effects() == ["do", "undo"]

    async def test_repetitions_while_the_first_is_in_progress_get_its_answer(self, desk: Desk[Tx]) -> None:
        answers = await asyncio.gather(*(desk.give(("do", "ok")) for _ in range(5)))
        assert answers == [answers[0]] * 5
        assert await desk.effects() == ["do"]

    async def test_a_refused_do_stays_refused_and_leaves_nothing(self, desk: Desk[Tx]) -> None:
        first, again = await desk.give(("do", "refused")), await desk.give(("do", "ok"))
        assert first == again
        assert (first[0].outcome, first[0].name, first[0].reason) == ("refused", "suite.no", "no")
        assert await desk.effects() == []

    @pytest.mark.parametrize("outcome", ["failed", "broken"])
    async def test_a_failed_do_leaves_nothing_and_is_done_anew(self, desk: Desk[Tx], outcome: Outcome) -> None:
        [failed] = await desk.give(("do", outcome))
        assert failed.outcome == "failed"
        assert failed.reason == {"failed": "not now", "broken": "ZeroDivisionError: a bug"}[outcome]
        assert await desk.stored() == {}
        assert [given.outcome for given in await desk.give(("do", "ok"))] == ["ok"]
        assert await desk.effects() == ["do"]

    async def test_a_do_refused_past_the_pivot_is_asked_anew(self, desk: Desk[Tx]) -> None:
        onward = desk.another("saga", retriable=True)
        assert [given.outcome for given in await onward.give(("do", "refused"))] == ["refused"]
        assert await onward.stored() == {}
        assert [given.outcome for given in await onward.give(("do", "ok"))] == ["ok"]
        assert await onward.effects() == ["do"]

    async def test_an_undo_that_was_refused_or_failed_is_asked_anew(self, desk: Desk[Tx]) -> None:
        await desk.give(("do", "ok"))
        for outcome in ("refused", "failed", "broken"):
            await desk.give(("undo", outcome))
            assert await desk.stored() == {"do": "ok"}
            assert await desk.effects() == ["do"]
        [undone] = await desk.give(("undo", "ok"))
        assert undone.outcome == "ok"
        assert await desk.effects() == ["do", "undo"]

    async def test_an_undo_of_a_refused_do_does_nothing_and_is_ok(self, desk: Desk[Tx]) -> None:
        await desk.give(("do", "refused"))
        assert [given.outcome for given in await desk.give(("undo", "ok"))] == ["ok"]
        assert await desk.stored() == {"do": "refused", "undo": "ok"}
        assert await desk.effects() == []

    async def test_an_undo_before_its_do_is_ok_and_bars_the_way_to_it(self, desk: Desk[Tx]) -> None:
        assert [given.outcome for given in await desk.give(("undo", "refused"))] == ["ok"]
        [late] = await desk.give(("do", "ok"))
        assert (late.outcome, late.name, late.reason) == ("refused", "refused", "it was undone before it arrived")
        assert await desk.effects() == []

    @pytest.mark.parametrize("order", ORDERS, ids=", ".join)
    @pytest.mark.parametrize("together", [True, False], ids=["one batch", "batch by batch"])
    async def test_do_undo_and_a_repeated_do_leave_nothing_in_any_order(
        self, desk: Desk[Tx], order: Sequence[str], together: bool
    ) -> None:
        commands: list[Delivered] = [("undo" if name == "undo" else "do", "ok") for name in order]
        batches = [commands] if together else [[command] for command in commands]
        for batch in batches:
            await desk.give(*batch)
        assert await desk.effects() in ([], ["do", "undo"])
        assert set(await desk.stored()) == {"do", "undo"}

    async def test_do_and_undo_at_the_same_time_leave_nothing(self, desk: Desk[Tx]) -> None:
        for number in range(10):
            here = desk.another(f"saga-{number}")
            commands: list[Delivered] = [("do", "ok"), ("undo", "ok"), ("do", "ok")]
            await asyncio.gather(*(here.give(command) for command in commands[number % 2 :] + commands[: number % 2]))
            await here.give(("undo", "ok"))
            assert await here.effects() in ([], ["do", "undo"])

    async def test_a_failure_takes_back_its_own_writes_only(self, desk: Desk[Tx]) -> None:
        outcomes: list[Outcome] = ["ok", "failed", "refused", "broken", "ok"]
        desks = [desk.another(f"saga-{number}") for number in range(len(outcomes))]
        jobs = [await one.give(("do", outcome)) for one, outcome in zip(desks, outcomes, strict=True)]
        assert [given.outcome for [given] in jobs] == ["ok", "failed", "refused", "failed", "ok"]
        assert [await one.effects() for one in desks] == [["do"], [], [], [], ["do"]]

    async def test_a_transaction_that_does_not_end_leaves_nothing(
        self, desk: Desk[Tx], store: ParticipantStore[Tx]
    ) -> None:
        async def crash(tx: ParticipantTransaction[Tx]) -> None:
            await tx.savepoint()
            written = self.write(tx.handle, "saga do")
            if isawaitable(written):
                await written
            await tx.release()
            await tx.record({effect_id("saga", "step", "do"): Answer("ok")})
            raise KeyError("crash before the commit")

        with pytest.raises(KeyError):
            await store.transact(crash)
        assert await desk.effects() == []
        assert await desk.stored() == {}
        assert [given.outcome for given in await desk.give(("do", "ok"))] == ["ok"]

    async def test_an_answer_cannot_be_stored_twice(self, desk: Desk[Tx], store: ParticipantStore[Tx]) -> None:
        async def record(tx: ParticipantTransaction[Tx]) -> None:
            await tx.record({effect_id("saga", "step", "do"): Answer("refused")})

        await desk.give(("do", "ok"))
        with pytest.raises(Exception, match=r"(?i)stored already|unique"):
            await store.transact(record)
        assert await desk.stored() == {"do": "ok"}

    async def test_old_answers_can_be_forgotten(self, desk: Desk[Tx], store: ParticipantStore[Tx]) -> None:
        await desk.give(("do", "ok"), ("undo", "ok"))
        assert await store.purge(HOUR) == 0
        assert await desk.stored() == {"do": "ok", "undo": "ok"}
        assert await store.purge(-HOUR) == 2
        assert await desk.stored() == {}

    @settings(
        max_examples=100,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
    )
    @given(batches=deliveries())
    async def test_whatever_comes_there_is_one_do_and_after_it_one_undo_at_most(
        self, desk: Desk[Tx], batches: list[list[Delivered]]
    ) -> None:
        here = desk.another(uuid4().hex)
        given: dict[Direction, Answer] = {}
        for batch in batches:
            for (direction, _), said in zip(batch, await here.give(*batch), strict=True):
                settled = said.outcome == "ok" or (said.outcome == "refused" and direction == "do")
                assert said == given.get(direction, said), "an answer was changed"
                if settled:
                    given[direction] = said
            effects = await here.effects()
            assert effects in ([], ["do"], ["do", "undo"])
            assert await here.stored() == {way: said.outcome for way, said in given.items()} | (
                {"do": "refused"} if "undo" in given and effects == [] else {}
            )
            if "undo" in given:
                assert effects != ["do"], "said to be undone, and is not"
