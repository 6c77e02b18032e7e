"""What a worker keeps of sagas is bounded by number and by bytes; what it forgets, it loads again."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.core.chance import TRIED
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, tell, virtual

from unwind.core.messages import Attempt, CommandCall
from unwind.core.state import NEW, State, StepRun
from unwind.runtime.state_cache import LARGE, StateCache


def state(saga_id: str, size: int, command: int = 0) -> State:
    run = StepRun("a", "done", Attempt(0), CommandCall("s", "s.c", Raw(b" " * command)))
    return State(saga_id=saga_id, status="running", context=Raw(b" " * size), runs=(run,))


def test_the_oldest_of_too_many_are_forgotten() -> None:
    cache = StateCache(2, 10**9)
    for name in "abc":
        cache.keep(state(name, 10))
        cache.trim()
    assert list(cache.states) == ["b", "c"]
    assert cache.held == 0


def test_the_oldest_of_too_large_ones_are_forgotten_and_the_small_ones_stay() -> None:
    cache = StateCache(100, 3 * LARGE)
    cache.keep(state("small", 10))
    for name in "abc":
        cache.keep(state(name, LARGE, 100))
        cache.trim()
    assert list(cache.states) == ["small", "b", "c"]
    assert cache.held == 2 * (LARGE + 100)


def test_what_is_larger_than_all_that_may_be_kept_is_not_kept() -> None:
    cache = StateCache(100, LARGE)
    cache.keep(state("a", 2 * LARGE))
    cache.trim()
    assert (cache.states, cache.held) == ({}, 0)


@TRIED
@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.sampled_from([None, -1, 1, LARGE, 3 * LARGE])), max_size=40))
def test_the_bytes_are_those_of_what_is_kept(moves: list[tuple[str, int | None]]) -> None:
    cache = StateCache(4, 4 * LARGE)
    for name, size in moves:
        if size is None:
            cache.forget(name)
        elif size < 0:
            cache.expect_new(name)
            cache.keep(state(name, 1))
        else:
            cache.keep(state(name, size))
        cache.trim()
        large = [kept for kept in cache.states.values() if len(kept.context) >= LARGE]
        assert cache.held == sum(len(kept.context) for kept in large) <= 4 * LARGE
        assert len(cache.states) <= 4


def test_a_fresh_id_is_known_to_be_new() -> None:
    cache = StateCache(4, LARGE)
    cache.expect_new("a")
    assert cache.states["a"] is NEW


@virtual
async def test_sagas_with_large_contexts_are_carried_on_from_the_log() -> None:
    saga = trip(booking("flight"), booking("hotel"))
    rig = Rig(saga)
    engine = await rig.launch("w1", cache_bytes=2 * LARGE)
    large = Trip(traveller="x" * LARGE)
    sagas = [(await engine.start(saga, large)).saga_id for _ in range(8)]
    before = rig.scripted.calls["load"]
    for step in ("flight", "hotel"):
        for saga_id in sagas:
            tell(engine, saga_id, step)
        await rig.until(lambda: all(len(rig.scripted.events(each)) >= 4 for each in sagas))
    await rig.until(lambda: {rig.scripted.status(each) for each in sagas} == {"completed"})
    assert rig.scripted.calls["load"] > before
