"""Two thousand races each of what people do against what happens: one outcome, and both sides are seen to win."""

import asyncio
from collections import Counter
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any

from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, tell, virtual

from unwind.core.events import CompensationStarted, RetryOrdered, SagaPaused, StepStarted
from unwind.errors import StateError
from unwind.runtime.engine import Engine

RACES = 2_000
TOGETHER = 50
"""Races at a time, each of a saga of its own."""
ONE, TWO = trip(booking("flight")), trip(booking("flight"), booking("hotel"), version=2)

Race = Callable[[Rig, Engine, Engine, Random], Coroutine[Any, Any, str]]


async def run(race: Race, seed: int) -> Counter[str]:
    """Every race between two workers that know the saga, with what they do a little apart; who won, how often."""
    rig, rng = Rig(ONE, TWO), Random(seed)
    first, second = await rig.launch("w1"), await rig.launch("w2")
    won: Counter[str] = Counter()
    for _ in range(RACES // TOGETHER):
        won.update(await asyncio.gather(*(race(rig, first, second, rng) for _ in range(TOGETHER))))
    return won


async def accepted(act: Coroutine[Any, Any, Any]) -> bool:
    try:
        await act
    except StateError:
        return False
    return True


async def cancel_against_completion(rig: Rig, first: Engine, second: Engine, rng: Random) -> str:
    saga_id = (await first.start(ONE, Trip())).saga_id
    here, there = rng.sample((first, second), 2)

    async def complete() -> None:
        await rig.elapse(rng.random() / 1_000)
        tell(here, saga_id, "flight")

    async def cancel() -> bool:
        await rig.elapse(rng.random() / 1_000)
        return await accepted(there.cancel(saga_id, actor="ann"))

    _, cancelled = await asyncio.gather(complete(), cancel())
    if cancelled:
        tell(there, saga_id, "flight", "undo")
    await rig.until(lambda: rig.scripted.status(saga_id) in {"completed", "compensated"})
    turned = [event for event in rig.scripted.events(saga_id) if isinstance(event, CompensationStarted)]
    assert (rig.scripted.status(saga_id) == "compensated") == cancelled == bool(turned)
    return "cancel" if cancelled else "completion"


async def pause_against_reply(rig: Rig, first: Engine, second: Engine, rng: Random) -> str:
    started = await first.start(TWO, Trip())
    saga_id, seen = started.saga_id, started.state.version
    here, there = rng.sample((first, second), 2)

    async def answer() -> None:
        await rig.elapse(rng.random() / 1_000)
        tell(here, saga_id, "flight")

    async def pause() -> bool:
        await rig.elapse(rng.random() / 1_000)
        return await accepted(there.pause(saga_id, actor="ann", expected_version=seen))

    _, paused = await asyncio.gather(answer(), pause())
    await rig.until(lambda: any(event.__class__.__name__ == "StepDone" for event in rig.scripted.events(saga_id)))
    events = rig.scripted.events(saga_id)
    begun = [event.step for event in events if isinstance(event, StepStarted)]
    assert any(isinstance(event, SagaPaused) for event in events) == paused
    assert begun == (["flight"] if paused else ["flight", "hotel"])
    return "pause" if paused else "reply"


async def retry_clicked_twice(rig: Rig, first: Engine, second: Engine, rng: Random) -> str:
    saga_id = (await first.start(TWO, Trip())).saga_id
    await first.cancel(saga_id, actor="ann")
    tell(first, saga_id, "flight", "undo", "refused")
    await rig.until(lambda: rig.scripted.status(saga_id) == "blocked")
    seen = len(rig.scripted.events(saga_id))
    clicks = [rng.choice((first, second)) for _ in range(2)]

    async def click(engine: Engine) -> bool:
        await rig.elapse(rng.random() / 1_000)
        return await accepted(engine.retry(saga_id, actor="ann", expected_version=seen))

    counted = await asyncio.gather(*map(click, clicks))
    ordered = [event for event in rig.scripted.events(saga_id) if isinstance(event, RetryOrdered)]
    assert len(ordered) == sum(counted) == 1
    return ("the first", "the second")[counted.index(True)]


@virtual
async def test_a_cancel_that_races_the_completion_wins_or_is_refused() -> None:
    won = await run(cancel_against_completion, 1)
    assert won.keys() == {"cancel", "completion"}
    assert min(won.values()) >= RACES // 20, won


@virtual
async def test_a_pause_that_races_a_reply_wins_or_is_refused() -> None:
    won = await run(pause_against_reply, 2)
    assert won.keys() == {"pause", "reply"}
    assert min(won.values()) >= RACES // 20, won


@virtual
async def test_of_two_clicks_on_retry_one_counts() -> None:
    won = await run(retry_clicked_twice, 3)
    assert won.keys() == {"the first", "the second"}
    assert min(won.values()) >= RACES // 20, won
