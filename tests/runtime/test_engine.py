"""What callers of an engine are told: accepted, ended, refused, not now, not here."""

import asyncio
from typing import Any

import pytest
from msgspec import Raw
from tests.core.trips import Trip, booking, pivotal, trip
from tests.runtime.rig import Rig, refusing, reply, tell, virtual

from unwind.core.attributes import Attribute
from unwind.core.events import SagaStarted
from unwind.errors import (
    CodecError,
    DefinitionError,
    IdempotencyError,
    InputError,
    NotFoundError,
    OverloadedError,
    RejectedError,
    StateError,
    UnavailableError,
)
from unwind.ports import COMMANDS, REPLIES, Message, Query
from unwind.runtime.unit import SNAPSHOT_AFTER

TRIP = trip()


@virtual
async def test_a_saga_that_is_accepted_ends() -> None:
    rig = Rig(TRIP)
    await rig.agency()
    engine = await rig.launch()
    started = await engine.start(TRIP, Trip("bob"))
    assert started.created
    assert started.state.status == "running"
    ended = await engine.ended(started.saga_id)
    assert (ended.status, rig.scripted.status(started.saga_id)) == ("completed", "completed")
    assert await engine.ended(started.saga_id) == ended


@virtual
async def test_a_refused_saga_ends_undone() -> None:
    rig = Rig(TRIP)
    await rig.agency(refusing("car"))
    engine = await rig.launch()
    started = await engine.start(TRIP, Trip())
    assert (await engine.ended(started.saga_id)).status == "compensated"
    undone = [name for name in rig.bus.sent(COMMANDS + "agency") if name.endswith("/undo")]
    assert undone == [f"{started.saga_id}/hotel/undo", f"{started.saga_id}/flight/undo"]


@virtual
async def test_what_is_not_there_is_not_found() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    with pytest.raises(NotFoundError, match="no saga x"):
        await engine.ended("x")
    for act in (engine.cancel, engine.pause, engine.resume):
        with pytest.raises(NotFoundError, match="no saga x"):
            await act("x", actor="ann")


@virtual
async def test_the_end_is_seen_when_another_engine_ends_the_saga() -> None:
    rig = Rig(TRIP)
    first, second = await rig.launch("w1"), await rig.launch("w2")
    started = await first.start(TRIP, Trip())
    waiting = asyncio.create_task(first.ended(started.saga_id))
    await second.cancel(started.saga_id, actor="ann")
    # The first engine still believes in a running saga: nobody tells it.
    tell(second, started.saga_id, "flight", "undo")
    assert (await waiting).status == "compensated"


@virtual
async def test_a_log_that_is_not_understood_fails_only_those_who_wait_for_it() -> None:
    rig = Rig(TRIP)
    first, second = await rig.launch("w1"), await rig.launch("w2")
    broken, sound = [(await first.start(TRIP, Trip())).saga_id for _ in range(2)]
    waiting = [asyncio.create_task(first.ended(saga_id)) for saga_id in (broken, sound)]
    for saga_id in (broken, sound):
        await second.cancel(saga_id, actor="ann")
        tell(second, saga_id, "flight", "undo")
    await rig.until(lambda: rig.scripted.status(broken) == rig.scripted.status(sound) == "compensated")
    rig.scripted.corrupt(broken, b'[{"type":"unheard_of/9"}]')
    with pytest.raises(CodecError, match="unheard_of"):
        await waiting[0]
    assert (await waiting[1]).status == "compensated"


# --------------------------------------------------------------------------------------------------- idempotent starts


@virtual
async def test_the_same_start_is_accepted_once_however_often_it_comes() -> None:
    rig = Rig(TRIP)
    await rig.agency()
    engines = [await rig.launch("w1"), await rig.launch("w2")]
    starts = [engine.start(TRIP, Trip(), saga_id="key", request_hash="h") for engine in engines * 5]
    started = await asyncio.gather(*starts)
    assert sum(each.created for each in started) == 1
    await engines[0].ended("key")
    again = await engines[1].start(TRIP, Trip(), saga_id="key", request_hash="h")
    assert (again.created, again.state.status) == (False, "completed")
    assert sum(isinstance(event, SagaStarted) for event in rig.scripted.events("key")) == 1
    for engine in engines:
        with pytest.raises(IdempotencyError, match="different request"):
            await engine.start(TRIP, Trip(), saga_id="key", request_hash="other")


