"""Local actions: at most so many at a time, each for its time, held by a lease; whatever the author's code does."""

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Raw
from tests.core.trips import Trip, trip
from tests.runtime.rig import Deed, Rig, at_once, virtual

from unwind.core.effects import RunAction
from unwind.core.events import ActionTakenOver, StepFailed, UndoDone
from unwind.core.messages import Reply
from unwind.core.saga import Saga
from unwind.core.steps import ActionCall, Refused, Retry
from unwind.runtime.actions import ActionPool
from unwind.runtime.limits import SECOND

Act = Callable[[ActionCall], Coroutine[Any, Any, Any]]
SHORT = {"timeout": timedelta(seconds=2), "undo_timeout": timedelta(seconds=4), "lease": timedelta(seconds=8)}


class Pool:
    """A pool, what it was given, and what it told."""

    def __init__(
        self, act: Act, undo: Act | None = None, *, size: int = 4, backlog: int = 100, **policies: Any
    ) -> None:
        self.saga: Saga[Any] = trip(Deed("a", act, undo, **{**SHORT, **policies}))
        self.rig = Rig(self.saga)
        self.replies: list[tuple[str, Reply]] = []
        self.pool = ActionPool(
            self.rig.store,
            self.rig.clock,
            lambda saga_id, reply: self.replies.append((saga_id, reply)),
            size=size,
            backlog=backlog,
            watch_every=SECOND // 10,
            largest=1_000,
        )
        self.running = self.rig.runs(self.pool.run())

    def submit(self, saga_id: str, direction: Any = "do", attempt: int = 1) -> None:
        effect = RunAction(saga_id, "a", direction, attempt, "w1", Raw(b"{}"))
        self.pool.submit(self.saga, effect, self.rig.clock.monotonic())

    async def reply(self, saga_id: str = "s", direction: Any = "do") -> Reply:
        """What became of one action; it is told once."""
        seen = len(self.replies)
        self.submit(saga_id, direction)
        await self.rig.until(lambda: len(self.replies) > seen)
        [(told, reply)] = self.replies[seen:]
        assert told == saga_id
        return reply


def raising(error: BaseException) -> Act:
    async def act(call: ActionCall) -> None:
        raise error

    return act


def answering(result: object) -> Act:
    async def act(call: ActionCall) -> object:
        return result

    return act


async def endless(call: ActionCall) -> None:
    await asyncio.Event().wait()


class UnspeakableError(Exception):
    def __str__(self) -> str:
        return "\udcff" * 5_000


# ------------------------------------------------------------------------------------------------------------- outcomes


@virtual
async def test_what_an_action_returns_is_its_outcome() -> None:
    assert await Pool(answering({"x": 1})).reply() == Reply("a", "do", "ok", 1, Raw(b'{"x":1}'))
    refused = await Pool(answering(Refused("no"))).reply()
    assert (refused.outcome, refused.reason) == ("refused", "no")
    assert await Pool(at_once, answering(None)).reply(direction="undo") == Reply("a", "undo", "ok", 1)


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (raising(ValueError("broken")), "ValueError: broken"),
        (raising(UnspeakableError()), "UnspeakableError: ?????"),
        (answering(object()), "TypeError: "),
        (answering("\udcff"), "UnicodeEncodeError: "),
        (answering("x" * 1_000), "its result has 1002 bytes; at most 1000 are allowed"),
        (raising(asyncio.CancelledError()), "the action was cancelled from inside"),
    ],
)
def test_whatever_goes_wrong_in_an_action_is_a_failure_that_can_be_stored(act: Act, reason: str) -> None:
    @virtual
    async def run() -> None:
        pool = Pool(act, size=1)
        for number in range(3):  # the one task that there is survives it
            reply = await pool.reply(str(number))
            assert (reply.outcome, reply.timed_out) == ("failed", False)
            assert reply.reason.startswith(reason)
            assert len(reply.reason.encode()) <= 1_000
            assert pool.pool._jobs == {}

    run()


@virtual
async def test_an_action_that_cancels_its_own_task_is_a_failure_too() -> None:
    async def suicidal(call: ActionCall) -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.Event().wait()

    pool = Pool(suicidal, size=1)
    for number in range(3):
        assert (await pool.reply(str(number))).outcome == "failed"


@virtual
async def test_a_refusal_without_a_proper_reason_can_be_stored() -> None:
    assert (await Pool(answering(Refused(None))).reply()).reason == "None"  # type: ignore[arg-type]


@virtual
async def test_an_action_that_is_no_coroutine_is_a_failure() -> None:
    reply = await Pool(lambda call: 3).reply()  # type: ignore[arg-type,return-value]
    assert reply.outcome == "failed"
    assert "TypeError" in reply.reason


# ------------------------------------------------------------------------------------------------------------- timeouts


