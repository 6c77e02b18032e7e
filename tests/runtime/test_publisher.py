"""Domain events go out at least once, in the order of the log; the cursor follows what the bus has taken."""

import asyncio
from collections.abc import Iterable
from random import Random

import pytest
from msgspec import Raw, Struct
from tests.core.trips import Noted, Trip, booking, diary, note, trip
from tests.runtime.rig import Rig, ScriptedStore, refusing, virtual

from unwind.buses.memory import MemoryBus
from unwind.core.events import Record
from unwind.errors import DefinitionError, UnavailableError
from unwind.ports import EVENTS, Message, StreamAppend, Unit
from unwind.runtime.limits import Limits
from unwind.runtime.publisher import CONSUMER, Publisher
from unwind.testing.faults import Faults, FaultyBus

DIARY = EVENTS + "diary"


def publisher(rig: Rig, **limits: int) -> Publisher:
    return Publisher(rig.store, rig.bus, rig.clock, Limits(**limits))


async def written(store: ScriptedStore, stream: str, versions: Iterable[int], text: str = '{"type":"noted/1"}') -> None:
    """One commit for each version, of one domain event each."""
    for version in versions:
        other = StreamAppend(stream, "diary", version, 1, f"[{text}]".encode())
        await store.commit([Unit(StreamAppend(f"{stream}-saga", "saga", version, 1, b"[]"), None, (other,))])


@virtual
async def test_each_domain_event_goes_out_in_order_under_its_number() -> None:
    saga = trip(diary("a"), booking("b"), diary("c"), on_started=lambda context: [note("x"), note("y")])
    rig = Rig(saga)
    await rig.agency(refusing("b"))
    engine = await rig.launch()
    await engine.ended((await engine.start(saga, Trip())).saga_id)
    running = rig.runs(publisher(rig).run())
    await rig.until(lambda: len(rig.bus.sent(DIARY)) == 4)
    messages = [message for topic, batch in rig.bus.published if topic == DIARY for message in batch]
    assert [message.id for message in messages] == [f"diary-1/{number}" for number in range(1, 5)]
    assert {message.name for message in messages} == {"noted/1"}
    assert [bytes(message.payload).decode().split('"')[-2] for message in messages] == ["x", "y", "a done", "a undone"]
    await rig.elapse(10)
    assert len(rig.bus.sent(DIARY)) == 4
    running.cancel()


@virtual
async def test_the_cursor_moves_only_after_the_bus_has_taken_the_events() -> None:
    rig = Rig()
    await written(rig.scripted, "s", range(1, 8))
    publishing = publisher(rig, publish=4)
    rig.bus.down = True
    for _ in range(3):
        with pytest.raises(UnavailableError):
            await publishing.publish()
    assert rig.scripted.calls["advance"] == 0
    rig.bus.down = False
    rig.trace.clear()
    while await publishing.publish():
        continue
    assert [what[0] for what in rig.trace] == ["tail", "publish", "advance"] * 4 + ["tail"]
    assert rig.bus.sent(DIARY) == [f"s/{number}" for number in range(1, 8)]


@virtual
async def test_how_far_it_is_behind_is_told() -> None:
    def lag() -> float:
        [family] = publishing.metrics(rig.now())
        [sample] = family.samples
        return sample.value

    rig = Rig()
    publishing = publisher(rig, publish=4)
    assert await publishing.publish() == lag() == 0
    await written(rig.scripted, "s", range(1, 6))
    await rig.elapse(60)
    rig.bus.down = True
    with pytest.raises(UnavailableError):
        await publishing.publish()
    await rig.elapse(5)
    assert lag() == pytest.approx(65)
    rig.bus.down = False
    await publishing.publish()
    assert lag() == pytest.approx(65)
    while await publishing.publish():
        continue
    assert lag() == 0


