"""The order of things: load, commit, dispatch, acknowledge; what is sent again, and what a wake-up writes."""

import asyncio
import random
from datetime import timedelta
from typing import Any

from msgspec import Raw
from msgspec.structs import replace
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Deed, Rig, Trace, at_once, elapsed, reply, tell, virtual

from unwind.core.events import StepFailed, StepRetried
from unwind.core.groups import Parallel
from unwind.core.steps import Command, CommandStep, Retry
from unwind.ports import COMMANDS, REPLIES, Message, Move
from unwind.runtime.limits import Limits
from unwind.runtime.sweeper import Sweeper

TRIP = trip()


def position(trace: Trace, what: str, about: str) -> int:
    """Where something is first said of an id."""
    return next(
        number for number, entry in enumerate(trace) if entry[0] == what and any(about in part for part in entry[1:])
    )


@virtual
async def test_nothing_is_sent_before_its_commit_nor_acknowledged() -> None:
    rig = Rig(TRIP)
    await rig.agency()
    engine = await rig.launch()
    for _ in range(20):
        saga_id = (await engine.start(TRIP, Trip())).saga_id
        await engine.ended(saga_id)
        await rig.until(lambda: (REPLIES not in str(rig.trace[-1])) and rig.trace[-1][0] == "ack")
        commits = [number for number, entry in enumerate(rig.trace) if entry == ("committed", (saga_id,))]
        sent = [position(rig.trace, "publish", f"{saga_id}/{step}/do") for step in ("flight", "hotel", "car")]
        acked = [position(rig.trace, "ack", f"{saga_id}/{step}/do") for step in ("flight", "hotel", "car")]
        assert all(commit < send for commit, send in zip(commits, sent, strict=False))
        assert all(commit < ack for commit, ack in zip(commits[1:], acked, strict=True))


@virtual
async def test_while_a_commit_hangs_nothing_is_sent_and_nothing_acknowledged() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    command = rig.bus.published[0][1][0]
    rig.scripted.gate.clear()
    await rig.bus.publish(REPLIES, [reply(command)])
    await rig.until(lambda: rig.scripted.calls["commit"] == 2)
    rig.trace.clear()
    await rig.elapse(20)
    assert rig.trace == []
    rig.scripted.gate.set()
    await rig.until(lambda: ("ack", (command.id,)) in rig.trace)
    assert [entry[0] for entry in rig.trace] == ["committed", "publish", "ack"]
    assert saga_id in rig.trace[0][1]


@virtual
async def test_a_delivery_is_acknowledged_once_all_its_messages_are_decided() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(batch=1, batches_in_flight=1)
    for _ in range(3):
        await engine.start(TRIP, Trip())
    commands = [message for _, messages in rig.bus.published for message in messages]
    rig.trace.clear()
    stranger = Message("x", "", Raw(b"null"), saga_id="nobody")
    await rig.bus.publish(REPLIES, [*map(reply, commands), stranger])
    await rig.until(lambda: any(entry[0] == "ack" for entry in rig.trace))
    acked = [entry for entry in rig.trace if entry[0] == "ack"]
    assert acked == [("ack", (*(command.id for command in commands), "x"))]
    before = rig.trace[: rig.trace.index(acked[0])]
    assert sum(entry[0] == "committed" for entry in before) == 3


@virtual
async def test_a_message_that_nobody_can_decide_does_not_keep_its_delivery() -> None:
    # Thousands of them would take the place of all others. The saga asks again by its wake-up.
    rig = Rig(TRIP)
    engine = await rig.launch()
    sound, poisoned = [(await engine.start(TRIP, Trip())).saga_id for _ in range(2)]
    commands = [message for _, messages in rig.bus.published for message in messages]
    rig.scripted.poisoned.add(poisoned)
    rig.trace.clear()
    await rig.bus.publish(REPLIES, [reply(command) for command in commands])
    await rig.until(lambda: f"{sound}/hotel/do" in rig.bus.sent(COMMANDS + "agency"))
    await rig.until(lambda: any(entry[0] == "ack" for entry in rig.trace))
    assert sum(entry[0] == "fetch" for entry in rig.trace) == 1
    rig.scripted.poisoned.clear()
    await rig.bus.publish(REPLIES, [reply(command) for command in commands])
    await rig.until(lambda: f"{poisoned}/hotel/do" in rig.bus.sent(COMMANDS + "agency"))


