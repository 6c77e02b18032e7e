"""A participant's service: what it does with commands from the bus, and what it survives."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any

import pytest
from msgspec import Raw, Struct
from msgspec.structs import replace
from structlog.testing import capture_logs

from unwind.buses.memory import ACK_WAIT, MemoryBus
from unwind.core.messages import Direction, effect_id
from unwind.core.steps import Command, Refusal, Refused
from unwind.errors import UnavailableError
from unwind.ports import COMMANDS, DEAD, REPLIES, Bus, Delivery, Message, ParticipantTransaction, Subscription
from unwind.runtime.participant import HandlerCall, Participant, TryAgain
from unwind.runtime.participant_service import PAUSE, ParticipantService, ServiceLimits
from unwind.stores.memory_barrier import MemoryParticipantStore
from unwind.testing.manual_clock import ManualClock

Ledger = list[str]


class Reserve(Command, frozen=True, tag="inventory.reserve"):
    how: str = "ok"


class Release(Command, frozen=True, tag="inventory.release"):
    pass


class Ask(Command, frozen=True, tag="inventory.ask"):
    pass


class Reserved(Struct, frozen=True, tag="inventory.reserved"):
    saga: str


class Carrier:
    """What is asked before a transaction: it answers when the test lets it."""

    def __init__(self) -> None:
        self.asked: list[HandlerCall] = []
        self.gate = asyncio.Event()
        self.called = asyncio.Condition()
        self.error: Exception | None = None

    async def ask(self, command: Ask, call: HandlerCall) -> str:
        async with self.called:
            self.asked.append(call)
            self.called.notify_all()
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return f"offer {len(self.asked)}"

    async def until_asked(self, times: int) -> None:
        async with self.called:
            await self.called.wait_for(lambda: len(self.asked) >= times)


class Desk:
    """A participant, its database, and the other end of the bus."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.bus = MemoryBus(self.clock)
        self.store: MemoryParticipantStore[Ledger] = MemoryParticipantStore([], lambda: 0, clone=list)
        self.carrier = Carrier()
        self.work: Counter[str] = Counter()
        self.participant: Participant[Ledger] = Participant("inventory")
        self.participant.handles(Reserve)(self._reserve)
        self.participant.undoes(Release)(self._release)
        self.participant.handles(Ask, prepare=self.carrier.ask)(self._ask)
        self.replies: Subscription

    async def open(self) -> "Desk":
        self.replies = await self.bus.subscribe(REPLIES, "engine")
        return self

    def service(self, bus: Bus | None = None, **limits: Any) -> ParticipantService:
        own = ServiceLimits(**limits)
        return ParticipantService(self.participant, bus or self.bus, self.store, self.clock, own, self.work)

    async def send(self, *messages: Message) -> None:
        await self.bus.publish(f"{COMMANDS}inventory", messages)

    async def reply(self) -> Delivery:
        deliveries = await self.replies.fetch(1)
        await self.replies.ack(deliveries)
        return deliveries[0]

    async def outcomes(self) -> list[tuple[str, str]]:
        return [(message.saga_id, message.outcome) for message in (await self.reply()).messages]

    async def dead_letters(self) -> list[Message]:
        people = await self.bus.subscribe(f"{DEAD}{COMMANDS}inventory", "people")
        return [message for delivery in await people.fetch(10) for message in delivery.messages]

    async def _reserve(self, tx: Ledger, command: Reserve, call: HandlerCall) -> Reserved | Refusal:
        tx.append(f"{call.saga_id} reserved")
        if command.how == "refuse":
            return Refused("none left")
        if command.how == "fail":
            raise TryAgain("later")
        if command.how == "wait":
            await asyncio.sleep(0)  # not allowed in a transaction: it breaks the whole of it
        return Reserved(call.saga_id)

    def _release(self, tx: Ledger, command: Release, call: HandlerCall) -> None:
        tx.append(f"{call.saga_id} released")

    def _ask(self, tx: Ledger, command: Ask, call: HandlerCall) -> Reserved:
        tx.append(f"{call.saga_id} {call.prepared}")
        return Reserved(str(call.prepared))


def command(name: str, saga: str, payload: bytes = b"{}", direction: Direction = "do", attempt: int = 1) -> Message:
    key = effect_id(saga, "step", direction)
    return Message(key, f"inventory.{name}", Raw(payload), saga, "step", direction, attempt, correlation_id="cart")


def reserve(saga: str, how: str = "ok") -> Message:
    return command("reserve", saga, f'{{"how":"{how}"}}'.encode())


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    desk = await Desk().open()
    yield desk
    await desk.bus.close()