@virtual
async def test_a_context_that_cannot_be_stored_is_not_accepted() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(payload=100)
    contexts: list[tuple[Any, str]] = [
        (Trip("a" * 100), "at most 100"),
        (Trip("\ud800"), "surrogates"),
        (object(), "JSON"),
    ]
    for context, mend in contexts:
        with pytest.raises(InputError, match=mend):
            await engine.start(TRIP, context)
    assert rig.scripted.calls["commit"] == 0


@virtual
async def test_an_on_started_that_raises_accepts_nothing() -> None:
    def broken(context: Trip) -> Any:
        raise ZeroDivisionError

    saga = trip(on_started=broken)
    rig = Rig(saga)
    engine = await rig.launch()
    for saga_id in ("", "key"):
        with pytest.raises(DefinitionError, match="on_started raised ZeroDivisionError"):
            await engine.start(saga, Trip(), saga_id=saga_id)
    assert rig.scripted.calls["commit"] == 0
    with pytest.raises(NotFoundError):
        await engine.ended("key")


# ------------------------------------------------------------------------------------------------------------ overload


@virtual
async def test_a_full_inbox_accepts_nothing_and_fetches_no_replies() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(inbox=3, batches_in_flight=1, batch=1)
    rig.scripted.gate.clear()
    calls = [asyncio.create_task(engine.start(TRIP, Trip()))]
    await rig.until(lambda: rig.scripted.calls["commit"])
    calls += [asyncio.create_task(engine.start(TRIP, Trip())) for _ in range(3)]
    await rig.until(lambda: engine.loop.backlog == 3)
    rig.trace.clear()
    with pytest.raises(OverloadedError) as refused:
        await engine.start(TRIP, Trip())
    assert refused.value.retry_after >= 1
    assert engine.telemetry.work["starts_rejected"] == 1
    for number in range(10):
        await rig.bus.publish(REPLIES, [Message(f"r{number}", "", Raw(b"null"), saga_id="none")])
    await rig.elapse(1)
    assert sum(what[0] == "fetch" for what in rig.trace) <= 1  # the one that waited already
    rig.scripted.gate.set()
    await asyncio.gather(*calls)
    await rig.until(lambda: sum(len(what[1]) for what in rig.trace if what[0] == "ack") == 10)
    assert len(rig.scripted.units) == 4


@virtual
async def test_a_store_that_does_not_answer_fails_the_call_in_time() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(call_timeout=2_000_000)
    rig.scripted.gate.clear()
    with pytest.raises(UnavailableError, match="outcome is unknown"):
        await engine.start(TRIP, Trip())
    assert 2_000_000 <= rig.clock.monotonic() <= 3_000_000


# ----------------------------------------------------------------------------------------------------------- revisions


@virtual
async def test_a_saga_of_an_unknown_revision_is_left_alone() -> None:
    older, newer = trip(), trip(version=2)
    rig = Rig(older, limits=None)
    first = await rig.launch("w1", older)
    saga_id = (await first.start(older, Trip())).saga_id
    await rig.kill(first)
    before = rig.scripted.events(saga_id)
    second = await rig.launch("w2", newer, sweeps=True)
    with pytest.raises(UnavailableError, match=f"bound to trip@1#{older.hash}"):
        await second.cancel(saga_id, actor="ann")
    command = rig.bus.published[0][1][0]
    await rig.bus.publish(REPLIES, [reply(command)])
    await rig.elapse(100)
    assert rig.scripted.events(saga_id) == before
    assert ("ack", (command.id,)) not in rig.trace
    assert sum(what == ("fetch", (command.id,)) for what in rig.trace) >= 2
    await rig.agency()
    third = await rig.launch("w3", older, newer, sweeps=True)
    assert (await third.ended(saga_id)).status in {"completed", "compensated"}


@virtual
async def test_a_definition_changed_under_its_version_refuses_to_open() -> None:
    rig = Rig(TRIP)
    await rig.launch("w1")
    with pytest.raises(DefinitionError, match=r"trip version 1 was changed.*next version"):
        await rig.launch("w2", trip(booking("flight")))
    await rig.launch("w3", trip(booking("flight"), version=2), TRIP)


@virtual
async def test_two_definitions_may_not_share_name_and_version() -> None:
    rig = Rig(TRIP)
    with pytest.raises(DefinitionError, match="same name and version"):
        rig.engine("w1", TRIP, trip(booking("flight")))
    with pytest.raises(DefinitionError, match="not registered"):
        await rig.engine().start(trip(version=2), Trip())


# ----------------------------------------------------------------------------------------------------- operators' acts


@virtual
async def test_an_ended_saga_cannot_be_controlled() -> None:
    rig = Rig(TRIP)
    await rig.agency()
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    await engine.ended(saga_id)
    for call in (engine.cancel, engine.pause, engine.resume):
        with pytest.raises(StateError, match="has ended: it is completed") as refused:
            await call(saga_id, actor="ann")
        assert refused.value.status == "completed"


