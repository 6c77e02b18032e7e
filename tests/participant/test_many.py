"""Handlers of many commands at once: the same laws, one call for each kind in a batch, alone after a failure."""

import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec import Raw, Struct
from structlog.testing import capture_logs
from tests.participant.many import ManyDesk

from unwind.core.barrier import Answer
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command, Refused
from unwind.errors import DefinitionError, UnavailableError
from unwind.ports import Message, ParticipantStore, ParticipantTransaction
from unwind.runtime.participant import HandlerCall, Participant, TryAgain, answer, open_message
from unwind.stores.memory_barrier import MemoryParticipantStore
from unwind.stores.sqlite.barrier import SQLiteParticipantStore
from unwind.testing.barrier_suite import BarrierSuite, Desk


class TestManyInMemory(BarrierSuite[list[str]]):
    @pytest.fixture
    def store(self) -> ParticipantStore[list[str]]:
        return MemoryParticipantStore([], lambda: 0, clone=list)

    @pytest.fixture
    def desk(self, store: ParticipantStore[list[str]]) -> Desk[list[str]]:
        return ManyDesk(self, store)

    def write(self, tx: list[str], entry: str) -> None:
        tx.append(entry)

    async def ledger(self, store: ParticipantStore[list[str]]) -> list[str]:
        assert isinstance(store, MemoryParticipantStore)
        return list(store.state)


class TestManyInSQLite(BarrierSuite[sqlite3.Connection]):
    @pytest.fixture
    async def store(self, tmp_path: Path) -> AsyncIterator[ParticipantStore[sqlite3.Connection]]:
        store = await SQLiteParticipantStore.open(tmp_path / "file.db", "CREATE TABLE ledger (entry TEXT NOT NULL)")
        yield store
        await store.close()

    @pytest.fixture
    def desk(self, store: ParticipantStore[sqlite3.Connection]) -> Desk[sqlite3.Connection]:
        return ManyDesk(self, store)

    def write(self, tx: sqlite3.Connection, entry: str) -> None:
        tx.execute("INSERT INTO ledger VALUES (?)", (entry,))

    async def ledger(self, store: ParticipantStore[sqlite3.Connection]) -> list[str]:
        assert isinstance(store, SQLiteParticipantStore)
        return await store.read(lambda tx: [entry for (entry,) in tx.execute("SELECT entry FROM ledger")])


class Reserve(Command, frozen=True, tag="inventory.reserve"):
    pass


class Weigh(Command, frozen=True, tag="inventory.weigh"):
    pass


class Release(Command, frozen=True, tag="inventory.release"):
    pass


class Reserved(Struct, frozen=True, tag="inventory.reserved"):
    saga: str


Handler = Callable[[list[str], Sequence[Reserve], Sequence[HandlerCall]], Any]


class Inventory:
    """Counts its calls."""

    def __init__(self, handler: Handler | None = None) -> None:
        self.calls: list[list[str]] = []
        self.store: MemoryParticipantStore[list[str]] = MemoryParticipantStore([], lambda: 0, clone=list)
        self.participant: Participant[list[str]] = Participant("inventory")
        self._reserve = handler or self._write
        self.participant.handles_many(Reserve)(self._noted)
        self.participant.undoes_many(Release)(self._release)
        self.participant.handles(Weigh)(self._weigh)

    async def ask(self, *messages: Message) -> list[Answer | None]:
        return list(await answer(self.store, [open_message(self.participant, each) for each in messages]))

    def _noted(self, tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]) -> Any:
        self.calls.append([call.saga_id for call in calls])
        return self._reserve(tx, commands, calls)

    def _write(
        self, tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]
    ) -> list[Reserved | Refused]:
        answers: list[Reserved | Refused] = []
        for call in calls:
            if call.saga_id.startswith("no"):
                answers.append(Refused("none left"))
            else:
                tx.append(f"{call.saga_id} reserved")
                answers.append(Reserved(call.saga_id))
        return answers

    async def _release(self, tx: list[str], commands: Sequence[Release], calls: Sequence[HandlerCall]) -> None:
        self.calls.append([f"undo {call.saga_id}" for call in calls])
        tx.extend(f"{call.saga_id} released" for call in calls)

    def _weigh(self, tx: list[str], command: Weigh, call: HandlerCall) -> None:
        tx.append(f"{call.saga_id} weighed")