@virtual
async def test_an_action_that_exceeds_its_timeout_fails() -> None:
    for direction, seconds in (("do", 2), ("undo", 4)):
        pool = Pool(endless, endless)
        before = pool.rig.clock.monotonic()
        reply = await pool.reply(direction=direction)
        assert (reply.outcome, reply.timed_out, reply.direction) == ("failed", True, direction)
        assert seconds * SECOND <= pool.rig.clock.monotonic() - before <= seconds * SECOND + 200_000


@virtual
async def test_the_timeout_counts_from_when_the_action_runs() -> None:
    seconds = iter((1.5, 1.5, 1.5))
    pool = Pool(at_once, size=1)

    async def busy(call: ActionCall) -> None:
        await pool.rig.elapse(next(seconds))

    pool.saga.plans[0].step.do = busy
    for number in range(3):
        pool.submit(str(number))
    await pool.rig.until(lambda: len(pool.replies) == 3)
    assert [reply.outcome for _, reply in pool.replies] == ["ok"] * 3


@virtual
async def test_an_action_that_swallows_its_cancellation_is_believed_or_cancelled_again() -> None:
    swallowed: list[int] = []

    async def stubborn(call: ActionCall) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            swallowed.append(1)
        if call.saga_id == "done":
            return "done after all"
        await asyncio.Event().wait()
        return ""

    pool = Pool(stubborn, size=1)
    reply = await pool.reply("done")
    assert (reply.outcome, reply.payload, reply.timed_out) == ("ok", Raw(b'"done after all"'), False)
    reply = await pool.reply("again")
    assert (reply.outcome, reply.timed_out) == ("failed", True)
    assert len(swallowed) == 2
    assert 6 * SECOND <= pool.rig.clock.monotonic() <= 6 * SECOND + 400_000
    pool.saga.plans[0].step.do = cancelling_is_clean
    assert (await pool.reply("next")).outcome == "ok"


async def cancelling_is_clean(call: ActionCall) -> None:
    """The task carries nothing over from the action before."""
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


@virtual
async def test_the_pool_ends_although_an_action_swallows_its_cancellation() -> None:
    async def stubborn(call: ActionCall) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)

    pool = Pool(stubborn)
    pool.submit("s")
    await pool.rig.elapse(0.1)
    pool.running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await pool.running
    pool.submit("late")
    await pool.pool.drain(5)
    assert pool.rig.clock.monotonic() == 100_000


# --------------------------------------------------------------------------------------------------------------- leases


@virtual
async def test_a_lease_is_renewed_at_half_of_its_time() -> None:
    pool = Pool(endless, timeout=timedelta(seconds=30))
    started = pool.rig.now()
    pool.submit("s")
    await pool.rig.until(lambda: pool.rig.scripted.calls["lease"] == 1)
    assert 4 * SECOND <= pool.rig.now() - started <= 4_200_000
    assert pool.rig.scripted._leases["s"]["s/a/do"] - started - 12 * SECOND < 200_000
    await pool.rig.until(lambda: pool.replies)
    assert pool.replies[0][1].timed_out
    assert pool.rig.scripted.calls["lease"] == 7


@pytest.mark.parametrize("hangs", [False, True])
def test_an_action_whose_lease_cannot_be_renewed_is_cancelled_and_tells_nothing(hangs: bool) -> None:
    @virtual
    async def run() -> None:
        ended: list[int] = []

        async def noting(call: ActionCall) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.append(pool.rig.clock.monotonic())

        async def hang(effect_ids: object, duration: int) -> None:
            await asyncio.Event().wait()

        pool = Pool(noting, timeout=timedelta(seconds=100))
        if hangs:
            pool.rig.scripted.lease = hang  # type: ignore[method-assign]
        else:
            pool.rig.scripted.down = True
        pool.submit("s")
        await pool.rig.until(lambda: ended)
        assert 8 * SECOND <= ended[0] <= 8_200_000
        await pool.rig.elapse(10)
        assert pool.replies == []
        assert pool.pool._jobs == {}

    run()


@virtual
async def test_an_action_that_lost_its_lease_while_it_waited_is_not_begun() -> None:
    begun: list[str] = []

    async def noting(call: ActionCall) -> None:
        begun.append(call.saga_id)
        await asyncio.Event().wait()

    pool = Pool(noting, size=1, timeout=timedelta(seconds=10))
    pool.submit("first")
    pool.submit("second")
    pool.rig.scripted.down = True
    await pool.rig.until(lambda: not pool.pool._jobs)
    assert begun == ["first"]
    assert pool.replies == []


