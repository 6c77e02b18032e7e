"""One saga that cannot be written or read stalls no other; what is only a cache is never believed against the log."""

import asyncio
from itertools import pairwise
from math import ceil, log2

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, tell, virtual

from unwind.core.codec import Snapshot, fold, read_snapshot, take_snapshot
from unwind.errors import CodecError, RejectedError
from unwind.ports import COMMANDS
from unwind.runtime.limits import SECOND
from unwind.runtime.suspects import MOST, Suspects
from unwind.testing.manual_clock import ManualClock

TRIP = trip()
LONG = trip(*(booking(f"s{number:02}") for number in range(12)))


@virtual
async def test_one_poison_unit_among_200_is_found_and_the_others_are_written() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(batches_in_flight=1)
    rig.scripted.poisoned.add("poison")
    starts = [asyncio.create_task(engine.start(TRIP, Trip())) for _ in range(199)]
    with pytest.raises(RejectedError, match="scripted"):
        await engine.start(TRIP, Trip(), saga_id="poison")
    assert {(await start).state.status for start in starts} == {"running"}
    assert len(rig.scripted.units) == 199
    assert rig.scripted.calls["commit"] <= 2 * ceil(log2(200)) + 2
    assert len(rig.bus.sent(COMMANDS + "agency")) == 199
    assert engine.telemetry.work["set_aside"] == 1


@virtual
async def test_a_unit_that_cannot_even_be_encoded_stalls_no_other() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(batches_in_flight=1)
    starts = [asyncio.create_task(engine.start(TRIP, Trip())) for _ in range(9)]
    with pytest.raises(RejectedError, match="cannot be stored"):
        await engine.start(TRIP, Trip(), correlation_id="\ud800")
    assert {(await start).state.status for start in starts} == {"running"}


@virtual
async def test_a_saga_that_was_set_aside_is_left_alone_longer_each_time_and_recovers() -> None:
    rig = Rig(trip(booking("flight")))
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(rig.sagas[0], Trip())).saga_id
    rig.scripted.poisoned.add(saga_id)
    refusals: list[int] = []
    for _ in range(5):  # its timeout must be written, and cannot be
        await rig.until(lambda: engine.telemetry.work["set_aside"] > len(refusals), 200, step=0.1)
        refusals.append(rig.clock.monotonic())
    pauses = [later - sooner for sooner, later in pairwise(refusals)]
    for number, pause in enumerate(pauses):
        held = 5 * SECOND * 2**number
        assert held <= pause <= held + rig.limits.claim_push + 2 * rig.limits.sweep
    rig.scripted.poisoned.clear()
    await rig.agency()
    assert (await engine.ended(saga_id)).status == "completed"
    assert engine.telemetry.work["set_aside"] == 5


def test_the_pause_of_a_suspect_is_bounded_and_forgotten_once_it_was_written() -> None:
    clock = ManualClock()
    suspects = Suspects(clock, 10)
    assert [suspects.add("a") for _ in range(9)] == [10, 20, 40, 80, 160, 320, 640, 640, 640]
    assert suspects.holds("a")
    assert not suspects.holds("b")
    clock.advance(640)
    assert not suspects.holds("a")
    del suspects.held["a"]
    assert suspects.add("a") == 10


def test_no_more_than_so_many_suspects_are_remembered() -> None:
    suspects = Suspects(ManualClock(), 10)
    for number in range(MOST + 1):
        suspects.add(str(number))
    assert not suspects.holds("0")
    assert suspects.holds("1")
    assert suspects.holds(str(MOST))


# ----------------------------------------------------------------------------------------------------- what is not read


@pytest.mark.parametrize("spoilt", [b"", b"\xff", b"{}", b"[{}]", b'[{"type":"saga_started/9","at":1}]'])
def test_a_log_that_is_not_understood_stops_no_other_saga(spoilt: bytes) -> None:
    @virtual
    async def run() -> None:
        rig = Rig(TRIP)
        first = await rig.launch("w1")
        broken, sound = [(await first.start(TRIP, Trip())).saga_id for _ in range(2)]
        await rig.kill(first)
        rig.scripted.corrupt(broken, spoilt)
        await rig.agency()
        second = await rig.launch("w2", sweeps=True, batches_in_flight=1)
        cancelling = asyncio.create_task(second.cancel(broken, actor="ann"))
        assert (await second.ended(sound)).status == "completed"
        with pytest.raises(CodecError):
            await cancelling
        assert second.telemetry.work["set_aside"] >= 1

    run()


def spoilt_snapshots(snapshot: Snapshot) -> list[Snapshot]:
    data = snapshot.data
    flipped = [data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :] for place in range(len(data))]
    return [
        *(replace(snapshot, data=each) for each in flipped),
        replace(snapshot, data=b""),
        replace(snapshot, data=data[:-1]),
        replace(snapshot, codec=snapshot.codec + 1),
        replace(snapshot, checksum=snapshot.checksum ^ 1),
        replace(snapshot, version=snapshot.version + 5),
    ]


@virtual
async def test_a_bad_snapshot_is_ignored_and_the_log_is_folded() -> None:
    rig = Rig(LONG)
    engine = await rig.launch()
    saga_id = (await engine.start(LONG, Trip())).saga_id
    for plan in LONG.plans[:7]:
        tell(engine, saga_id, plan.name)
    await rig.until(lambda: f"{saga_id}/s07/do" in rig.bus.sent(COMMANDS + "agency"))
    good = rig.scripted.snapshot(saga_id)
    truth = fold(rig.scripted._commits(saga_id, 0))
    assert good is not None
    assert read_snapshot(good) is not None
    for bad in spoilt_snapshots(good):
        assert read_snapshot(bad) is None
        rig.scripted.put_snapshot(saga_id, bad)
        assert await engine.loop.reload(saga_id) == truth
    await engine.cancel(saga_id, actor="ann")
    assert rig.scripted.events(saga_id)


@virtual
async def test_a_snapshot_is_written_at_every_fifth_outcome_only_and_shortens_the_load() -> None:
    rig = Rig(LONG)
    await rig.agency()
    engine = await rig.launch()
    saga_id = (await engine.start(LONG, Trip())).saga_id
    assert (await engine.ended(saga_id)).status == "completed"
    snapshots = [unit.snapshot for unit in rig.scripted.units if unit.snapshot is not None]
    states = [read_snapshot(snapshot) for snapshot in snapshots]
    assert [state and state.outcomes for state in states] == [5, 10]
    for snapshot, state in zip(snapshots, states, strict=True):
        commits = [commit for commit in rig.scripted._commits(saga_id, 0) if commit[0] <= snapshot.version]
        assert fold(commits) == state
    loaded = (await rig.scripted.load({saga_id: 0})).streams[saga_id]
    assert loaded.snapshot == snapshots[-1]
    assert loaded.commits[0][0] == snapshots[-1].version + 1


@given(outcome=st.lists(st.integers(0, 255), max_size=60))
def test_bytes_that_are_no_snapshot_are_never_believed(outcome: list[int]) -> None:
    assert read_snapshot(replace(take_snapshot(fold(())), data=bytes(outcome))) is None