@pytest.fixture
async def service(desk: Desk) -> AsyncIterator[ParticipantService]:
    service = desk.service()
    await service.start()
    yield service
    await service.stop()


async def turns(count: int = 10) -> None:
    """Let the others run as long as they can without anything from outside."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_the_replies_of_a_batch_are_one_publication(desk: Desk, service: ParticipantService) -> None:
    await desk.send(reserve("a"), reserve("b", "refuse"), reserve("c", "fail"))
    await desk.send(command("release", "d", direction="undo"))
    delivery = await desk.reply()
    assert [(m.saga_id, m.direction, m.outcome, m.name, m.reason) for m in delivery.messages] == [
        ("a", "do", "ok", "inventory.reserved", ""),
        ("b", "do", "refused", "refused", "none left"),
        ("c", "do", "failed", "", "later"),
        ("d", "undo", "ok", "", ""),
    ]
    assert {m.correlation_id for m in delivery.messages} == {"cart"}
    assert desk.store.state == ["a reserved"]


async def test_handled_commands_are_acknowledged(desk: Desk, service: ParticipantService) -> None:
    await desk.send(reserve("a"))
    await desk.reply()
    await asyncio.sleep(0)
    desk.clock.advance(ACK_WAIT)
    await desk.send(reserve("b"))
    assert await desk.outcomes() == [("b", "ok")]


async def test_a_repeated_command_is_answered_again_and_not_done_again(desk: Desk, service: ParticipantService) -> None:
    await desk.send(reserve("a"))
    first = await desk.reply()
    await desk.send(reserve("a", "refuse"))
    assert (await desk.reply()).messages == first.messages
    assert desk.store.state == ["a reserved"]


async def test_poison_is_set_aside_and_holds_up_nobody(desk: Desk, service: ParticipantService) -> None:
    poison = [command("recount", "a"), reserve("b", '"'), Message("", "inventory.reserve", Raw(b"{}"))]
    await desk.send(*poison)
    await desk.send(poison[0], reserve("c"))
    assert await desk.outcomes() == [("c", "ok")]
    await asyncio.sleep(0)
    desk.clock.advance(ACK_WAIT)
    await desk.send(reserve("d"))
    assert await desk.outcomes() == [("d", "ok")]
    letters = await desk.dead_letters()
    assert [replace(letter, reason="") for letter in letters] == [*poison, poison[0]]
    assert "no handler for 'inventory.recount'" in letters[0].reason


async def test_a_command_that_breaks_the_transaction_is_told_from_its_neighbours(
    desk: Desk, service: ParticipantService
) -> None:
    await desk.send(reserve("a"), reserve("b", "wait"), reserve("c"))
    delivery = await desk.reply()
    assert [(m.saga_id, m.outcome) for m in delivery.messages] == [("a", "ok"), ("b", "failed"), ("c", "ok")]
    assert "prepare" in delivery.messages[1].reason
    assert desk.store.state == ["a reserved", "c reserved"]


class Trace:
    """Writes down when a transaction is committed, a publication sent, a delivery acknowledged."""

    def __init__(self, desk: Desk) -> None:
        self.events: list[str] = []
        self._bus = desk.bus
        store, transact = desk.store, desk.store.transact

        async def committed(work: Callable[[ParticipantTransaction[Ledger]], Coroutine[Any, Any, Any]]) -> Any:
            result = await transact(work)
            self.events.append("commit")
            return result

        store.transact = committed  # type: ignore[method-assign]

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self.events.append("publish")
        await self._bus.publish(topic, messages)

    async def subscribe(self, topic: str, group: str) -> Subscription:
        subscription = await self._bus.subscribe(topic, group)
        ack = subscription.ack

        async def acknowledged(deliveries: Sequence[Delivery]) -> None:
            self.events.append("ack")
            await ack(deliveries)

        subscription.ack = acknowledged  # type: ignore[method-assign]
        return subscription

    async def close(self) -> None:
        await self._bus.close()


async def test_a_batch_is_committed_then_answered_then_acknowledged(desk: Desk) -> None:
    trace = Trace(desk)
    service = desk.service(trace)
    await service.start()
    await desk.send(reserve("a"), reserve("b"))
    await desk.send(reserve("c"))
    await desk.reply()
    await service.stop()
    assert trace.events == ["commit", "publish", "ack"]


class Unreliable:
    """A bus whose next calls fail as often as it is told."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self.failing: dict[str, int] = {}

    def _fail(self, what: str) -> None:
        if self.failing.get(what):
            self.failing[what] -= 1
            raise UnavailableError(f"{what}: the bus is down")

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        self._fail("publish")
        await self._bus.publish(topic, messages)

    async def subscribe(self, topic: str, group: str) -> Subscription:
        below = await self._bus.subscribe(topic, group)
        outer = self

        class Shaky:
            async def fetch(self, limit: int) -> Sequence[Delivery]:
                outer._fail("fetch")
                return await below.fetch(limit)

            async def ack(self, deliveries: Sequence[Delivery]) -> None:
                outer._fail("ack")
                await below.ack(deliveries)

            async def nack(self, deliveries: Sequence[Delivery]) -> None:
                outer._fail("nack")
                await below.nack(deliveries)

            async def close(self) -> None:
                await below.close()

        return Shaky()

    async def close(self) -> None:
        await self._bus.close()


