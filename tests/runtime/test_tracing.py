"""One process's traces: what is told of what the engine commits, sends and answers; and what is not waited for."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest
from msgspec import Raw
from prometheus_client.core import Metric
from tests.core.trips import Trip, booking, stay, trip
from tests.runtime.rig import Answer, Rig, refusing, reply, virtual

from unwind.buses.memory import MemoryBus
from unwind.core.messages import effect_id
from unwind.ports import COMMANDS, REPLIES, Message
from unwind.runtime import traced_bus, tracing
from unwind.runtime.engine import Engine
from unwind.runtime.families import child_id
from unwind.runtime.span import Kind, Span
from unwind.runtime.trace_context import TraceContext, read_context, root_of, span_id_of
from unwind.runtime.tracing import Tracing

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
UNRECORDED = CALLER[:-1] + "0"


class Heard:
    """Keeps the spans that it is told."""

    def __init__(self, *, samples: bool = True) -> None:
        self.spans: list[Span] = []
        self.asked: list[tuple[str, TraceContext | None]] = []
        self._samples = samples

    def samples(self, trace_id: str, parent: TraceContext | None, name: str, kind: Kind) -> bool:
        self.asked.append((trace_id, parent))
        return self._samples

    def emit(self, spans: Sequence[Span]) -> None:
        self.spans += spans

    def metrics(self) -> Iterator[Metric]:
        return iter(())

    async def close(self) -> None:
        """Nothing is held."""

    def names(self) -> list[str]:
        return [span.name for span in self.spans]


class Watched:
    """A rig whose workers and participants are told of."""

    def __init__(self, *sagas: Any, samples: bool = True) -> None:
        self.rig = Rig(*sagas)
        self.heard = Heard(samples=samples)
        numbers = count(1)
        self.chance: Callable[[int], str] = lambda size: f"{next(numbers):0{2 * size}x}"
        self.of_bus = self.tracing()
        self.rig.bus.bus = self.of_bus.bus(self.rig.bus.bus)

    def tracing(self) -> Tracing:
        return Tracing(self.heard, self.rig.store, self.rig.clock, self.rig.now, self.chance)

    async def launch(self, worker: str = "w1", **options: Any) -> tuple[Engine, Tracing]:
        """A worker, as a process puts it together."""
        engine = await self.rig.launch(worker, **options)
        told = self.tracing()
        engine.telemetry.hear.append(told.saw)
        engine._trace = told.root
        await told.start()
        return engine, told


async def whole(watched: Watched, answer: Answer = reply, traceparent: str = CALLER) -> None:
    """One saga from its beginning to its end."""
    agency = await watched.rig.agency(answer)
    engine, told = await watched.launch()
    await engine.execute("trip", Trip(), saga_id="s", traceparent=traceparent)
    await told.stop()
    agency.cancel()


def step(name: str, direction: Any = "do", saga_id: str = "s") -> str:
    return span_id_of(effect_id(saga_id, name, direction))


@virtual
async def test_a_participant_is_told_of_under_the_step_whose_command_it_handles() -> None:
    watched = Watched(trip(booking("flight"), booking("hotel")))
    await whole(watched, refusing("hotel"))
    assert sorted(watched.heard.names()) == sorted(
        [
            "process agency.book",
            "process agency.book",
            "process agency.unbook",
            "flight",
            "hotel",
            "undo flight",
            "trip",
        ]
    )
    assert {span.context.trace_id for span in watched.heard.spans} == {CALLER[3:35]}
    handled = {
        (span.attributes["unwind.step"], span.attributes["unwind.direction"]): span
        for span in watched.heard.spans
        if span.kind == "consumer"
    }
    assert {key: span.parent for key, span in handled.items()} == {
        ("flight", "do"): step("flight"),
        ("hotel", "do"): step("hotel"),
        ("flight", "undo"): step("flight", "undo"),
    }
    assert [(span.attributes["unwind.outcome"], span.failed) for span in handled.values()] == [
        ("ok", False),
        ("refused", True),
        ("ok", False),
    ]


@virtual
async def test_a_command_that_is_not_recorded_carries_its_steps_span_all_the_same() -> None:
    watched = Watched(trip(booking("flight")))
    seen: list[str] = []

    def answer(command: Message) -> Message:
        seen.append(command.traceparent)
        return reply(command)

    await whole(watched, answer, UNRECORDED)
    assert seen == [f"00-{CALLER[3:35]}-{step('flight')}-00"]
    assert watched.heard.spans == []


@virtual
async def test_a_saga_begun_outside_of_any_trace_has_one_of_its_own_which_is_stored() -> None:
    watched = Watched(trip(booking("flight")))
    await whole(watched, traceparent="")
    root = root_of("s")
    [saga] = [span for span in watched.heard.spans if span.name == "trip"]
    assert (saga.context, saga.parent) == (root, "")
    assert watched.heard.asked == [(root.trace_id, None)]
    assert str(root).encode() in watched.rig.scripted.units[0].head.events


@virtual
async def test_whether_it_is_recorded_is_decided_when_it_begins() -> None:
    watched = Watched(trip(booking("flight")), samples=False)
    await whole(watched, traceparent="")
    assert watched.heard.spans == []
    assert str(root_of("s").recorded(False)).encode() in watched.rig.scripted.units[0].head.events


@virtual
async def test_a_saga_that_is_a_step_is_in_the_trace_of_the_whole() -> None:
    watched = Watched(trip(booking("flight"), stay("hotel")))
    await whole(watched)
    child = child_id("s", "hotel")
    by_name = {span.name: span for span in watched.heard.spans if span.kind != "consumer"}
    assert set(by_name) == {"trip", "flight", "hotel", "stay", "ask"}
    assert by_name["stay"].parent == by_name["hotel"].context.span_id == step("hotel")
    assert by_name["stay"].context == read_context(CALLER).of(span_id_of(child))  # type: ignore[union-attr]
    assert by_name["ask"].parent == by_name["stay"].context.span_id
    assert {span.context.trace_id for span in watched.heard.spans} == {CALLER[3:35]}


@virtual
async def test_another_worker_tells_what_was_over_before_the_first_one_died() -> None:
    watched = Watched(trip(booking("flight"), booking("hotel"), booking("car")))
    silent = True
    agency = await watched.rig.agency(lambda asked: None if silent and asked.step == "hotel" else reply(asked))
    first, _ = await watched.launch("w1")
    await first.start("trip", Trip(), saga_id="s", traceparent=CALLER)
    await watched.rig.until(lambda: "s/hotel/do" in watched.rig.bus.sent(f"{COMMANDS}agency"))
    await watched.rig.kill(first)
    assert [span for span in watched.heard.spans if span.kind != "consumer"] == []
    silent = False
    second, told = await watched.launch("w2", sweeps=True)
    await second.ended("s")
    await told.stop()
    spans = {span.name: span for span in watched.heard.spans if span.kind != "consumer"}
    assert len(spans) == len([span for span in watched.heard.spans if span.kind != "consumer"]) == 4
    assert spans["flight"].ended <= spans["hotel"].began < spans["hotel"].ended <= spans["car"].began
    assert spans["hotel"].ended - spans["hotel"].began > 1_000_000, "from before the one that died"
    assert spans["trip"].began == spans["flight"].began
    agency.cancel()


@virtual
async def test_a_saga_that_needs_a_person_is_told_of_before_it_ends() -> None:
    watched = Watched(trip(booking("flight"), booking("hotel")))

    def answer(command: Message) -> Message:
        return (
            reply(command, "refused") if command.direction == "undo" else refusing("hotel")(command) or reply(command)
        )

    agency = await watched.rig.agency(answer)
    engine, told = await watched.launch()
    await engine.start("trip", Trip(), saga_id="s", traceparent=CALLER)
    await watched.rig.until(lambda: watched.rig.scripted.status("s") == "blocked")
    await watched.rig.until(lambda: "hotel" in watched.heard.names())
    assert {"flight", "hotel"} <= set(watched.heard.names())
    assert not {"undo flight", "trip"} & set(watched.heard.names())
    await engine.skip("s", actor="me", reason="enough")
    await told.stop()
    sagas = [name for name in watched.heard.names() if not name.startswith("process")]
    assert sorted(sagas) == ["flight", "hotel", "trip", "undo flight"]
    agency.cancel()


@virtual
async def test_a_store_that_does_not_answer_delays_it() -> None:
    watched = Watched(trip(booking("flight")))
    agency = await watched.rig.agency()
    engine, told = await watched.launch()
    loads = watched.rig.scripted.load
    down = True

    async def load(streams: Any, *, snapshots: bool = True) -> Any:
        if not snapshots and down:
            watched.rig.scripted.down = True
        try:
            return await loads(streams, snapshots=snapshots)
        finally:
            watched.rig.scripted.down = False

    watched.rig.scripted.load = load  # type: ignore[method-assign]
    await engine.execute("trip", Trip(), saga_id="s", traceparent=CALLER)
    await watched.rig.elapse(1.5)
    assert "trip" not in watched.heard.names()
    down = False
    await watched.rig.until(lambda: "trip" in watched.heard.names())
    await told.stop()
    agency.cancel()


@virtual
async def test_a_log_that_is_not_understood_keeps_no_other_from_being_told() -> None:
    watched = Watched(trip(booking("flight")))
    agency = await watched.rig.agency()
    engine, told = await watched.launch()
    watched.rig.scripted.gate.clear()
    both = [asyncio.create_task(engine.execute("trip", Trip(), saga_id=each, traceparent=CALLER)) for each in "ab"]
    watched.rig.scripted.gate.set()
    loads = watched.rig.scripted.load

    async def load(streams: Any, *, snapshots: bool = True) -> Any:
        if not snapshots:
            watched.rig.scripted.corrupt("a", b"not JSON")
        return await loads(streams, snapshots=snapshots)

    watched.rig.scripted.load = load  # type: ignore[method-assign]
    await asyncio.gather(*both)
    await told.stop()
    assert [span.attributes["unwind.saga.id"] for span in watched.heard.spans if span.name == "trip"] == ["b"]
    agency.cancel()


@virtual
async def test_what_is_too_much_is_counted_and_not_waited_for() -> None:
    watched = Watched(trip(booking("flight")))
    agency = await watched.rig.agency()
    engine, told = await watched.launch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "WAITING", 0)
        await engine.execute("trip", Trip(), saga_id="s", traceparent=CALLER)
    await told.stop()
    assert "trip" not in watched.heard.names()
    [untold] = told.metrics()
    assert [(each.name, each.value) for each in untold.samples] == [("unwind_traces_untold_total", 1)]
    agency.cancel()


@virtual
async def test_commands_that_nobody_answers_are_forgotten() -> None:
    rig = Rig()
    told = Tracing(Heard(), None, rig.clock, rig.now, lambda size: "1" * 2 * size)
    bus = told.bus(MemoryBus(rig.clock))
    agency = await bus.subscribe(f"{COMMANDS}agency", "agency")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(traced_bus, "ARRIVED", 2)
        asked = [
            Message(f"{each}/flight/do", "agency.book", Raw(b"null"), each, "flight", traceparent=CALLER)
            for each in "abc"
        ]
        await bus.publish(f"{COMMANDS}agency", asked)
        await agency.fetch(1)
    await bus.publish(REPLIES, [reply(each) for each in asked])
    assert isinstance(told.sink, Heard)
    assert [span.attributes["unwind.saga.id"] for span in told.sink.spans] == ["b", "c"]


@virtual
async def test_a_call_is_under_its_callers_span_or_begins_a_trace() -> None:
    watched = Watched()
    told = watched.tracing()
    caller = read_context(CALLER)
    under = told.called(caller, "POST")
    assert (under.context.trace_id, under.parent, under.context.flags) == (CALLER[3:35], CALLER[36:52], "01")
    alone = told.called(None, "POST")
    assert alone.parent == ""
    told.answered(under, "POST /api/v1/orders", {"http.response.status_code": 202}, failed=False)
    told.answered(alone, "POST /api/v1/orders", {"http.response.status_code": 500}, failed=True)
    assert [(span.kind, span.failed, span.context) for span in watched.heard.spans] == [
        ("server", False, under.context),
        ("server", True, alone.context),
    ]
    assert watched.heard.asked == [(CALLER[3:35], caller), (alone.context.trace_id, None)]