@virtual
async def test_past_the_pivot_nothing_is_cancelled() -> None:
    saga = pivotal()
    rig = Rig(saga)
    engine = await rig.launch()
    saga_id = (await engine.start(saga, Trip())).saga_id
    tell(engine, saga_id, "flight")
    await rig.until(lambda: any("hotel/do" in name for name in rig.bus.sent(COMMANDS + "agency")))
    with pytest.raises(StateError, match="only go forward"):
        await engine.cancel(saga_id, actor="ann")


@virtual
async def test_a_paused_saga_begins_nothing_and_goes_on_when_resumed() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch(sweeps=True)
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    await engine.pause(saga_id, actor="ann")
    assert rig.scripted.wake_at(saga_id) is None
    tell(engine, saga_id, "flight")
    await rig.until(lambda: len(rig.scripted.events(saga_id)) == 4)
    sent = list(rig.bus.published)
    await rig.elapse(300)
    assert rig.bus.published == sent
    await rig.agency()
    await engine.resume(saga_id, actor="ann")
    assert (await engine.ended(saga_id)).status == "completed"


@virtual
async def test_what_cannot_be_stored_of_an_act_is_refused_and_hurts_nobody_else() -> None:
    rig = Rig(TRIP)
    await rig.agency()
    engine = await rig.launch()
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    with pytest.raises(RejectedError, match="cannot be stored"):
        await engine.pause(saga_id, actor="\ud800")
    assert (await engine.ended(saga_id)).status == "completed"


@virtual
async def test_executing_a_saga_waits_for_its_end_and_so_does_whoever_repeats_it() -> None:
    rig = Rig(TRIP)
    await rig.agency()
    engine = await rig.launch()
    assert (await engine.execute(TRIP, Trip("bob"))).status == "completed"
    both = await asyncio.gather(*(engine.execute(TRIP, Trip(), saga_id="key", request_hash="h") for _ in range(2)))
    assert both[0] == both[1] == await engine.execute(TRIP, Trip(), saga_id="key", request_hash="h")
    assert sum(isinstance(event, SagaStarted) for event in rig.scripted.events("key")) == 1
    with pytest.raises(IdempotencyError, match="different request"):
        await engine.execute(TRIP, Trip(), saga_id="key", request_hash="another")


@virtual
async def test_executing_what_cannot_begin_says_why() -> None:
    rig = Rig(broken := trip(on_started=lambda _: 1 / 0))
    engine = await rig.launch()
    with pytest.raises(DefinitionError, match="on_started raised ZeroDivisionError"):
        await engine.execute(broken, Trip())
    await engine.stop()
    with pytest.raises(UnavailableError, match="stopping"):
        await engine.execute(broken, Trip())


@virtual
async def test_a_mistake_in_an_attribute_is_the_caller_s_to_hear_and_nothing_is_accepted() -> None:
    rig = Rig(broken := trip(attributes={"part": Attribute[Trip, str](str, lambda context: context.codes[0])}))
    engine = await rig.launch()
    for begin in (engine.start, engine.execute):
        with pytest.raises(DefinitionError, match="attribute 'part' raised IndexError"):
            await begin(broken, Trip())
    assert rig.scripted.units == []
    found = (await engine.start(broken, Trip("ada", ("x1",)))).saga_id
    assert [row.id for row in await rig.scripted.find(Query(attributes=(("part", "x1"),)))] == [found]


@virtual
async def test_giving_up_waiting_for_an_execution_does_not_stop_the_saga() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch()
    waiting = asyncio.create_task(engine.execute(TRIP, Trip(), saga_id="left"))
    await rig.until(lambda: "left/flight/do" in rig.bus.sent(f"{COMMANDS}agency"))
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await rig.agency()
    assert (await engine.ended("left")).status == "completed"


@virtual
async def test_a_storm_of_pauses_does_not_make_a_saga_ever_dearer_to_load() -> None:
    rig = Rig(TRIP)
    engine = await rig.launch("w1")
    saga_id = (await engine.start(TRIP, Trip())).saga_id
    for _ in range(200):
        await engine.pause(saga_id, actor="ann")
        await engine.resume(saga_id, actor="ann")
    assert len(rig.scripted.events(saga_id)) > 400
    [stored] = (await rig.scripted.load({saga_id: 0})).streams.values()
    assert stored.snapshot is not None
    assert len(stored.commits) <= SNAPSHOT_AFTER