@virtual
async def test_a_bus_that_was_down_gets_everything_later() -> None:
    rig = Rig()
    await written(rig.scripted, "s", range(1, 6))
    rig.bus.down = True
    running = rig.runs(publisher(rig).run())
    await rig.elapse(30)
    rig.scripted.down = True
    rig.bus.down = False
    await rig.elapse(30)
    assert rig.bus.published == []
    rig.scripted.down = False
    await rig.until(lambda: len(rig.bus.sent(DIARY)) == 5, 1)
    running.cancel()


@virtual
async def test_two_publishers_miss_nothing_on_a_bus_that_refuses() -> None:
    rig = Rig()
    faults = Faults(refuse=0.3)
    rig.bus.bus = FaultyBus(MemoryBus(rig.clock), Random(3), rig.clock, faults)
    subscription = await rig.bus.bus.subscribe(DIARY, "reader")
    running = [rig.runs(publisher(rig, publish=3).run()) for _ in range(2)]
    expected = [f"s/{number}" for number in range(1, 51)]
    for number in range(1, 51):
        await written(rig.scripted, "s", [number])
        await rig.elapse(0.05)
    seen: list[str] = []
    while set(seen) != set(expected):
        for delivery in await subscription.fetch(8):
            seen.extend(message.id for message in delivery.messages)
            await subscription.ack([delivery])
    first_seen = list(dict.fromkeys(seen))
    assert first_seen == expected
    for task in running:
        task.cancel()


@virtual
async def test_an_event_that_is_not_understood_holds_back_no_other() -> None:
    rig = Rig()
    await written(rig.scripted, "s", [1])
    for number, spoilt in enumerate(("[]", "{}", '{"type":7}', "3", '{"type":'), 1):
        await written(rig.scripted, f"t{number}", [1], spoilt)
    await written(rig.scripted, "s", [2])
    running = rig.runs(publisher(rig).run())
    await rig.until(lambda: rig.bus.sent(DIARY) == ["s/1", "s/2"])
    await rig.elapse(1)
    tail = await rig.scripted.tail(CONSUMER, 10)
    assert tail.entries == ()
    running.cancel()


class Unnamed(Struct, frozen=True):
    pass


class Listed(Struct, frozen=True, tag="listed/1", array_like=True):
    pass


class Numbered(Struct, frozen=True, tag=7):
    pass


class Otherwise(Struct, frozen=True, tag="otherwise/1", tag_field="kind"):
    pass


@virtual
async def test_what_could_not_be_published_is_not_recorded() -> None:
    records = [Record("s", "diary", event()) for event in (Unnamed, Listed, Numbered, Otherwise)]
    records += [Record("s", "saga", Noted("x")), Record("", "diary", Noted("x"))]
    for record in records:
        saga = trip(booking("flight"), on_started=lambda context, record=record: [record])
        rig = Rig(saga)
        engine = await rig.launch()
        with pytest.raises(DefinitionError, match="not a Record of a stream and a tagged struct"):
            await engine.start(saga, Trip())
        assert rig.scripted.units == []


@virtual
async def test_events_of_different_categories_go_to_different_topics() -> None:
    rig = Rig()
    others = tuple(StreamAppend(name, name, 1, 2, b'[{"type":"a/1"},{"type":"b/1"}]') for name in ("x", "y"))
    await rig.scripted.commit([Unit(StreamAppend("s", "saga", 1, 1, b"[]"), None, others)])
    assert await publisher(rig).publish() == 3
    for name in ("x", "y"):
        [(_, messages)] = [each for each in rig.bus.published if each[0] == EVENTS + name]
        assert messages == (
            Message(f"{name}/1", "a/1", Raw(b'{"type":"a/1"}')),
            Message(f"{name}/2", "b/1", Raw(b'{"type":"b/1"}')),
        )


@virtual
async def test_a_publisher_that_has_nothing_to_do_rests() -> None:
    rig = Rig()
    running = asyncio.create_task(publisher(rig, publish_idle=1_000_000).run())
    await rig.elapse(10.5)
    assert rig.scripted.calls["tail"] == 11
    running.cancel()