def command(name: str, saga: str) -> Message:
    direction: Direction = "undo" if name == "release" else "do"
    step = "weigh" if name == "weigh" else "reserve"
    return Message(effect_id(saga, step, direction), f"inventory.{name}", Raw(b"{}"), saga, step, direction)


def reserve(saga: str) -> Message:
    return command("reserve", saga)


def outcomes(answers: Sequence[Answer | None]) -> list[str]:
    return [given.outcome for given in answers if given is not None]


async def test_all_commands_of_a_kind_come_in_one_call_whatever_stands_between_them() -> None:
    inventory = Inventory()
    given = await inventory.ask(reserve("a"), command("weigh", "w"), reserve("no"), reserve("b"))
    assert inventory.calls == [["a", "no", "b"]]
    assert outcomes(given) == ["ok", "ok", "refused", "ok"]
    assert inventory.store.state == ["w weighed", "a reserved", "b reserved"]
    assert {key: row.outcome for key, row in inventory.store.rows.items()} == {
        "w/weigh/do": "ok",
        "a/reserve/do": "ok",
        "no/reserve/do": "refused",
        "b/reserve/do": "ok",
    }


async def test_what_concerns_one_step_is_settled_in_order_and_holds_up_no_other() -> None:
    inventory = Inventory()
    release, again = command("release", "a"), reserve("a")
    given = await inventory.ask(reserve("a"), reserve("a"), release, again, reserve("b"), command("release", "c"))
    assert inventory.calls == [["a", "b"], ["undo a"]]
    assert outcomes(given) == ["ok"] * 6
    assert given[0] == given[1] == given[3]
    assert inventory.store.state == ["a reserved", "b reserved", "a released"]


async def test_an_undo_before_its_do_in_one_batch_bars_the_way() -> None:
    inventory = Inventory()
    assert outcomes(await inventory.ask(command("release", "a"), reserve("a"), reserve("b"))) == ["ok", "refused", "ok"]
    assert inventory.calls == [["b"]]
    assert inventory.store.state == ["b reserved"]


async def test_nothing_returned_is_yes_to_all() -> None:
    inventory = Inventory(lambda tx, commands, calls: None)
    assert await inventory.ask(reserve("a"), reserve("b")) == [Answer("ok"), Answer("ok")]


def puts_off_b(tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]) -> list[Reserved | TryAgain]:
    given: list[Reserved | TryAgain] = []
    for call in calls:
        if call.saga_id == "b":
            given.append(TryAgain("the shelf is being counted"))
        else:
            tx.append(call.saga_id)
            given.append(Reserved(call.saga_id))
    return given


async def test_one_that_cannot_be_done_now_is_put_off_alone_and_asked_anew() -> None:
    inventory = Inventory(puts_off_b)
    given = await inventory.ask(reserve("a"), reserve("b"), reserve("c"))
    assert given[1] == Answer("failed", reason="the shelf is being counted")
    assert outcomes(given) == ["ok", "failed", "ok"]
    assert inventory.store.state == ["a", "c"]
    assert sorted(inventory.store.rows) == ["a/reserve/do", "c/reserve/do"]
    inventory._reserve = inventory._write
    assert outcomes(await inventory.ask(reserve("b"), reserve("a"))) == ["ok", "ok"]
    assert inventory.calls == [["a", "b", "c"], ["b"]]


def stumbles_over_b(tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]) -> list[Reserved]:
    tx.extend(call.saga_id for call in calls)
    if "b" in [call.saga_id for call in calls]:
        raise TryAgain("not b")
    return [Reserved(call.saga_id) for call in calls]


def forgets_one_of_several(tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]) -> list[Reserved]:
    tx.extend(call.saga_id for call in calls)
    return [Reserved(call.saga_id) for call in calls][: 1 if len(calls) > 1 else None]