@pytest.mark.parametrize(
    ("failing", "wait"),
    [
        pytest.param({"fetch": 1}, PAUSE, id="fetching"),
        pytest.param({"publish": 1}, PAUSE, id="replying"),
        pytest.param({"publish": 1, "nack": 1}, PAUSE + ACK_WAIT, id="replying, and asking again"),
    ],
)
async def test_a_bus_that_fails_costs_time_and_no_reply(desk: Desk, failing: dict[str, int], wait: int) -> None:
    bus = Unreliable(desk.bus)
    bus.failing = failing
    service = desk.service(bus)
    await service.start()
    await desk.send(reserve("a"))
    reply = asyncio.create_task(desk.outcomes())
    waited = 0
    while not reply.done():
        desk.clock.advance(PAUSE)
        waited += PAUSE
        await turns()
    assert waited <= wait + PAUSE
    assert await reply == [("a", "ok")]
    assert desk.store.state == ["a reserved"]
    assert not any(bus.failing.values())
    await service.stop()


async def test_poison_that_cannot_be_set_aside_now_comes_again(desk: Desk) -> None:
    bus = Unreliable(desk.bus)
    bus.failing = {"publish": 1}
    service = desk.service(bus)
    await service.start()
    await desk.send(command("recount", "a"))
    await turns()
    assert not any(bus.failing.values())
    desk.clock.advance(ACK_WAIT)
    [letter] = await desk.dead_letters()
    assert letter.saga_id == "a"
    await service.stop()


async def test_an_acknowledgement_that_fails_brings_the_command_again_and_the_same_answer(desk: Desk) -> None:
    bus = Unreliable(desk.bus)
    bus.failing = {"ack": 1}
    service = desk.service(bus)
    await service.start()
    await desk.send(reserve("a"))
    first = await desk.reply()
    await turns()
    assert not bus.failing["ack"]
    desk.clock.advance(ACK_WAIT)
    assert (await desk.reply()).messages == first.messages
    assert desk.work == {"commands": 2, "commands_repeated": 1}
    await service.stop()


async def test_what_is_being_prepared_does_not_hold_up_others(desk: Desk, service: ParticipantService) -> None:
    await desk.send(command("ask", "slow"), reserve("quick"))
    assert await desk.outcomes() == [("quick", "ok")]
    await desk.carrier.until_asked(1)
    await desk.send(reserve("next"))
    assert await desk.outcomes() == [("next", "ok")]
    desk.carrier.gate.set()
    [message] = (await desk.reply()).messages
    assert bytes(message.payload) == b'{"type":"inventory.reserved","saga":"offer 1"}'
    assert desk.store.state == ["quick reserved", "next reserved", "slow offer 1"]


async def test_a_delivery_is_acknowledged_when_its_last_command_is_prepared_and_done(desk: Desk) -> None:
    service = desk.service()
    running = asyncio.create_task(service.run())
    await desk.send(command("ask", "slow"), reserve("quick"))
    await desk.reply()
    await desk.carrier.until_asked(1)
    running.cancel()  # a crash: what was in preparation is lost
    await asyncio.gather(running, return_exceptions=True)
    desk.clock.advance(ACK_WAIT)
    desk.carrier.gate.set()
    async with asyncio.TaskGroup() as tasks:
        again = desk.service()
        other = tasks.create_task(again.run())
        assert await desk.outcomes() == [("quick", "ok")]
        assert await desk.outcomes() == [("slow", "ok")]
        await again.stop()
    assert other.done()


async def test_so_many_are_prepared_at_the_same_time_and_no_more(desk: Desk) -> None:
    service = desk.service(preparing=3)
    await service.start()
    await desk.send(*(command("ask", str(number)) for number in range(5)))
    await desk.carrier.until_asked(3)
    await turns()
    assert len(desk.carrier.asked) == 3
    desk.carrier.gate.set()
    seen: list[tuple[str, str]] = []
    while len(seen) < 5:
        seen += await desk.outcomes()
    assert sorted(seen) == [(str(number), "ok") for number in range(5)]
    await service.stop()