@virtual
async def test_another_worker_takes_an_action_over_when_its_runner_died() -> None:
    runs: list[str] = []

    async def once_stuck(call: ActionCall) -> None:
        runs.append(call.effect_id)
        if len(runs) == 1:
            await asyncio.Event().wait()

    saga = trip(Deed("a", once_stuck, timeout=timedelta(seconds=60), lease=timedelta(seconds=8)))
    rig = Rig(saga)
    first, second = await rig.launch("w1", sweeps=True), await rig.launch("w2", sweeps=True)
    saga_id = (await first.start(saga, Trip())).saga_id
    await rig.elapse(20)
    assert runs == [f"{saga_id}/a/do"]  # its runner lives, and holds it beyond its first lease
    died = rig.now()
    await rig.kill(first)
    assert (await second.ended(saga_id)).status == "completed"
    [taken] = [event for event in rig.scripted.events(saga_id) if isinstance(event, ActionTakenOver)]
    assert taken.runner == "w2"
    assert taken.at - died <= 8 * SECOND * 2 + rig.limits.claim_push + rig.limits.sweep
    assert runs == [f"{saga_id}/a/do"] * 2


@virtual
async def test_an_undo_waits_until_its_action_has_ended() -> None:
    release = asyncio.Event()
    order: list[str] = []

    async def slow(call: ActionCall) -> None:
        await release.wait()
        order.append("do")

    async def undo(call: ActionCall) -> None:
        order.append("undo")

    saga = trip(Deed("a", slow, undo, timeout=timedelta(seconds=60), lease=timedelta(seconds=8)))
    rig = Rig(saga)
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(saga, Trip())).saga_id
    await engine.cancel(saga_id, actor="ann")
    await rig.elapse(30)
    assert order == []
    release.set()
    assert (await engine.ended(saga_id)).status == "compensated"
    assert order == ["do", "undo"]
    assert sum(isinstance(event, UndoDone) for event in rig.scripted.events(saga_id)) == 1


@virtual
async def test_a_failed_action_is_tried_again_by_its_policy() -> None:
    attempts: list[int] = []

    async def flaky(call: ActionCall) -> None:
        attempts.append(call.attempt)
        if call.attempt < 3:
            raise ConnectionError("\udcff down")

    saga = trip(Deed("a", flaky, retry=Retry.fixed(3, timedelta(seconds=1))))
    rig = Rig(saga)
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(saga, Trip())).saga_id
    assert (await engine.ended(saga_id)).status == "completed"
    assert attempts == [1, 2, 3]
    reasons = [event.reason for event in rig.scripted.events(saga_id) if isinstance(event, StepFailed)]
    assert reasons == ["ConnectionError: ? down"] * 2


# --------------------------------------------------------------------------------------------------------------- bounds


@virtual
async def test_no_more_than_so_many_run_and_wait_and_none_twice() -> None:
    running: set[str] = set()
    most = 0
    release = asyncio.Event()

    async def counted(call: ActionCall) -> None:
        nonlocal most
        assert call.effect_id not in running
        running.add(call.effect_id)
        most = max(most, len(running))
        await release.wait()
        running.discard(call.effect_id)

    pool = Pool(counted, size=3, backlog=10)
    for number in range(3):
        pool.submit(str(number))
    await pool.rig.until(lambda: len(running) == 3)
    for number in range(20):
        pool.submit(str(number))
        pool.submit(str(number))
    release.set()
    await pool.rig.until(lambda: not pool.pool._jobs)
    assert most == 3
    assert sorted(saga_id for saga_id, _ in pool.replies) == sorted(str(number) for number in range(13))
    pool.submit("19")  # there is room again
    await pool.rig.until(lambda: len(pool.replies) == 14)


@virtual
async def test_what_found_no_place_is_run_after_its_sagas_wake_up() -> None:
    release = asyncio.Event()

    async def held(call: ActionCall) -> None:
        await release.wait()

    saga = trip(Deed("a", held, lease=timedelta(seconds=8)))
    rig = Rig(saga)
    engine = await rig.launch(sweeps=True, actions=1, actions_waiting=1)
    started = [await engine.start(saga, Trip()) for _ in range(4)]
    release.set()
    for each in started:
        assert (await engine.ended(each.saga_id)).status == "completed"
    assert rig.clock.monotonic() >= 8 * SECOND


@virtual
async def test_work_that_came_before_the_pool_ran_is_done() -> None:
    pool = Pool(at_once)
    for number in range(10):
        pool.submit(str(number))
    assert pool.replies == []
    await pool.rig.until(lambda: len(pool.replies) == 10)


@virtual
async def test_a_drain_begins_nothing_and_waits_for_what_runs() -> None:
    release = asyncio.Event()
    pool = Pool(at_once, size=1)

    async def slow(call: ActionCall) -> None:
        await release.wait()

    pool.saga.plans[0].step.do = slow
    pool.submit("runs")
    pool.submit("waits")
    await pool.rig.elapse(0.1)
    await pool.pool.drain(1)
    assert pool.rig.clock.monotonic() == 1_100_000
    draining = asyncio.create_task(pool.pool.drain(10))
    await pool.rig.elapse(1)
    pool.submit("late")
    release.set()
    await draining
    assert pool.rig.clock.monotonic() < 3_000_000
    await pool.rig.elapse(1)
    assert [saga_id for saga_id, _ in pool.replies] == ["runs"]
