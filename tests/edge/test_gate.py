"""The gate: little patience, no calls while the other side is away, and no call broken off because it is late."""

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic

import pytest
from redis.exceptions import ResponseError

from unwind.edge.gate import FAILURES, PAUSE, Gate
from unwind.errors import UnavailableError
from unwind.testing.manual_clock import ManualClock

Call = Callable[[], Awaitable[str]]


class Far:
    """What is asked through the gate; counts how often."""

    def __init__(self) -> None:
        self.calls = 0
        self.begun = asyncio.Event()
        self.released = asyncio.Event()
        self.ended = asyncio.Event()

    async def answers(self) -> str:
        self.calls += 1
        return "answer"

    async def refuses(self) -> str:
        self.calls += 1
        raise UnavailableError("refused")

    async def objects(self) -> str:
        self.calls += 1
        raise UnavailableError("WRONGTYPE") from ResponseError("WRONGTYPE")

    async def hangs(self) -> str:
        self.calls += 1
        self.begun.set()
        await self.released.wait()
        self.ended.set()
        return "late"


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def fail(gate: Gate, far: Far, times: int) -> None:
    for _ in range(times):
        with pytest.raises(UnavailableError):
            await gate.ask(far.refuses)


async def test_after_a_few_failures_in_a_row_nothing_is_asked_until_the_pause_is_over(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    await fail(gate, far, FAILURES)
    assert gate.away
    await fail(gate, far, 100)
    assert far.calls == FAILURES
    clock.advance(PAUSE)
    assert await gate.ask(far.answers) == "answer"
    assert await gate.ask(far.answers) == "answer"


async def test_while_it_is_away_one_call_in_a_pause_tries(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    await fail(gate, far, FAILURES)
    for tried in range(1, 5):
        clock.advance(PAUSE)
        await fail(gate, far, 20)
        assert far.calls == FAILURES + tried


async def test_while_one_tries_the_others_do_not_wait(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    await fail(gate, far, FAILURES)
    clock.advance(PAUSE)
    trying = asyncio.create_task(gate.ask(far.hangs))
    await far.begun.wait()
    await fail(gate, far, 10)
    assert far.calls == FAILURES + 1
    with pytest.raises(UnavailableError, match="50 ms"):
        await trying
    await gate.close()


async def test_failures_with_an_answer_between_them_do_not_add_up(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    for _ in range(5):
        await fail(gate, far, FAILURES - 1)
        assert await gate.ask(far.answers) == "answer"
    assert not gate.away


async def test_an_error_is_an_answer(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    for _ in range(10):
        with pytest.raises(UnavailableError, match="WRONGTYPE"):
            await gate.ask(far.objects)
    assert not gate.away


async def test_a_late_call_is_left_to_end_and_no_request_waits_for_it(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    began = monotonic()
    with pytest.raises(UnavailableError, match="within 50 ms"):
        await gate.ask(far.hangs)
    assert monotonic() - began < 1
    far.released.set()
    await far.ended.wait()


async def test_a_request_that_is_cancelled_leaves_the_call_alone(clock: ManualClock) -> None:
    gate, far = Gate(clock), Far()
    asking = asyncio.create_task(gate.ask(far.hangs))
    await far.begun.wait()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    far.released.set()
    await far.ended.wait()
    assert far.calls == 1