async def test_what_finds_no_place_to_be_prepared_comes_again(desk: Desk) -> None:
    service = desk.service(waiting=1)
    await service.start()
    await desk.send(command("ask", "first"))
    await desk.carrier.until_asked(1)
    await desk.send(command("ask", "second"))
    await desk.send(reserve("third"))
    assert await desk.outcomes() == [("third", "ok")]
    desk.carrier.gate.set()
    assert await desk.outcomes() == [("first", "ok")]
    desk.clock.advance(ACK_WAIT)
    assert await desk.outcomes() == [("second", "ok")]
    await service.stop()


async def test_a_command_repeated_while_it_is_prepared_is_asked_once_and_answered_to_its_newest_attempt(
    desk: Desk, service: ParticipantService
) -> None:
    await desk.send(command("ask", "a"))
    await desk.carrier.until_asked(1)
    await desk.send(command("ask", "a", attempt=2))
    await desk.send(reserve("b"))
    await desk.reply()
    desk.carrier.gate.set()
    [message] = (await desk.reply()).messages
    assert (message.saga_id, message.attempt, message.outcome) == ("a", 2, "ok")
    assert len(desk.carrier.asked) == 1


async def test_what_is_answered_already_is_not_prepared_again(desk: Desk, service: ParticipantService) -> None:
    desk.carrier.gate.set()
    await desk.send(command("ask", "a"))
    first = await desk.reply()
    await desk.send(command("ask", "a"))
    assert (await desk.reply()).messages == first.messages
    assert len(desk.carrier.asked) == 1


async def test_a_failure_to_prepare_is_answered_as_failed_and_prepared_anew(
    desk: Desk, service: ParticipantService
) -> None:
    desk.carrier.error = TryAgain("the carrier is closed")
    desk.carrier.gate.set()
    await desk.send(command("ask", "a"))
    [message] = (await desk.reply()).messages
    assert (message.outcome, message.reason) == ("failed", "the carrier is closed")
    desk.carrier.error = None
    await desk.send(command("ask", "a", attempt=2))
    assert await desk.outcomes() == [("a", "ok")]
    assert len(desk.carrier.asked) == 2


async def test_preparing_that_takes_too_long_is_answered_as_failed(desk: Desk) -> None:
    service = desk.service(prepare_timeout=0.001)
    await service.start()
    await desk.send(command("ask", "a"))
    [message] = (await desk.reply()).messages
    assert (message.outcome, message.reason) == ("failed", "preparing it took longer than 0.001 s")
    await service.stop()


class Gate:
    """Holds up the transactions of a database."""

    def __init__(self, store: MemoryParticipantStore[Ledger]) -> None:
        self.entered, self.open = asyncio.Event(), asyncio.Event()
        self.transactions = 0
        self._transact = store.transact
        store.transact = self.transact  # type: ignore[method-assign]

    async def transact(self, work: Callable[[ParticipantTransaction[Ledger]], Coroutine[Any, Any, Any]]) -> Any:
        self.transactions += 1
        self.entered.set()
        await self.open.wait()
        return await self._transact(work)


async def test_stopping_finishes_the_batch_in_hand(desk: Desk) -> None:
    gate, service = Gate(desk.store), desk.service()
    await service.start()
    await desk.send(reserve("in hand"))
    await gate.entered.wait()
    stopping = asyncio.create_task(service.stop())
    await desk.send(reserve("later"))
    await turns()
    assert not stopping.done()
    gate.open.set()
    await stopping
    assert await desk.outcomes() == [("in hand", "ok")]
    assert desk.store.state == ["in hand reserved"]


async def test_what_is_prepared_during_a_transaction_shares_the_next(desk: Desk, service: ParticipantService) -> None:
    await desk.send(*(command("ask", str(number)) for number in range(5)))
    await desk.carrier.until_asked(5)
    gate = Gate(desk.store)
    desk.carrier.gate.set()
    await turns()
    gate.open.set()
    assert await desk.outcomes() == [("0", "ok")]
    assert await desk.outcomes() == [(str(number), "ok") for number in range(1, 5)]
    assert gate.transactions == 2


async def test_stopping_leaves_what_is_being_prepared_to_others(desk: Desk) -> None:
    leaving, staying = desk.service(), desk.service()
    await leaving.start()
    await desk.send(command("ask", "a"))
    await desk.carrier.until_asked(1)
    await leaving.stop()
    desk.carrier.gate.set()
    await staying.start()
    assert await desk.outcomes() == [("a", "ok")]
    assert desk.store.state == ["a offer 2"]
    await staying.stop()