@virtual
async def test_replies_that_make_no_sense_count_as_failures_or_as_nothing() -> None:
    rig = Rig(trip(booking("flight", retry=Retry.fixed(2, timedelta(seconds=1)))))
    engine = await rig.launch(payload=100)
    saga_id = (await engine.start(rig.sagas[0], Trip())).saga_id
    [command] = rig.bus.published[0][1]
    forged = [
        replace(reply(command), step="nowhere"),
        replace(reply(command), saga_id=""),
        replace(reply(command), direction="undo"),
        replace(reply(command, "failed"), attempt=2**70),
        replace(reply(command, "maybe"), attempt=7),
    ]
    await rig.bus.publish(REPLIES, forged)
    await rig.until(lambda: rig.trace[-1][0] == "ack")
    assert len(rig.scripted.events(saga_id)) == 2
    endless = reply(command, payload="x" * 200, reason="y" * 5_000)
    await rig.bus.publish(REPLIES, [endless])
    await rig.until(lambda: len(rig.scripted.events(saga_id)) == 3)
    failed = rig.scripted.events(saga_id)[-1]
    assert isinstance(failed, StepFailed)
    assert "202 bytes" in failed.reason
    await rig.bus.publish(REPLIES, [replace(reply(command, "refused"), reason="y" * 5_000)])
    await rig.until(lambda: rig.scripted.status(saga_id) == "compensated")
    assert max(len(event.reason) for event in rig.scripted.events(saga_id) if hasattr(event, "reason")) == 1_000


# ----------------------------------------------------------------------------------------------------- folding together


@virtual
async def test_inputs_of_one_saga_fold_into_one_unit() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    tell(engine, saga_id, "flight")
    tell(engine, saga_id, "hotel")
    cancelled = await engine.cancel(saga_id, actor="ann")
    assert cancelled.targets == ("car", "hotel", "flight")
    assert [unit.head.version for unit in rig.scripted.units] == [1, 3]
    assert rig.bus.sent(COMMANDS + "agency") == [f"{saga_id}/flight/do", f"{saga_id}/car/undo"]


@virtual
async def test_one_batch_sends_one_publication_to_each_service() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(batches_in_flight=1)
    starts = [asyncio.create_task(engine.start(TRIP, Trip())) for _ in range(100)]
    await asyncio.gather(*starts)
    assert engine.telemetry.batches == len(rig.bus.published) <= 2
    assert len(rig.bus.sent(COMMANDS + "agency")) == 100


class Dine(Command, frozen=True, tag="kitchen.dine"):
    """For another service."""


class Dinner(CommandStep[Trip, Any]):
    """A step of another service."""

    name = "dinner"

    def execute(self, context: Trip) -> Command:
        return Dine()

    def compensate(self, context: Trip) -> Command:
        return Dine()


@virtual
async def test_a_service_for_which_the_bus_has_no_room_keeps_nothing_from_the_others() -> None:
    both = trip(Parallel(booking("flight"), Dinner()))
    rig = Rig(both)
    rig.bus.full = {COMMANDS + "agency"}
    engine = await rig.launch()
    await engine.start(both, Trip())
    await rig.until(lambda: rig.bus.sent(COMMANDS + "kitchen"))
    assert engine.telemetry.work["follow_up_failed"] == 1
    assert rig.bus.sent(COMMANDS + "agency") == []


# ---------------------------------------------------------------------------------------------------------- wake-ups


@virtual
async def test_a_lost_command_is_sent_again_without_an_event() -> None:
    saga = trip(booking("flight", timeout=timedelta(seconds=30)))
    rig = Rig(saga, limits=Limits(circuit_after=0))
    rig.bus.down = True
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(saga, Trip())).saga_id
    assert engine.telemetry.work["follow_up_failed"] == 1
    rig.bus.down = False
    await rig.until(lambda: len(rig.bus.published) == 4, 29)
    assert {message.attempt for _, messages in rig.bus.published for message in messages} == {1}
    assert len(rig.scripted.events(saga_id)) == 2
    assert engine.telemetry.work["resent"] == 4
    await rig.agency()
    assert (await engine.ended(saga_id)).status == "completed"