def answers_b_with_nonsense(tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]) -> list[object]:
    tx.extend(call.saga_id for call in calls)
    return [42 if call.saga_id == "b" else Reserved(call.saga_id) for call in calls]


@pytest.mark.parametrize(
    ("handler", "expected"),
    [
        pytest.param(stumbles_over_b, ["ok", "failed", "ok"], id="it raises"),
        pytest.param(forgets_one_of_several, ["ok", "ok", "ok"], id="it answers too few"),
        pytest.param(answers_b_with_nonsense, ["ok", "failed", "ok"], id="it answers nonsense"),
    ],
)
async def test_what_fails_together_is_tried_alone(handler: Handler, expected: list[str]) -> None:
    inventory = Inventory(handler)
    with capture_logs() as logs:
        given = await inventory.ask(reserve("a"), reserve("b"), reserve("c"))
    assert inventory.calls == [["a", "b", "c"], ["a"], ["b"], ["c"]]
    assert outcomes(given) == expected
    assert inventory.store.state == [saga for saga, said in zip("abc", expected, strict=True) if said == "ok"]
    together = [line for line in logs if line["event"] == "handled_one_by_one"]
    assert [(line["command"], line["commands"]) for line in together] == [("inventory.reserve", 3)]


async def test_a_count_that_is_wrong_even_alone_has_failed() -> None:
    inventory = Inventory(lambda tx, commands, calls: [])
    [given] = await inventory.ask(reserve("a"))
    assert given is not None
    assert given.reason == "TypeError: a handler of many returns an answer to each: 1 commands, 0 answers"
    assert inventory.store.rows == {}


async def test_commands_of_many_are_prepared_one_by_one() -> None:
    inventory, asked = Participant[list[str]]("inventory"), []

    async def ask(command: Reserve, call: HandlerCall) -> str:
        asked.append(call.saga_id)
        return f"offer for {call.saga_id}"

    @inventory.handles_many(Reserve, prepare=ask)
    def reserved(tx: list[str], commands: Sequence[Reserve], calls: Sequence[HandlerCall]) -> None:
        tx.extend(str(call.prepared) for call in calls)

    store: MemoryParticipantStore[list[str]] = MemoryParticipantStore([], lambda: 0, clone=list)
    jobs = [open_message(inventory, reserve(saga)) for saga in "ab"]
    assert await answer(store, jobs) == [None, None]
    await jobs[1].prepare()
    assert await answer(store, jobs) == [None, Answer("ok")]
    assert (asked, store.state) == (["b"], ["offer for b"])


def test_a_command_has_one_handler_of_either_kind() -> None:
    inventory = Inventory()
    for declare in (inventory.participant.handles, inventory.participant.undoes_many):
        with pytest.raises(DefinitionError, match="has a handler already"):
            declare(Reserve)


class ReadOnly(MemoryParticipantStore[list[str]]):
    """A database that answers questions and takes nothing: its disk is full, or it stands by."""

    async def transact(self, work: Callable[[ParticipantTransaction[list[str]]], Any]) -> Any:
        async def refusing(tx: ParticipantTransaction[list[str]]) -> Any:
            async def record(_: object) -> None:
                raise sqlite3.OperationalError("attempt to write a readonly database")

            with pytest.MonkeyPatch.context() as patched:
                patched.setattr(type(tx), "record", lambda self, rows: record(rows))
                return await work(tx)

        return await super().transact(refusing)


async def test_a_database_that_only_reads_fails_no_command() -> None:
    desk = Participant[list[str]]("inventory")

    @desk.handles(Reserve)
    def hold(tx: list[str], command: Reserve, call: HandlerCall) -> None:
        tx.append(call.effect_id)

    store = ReadOnly([], lambda: 0, clone=list)
    with pytest.raises(UnavailableError, match="cannot be written to"):
        await answer(store, [open_message(desk, reserve("a")), open_message(desk, reserve("b"))])
    assert store.state == []