async def test_several_services_on_one_database_do_each_command_once(desk: Desk) -> None:
    services = [desk.service() for _ in range(3)]
    for service in services:
        await service.start()
    for number in range(30):
        await desk.send(reserve(str(number)), reserve(str(number % 7)))
    seen: list[tuple[str, str]] = []
    while len(seen) < 60:
        seen += await desk.outcomes()
    assert sorted(desk.store.state) == sorted(f"{number} reserved" for number in range(30))
    for service in services:
        await service.stop()


async def test_what_ends_a_service_by_itself_is_told(desk: Desk) -> None:
    service = desk.service()
    await service.start()
    desk.participant.routes = None  # type: ignore[assignment]
    await desk.send(reserve("a"))
    for call in (service.wait, service.stop):
        with pytest.raises(ExceptionGroup) as caught:
            await call()
        assert caught.group_contains(AttributeError)


class Shaky:
    """A database that cannot answer for the next so many transactions."""

    def __init__(self, store: MemoryParticipantStore[Ledger], failing: int) -> None:
        self.failing = failing
        self._transact = store.transact
        store.transact = self.transact  # type: ignore[method-assign]

    async def transact(self, work: Callable[[ParticipantTransaction[Ledger]], Coroutine[Any, Any, Any]]) -> Any:
        if self.failing:
            self.failing -= 1
            raise UnavailableError("it restarts")
        return await self._transact(work)


async def given_time(desk: Desk) -> list[tuple[str, str]]:
    """The next replies, however long they take."""
    reply = asyncio.create_task(desk.outcomes())
    while not reply.done():
        desk.clock.advance(PAUSE)
        await turns()
    return await reply


async def test_a_database_that_cannot_answer_is_no_answer_to_a_saga_and_is_told_in_a_line(
    desk: Desk, service: ParticipantService
) -> None:
    shaky = Shaky(desk.store, failing=5)
    with capture_logs() as logs:
        await desk.send(reserve("a"), reserve("b"))
        assert await given_time(desk) == [("a", "ok"), ("b", "ok")]
    assert shaky.failing == 0
    assert desk.store.state == ["a reserved", "b reserved"]
    told = [line for line in logs if line["event"] == "database_unavailable"]
    assert told
    assert {line["error"] for line in told} == {"it restarts"}
    assert not [line for line in logs if "exc_info" in line]


async def test_a_database_that_cannot_answer_for_a_moment_costs_no_delivery(
    desk: Desk, service: ParticipantService
) -> None:
    Shaky(desk.store, failing=1)
    await desk.send(reserve("a"), reserve("b"))
    assert await desk.outcomes() == [("a", "ok"), ("b", "ok")]


async def test_what_was_prepared_for_a_database_that_cannot_answer_comes_again(
    desk: Desk, service: ParticipantService
) -> None:
    await desk.send(command("ask", "a"))
    await desk.carrier.until_asked(1)
    Shaky(desk.store, failing=2)
    desk.carrier.gate.set()
    assert await given_time(desk) == [("a", "ok")]
    assert desk.store.state == ["a offer 2"]


async def test_a_large_delivery_is_shared_out_and_acknowledged_at_the_end(desk: Desk) -> None:
    trace = Trace(desk)
    service = desk.service(trace, commands=2)
    await service.start()
    await desk.send(*(reserve(saga) for saga in "abcde"))
    assert [await desk.outcomes() for _ in range(3)] == [
        [("a", "ok"), ("b", "ok")],
        [("c", "ok"), ("d", "ok")],
        [("e", "ok")],
    ]
    await service.stop()
    assert trace.events == ["commit", "publish"] * 3 + ["ack"]


@pytest.mark.parametrize(
    ("error", "traceback"),
    [
        pytest.param(TryAgain("the carrier is closed"), False, id="try again"),
        pytest.param(ConnectionRefusedError("nobody listens"), False, id="the network"),
        pytest.param(ZeroDivisionError("a bug"), True, id="a bug"),
    ],
)
async def test_only_what_its_author_can_mend_is_told_with_a_traceback(
    desk: Desk, service: ParticipantService, error: Exception, traceback: bool
) -> None:
    desk.carrier.error = error
    desk.carrier.gate.set()
    with capture_logs() as logs:
        await desk.send(command("ask", "a"))
        assert await desk.outcomes() == [("a", "failed")]
    [told] = [line for line in logs if line["event"] == "prepare_failed"]
    assert ("exc_info" in told, told["log_level"]) == ((True, "error") if traceback else (False, "warning"))
    assert traceback or told["error"] == str(error)