@virtual
async def test_every_attempt_is_awaited_for_its_timeout() -> None:
    saga = trip(booking("flight", timeout=timedelta(seconds=3), retry=Retry.fixed(3, timedelta(seconds=2))))
    rig = Rig(saga, limits=Limits(circuit_after=0))
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(saga, Trip())).saga_id
    await rig.until(lambda: rig.scripted.status(saga_id) == "compensating")
    retried = [event for event in rig.scripted.events(saga_id) if isinstance(event, StepRetried)]
    assert [event.attempt.number for event in retried] == [2, 3]
    assert 13_000_000 <= rig.clock.monotonic() <= 13_000_000 + 6 * 500_000
    sent = [message for _, messages in rig.bus.published for message in messages]
    attempts = [message.attempt for message in sent if message.direction == "do"]
    assert attempts == sorted(attempts)
    assert set(attempts) == {1, 2, 3}


@virtual
async def test_a_wake_up_moves_on_only_with_its_token() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    at = rig.scripted.wake_at(saga_id)
    assert at is not None
    await rig.scripted.move([Move(saga_id, at - 1, at + 77, 2)])
    assert rig.scripted.wake_at(saga_id) == at
    engine.loop.tick(saga_id, at - 1)  # claimed by somebody else since
    await rig.until(lambda: rig.scripted.calls["move"] == 2)
    assert rig.scripted.wake_at(saga_id) == at
    await rig.elapse(6)
    sweeper = Sweeper(engine, rig.store, rig.clock)
    assert await sweeper.sweep() == 1
    pushed = rig.now() + rig.limits.claim_push
    await rig.until(lambda: rig.scripted.calls["move"] == 3)
    moved = rig.scripted.wake_at(saga_id)
    assert moved is not None
    assert moved != pushed
    assert rig.now() < moved <= at + 2 * 5_000_000


@virtual
async def test_a_wake_up_of_a_paused_or_ended_saga_does_nothing() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    paused, ended = [(await engine.start(TRIP, Trip())).saga_id for _ in range(2)]
    await engine.pause(paused, actor="ann")
    await engine.cancel(ended, actor="ann")
    tell(engine, ended, "flight", "undo")
    await engine.ended(ended)
    await rig.elapse(100)
    rig.trace.clear()
    for saga_id in (paused, ended, "nobody"):
        engine.loop.tick(saga_id, 0)
    await rig.until(lambda: sum(len(entry[1]) for entry in rig.trace if entry[0] == "load") == 3)
    await rig.elapse(10)
    assert {entry[0] for entry in rig.trace} == {"load"}


# -------------------------------------------------------------------------------------------------- counts as speed


@virtual
async def test_many_sagas_need_few_commits_and_no_loads() -> None:
    saga = trip(*(Deed(name, at_once) for name in ("a", "b", "c", "d")))
    rig = Rig(saga)
    engine = await rig.launch()

    async def one() -> str:
        return (await engine.ended((await engine.start(saga, Trip())).saga_id)).status

    assert await asyncio.gather(*(one() for _ in range(512))) == ["completed"] * 512
    assert rig.scripted.calls["commit"] / 512 <= 0.03
    assert rig.scripted.calls["load"] == 0
    assert engine.telemetry.work["conflicts"] == 0


@virtual
async def test_what_a_batch_begins_and_ends_at_once_is_in_the_next_batch() -> None:
    saga = trip(*(Deed(name, at_once) for name in ("a", "b", "c", "d")))
    rig = Rig(saga)
    engine = await rig.launch()
    chance = random.Random(11)
    rig.scripted.commit_takes = lambda: chance.uniform(0.002, 0.004)

    async def client(number: int) -> None:
        await elapsed(number * 20e-6)
        for _ in range(4):
            await engine.execute(saga, Trip())

    await asyncio.gather(*(client(number) for number in range(512)))
    # Five units a saga, in full batches of 256: 0.0195. Where the sagas of three batches take turns: 0.033.
    assert rig.scripted.calls["commit"] / 2048 <= 0.025


@virtual
async def test_with_two_batches_in_flight_one_fills_while_the_other_is_written() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    rig.scripted.gate.clear()
    starts: list[asyncio.Task[Any]] = [asyncio.create_task(engine.start(TRIP, Trip())) for _ in range(100)]
    await rig.until(lambda: rig.scripted.calls["commit"] == 2)
    sizes = [len(entry[1]) for entry in rig.trace if entry[0] == "commit"]
    assert sum(sizes) == 100
    assert max(sizes) <= 60
    rig.scripted.gate.set()
    await asyncio.gather(*starts)
