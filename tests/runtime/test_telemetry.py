"""What is counted can be scraped, under the names that dashboards know."""

import asyncio
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Deed, Rig, at_once, refusing, reply, tell, virtual

from unwind.core.saga import Saga
from unwind.core.steps import ActionCall, Retry, SignalStep
from unwind.ports import Message
from unwind.runtime.engine import Engine
from unwind.runtime.figures import durations_of
from unwind.runtime.histograms import DURATIONS, Durations, add, cells
from unwind.runtime.limits import SECOND, Limits
from unwind.runtime.telemetry import Telemetry
from unwind.runtime.work import WORK

Labels = tuple[tuple[str, str], ...]
Sample = tuple[str, Labels]
OF_TRIP: Labels = (("definition", "trip"),)


def scraped(telemetry: Telemetry) -> dict[Sample, float]:
    families = text_string_to_metric_families(telemetry.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def step(name: str, outcome: str, saga: str = "trip") -> Labels:
    return (("definition", saga), ("outcome", outcome), ("step", name))


def ended(outcome: str) -> Labels:
    return (*OF_TRIP, ("outcome", outcome))


def totals(counted: dict[Sample, float]) -> dict[Sample, float]:
    """Of sagas and steps, without what took how long, nor of the engine's own work."""
    return {
        sample: value
        for sample, value in counted.items()
        if sample[0].endswith("_total") and not sample[0].startswith("unwind_")
    }


async def run(rig: Rig, saga: Saga[Trip], ids: Sequence[str]) -> Engine:
    engine = await rig.launch(sweeps=True)
    for saga_id in ids:
        await engine.start(saga, Trip(), saga_id=saga_id)
    await asyncio.gather(*map(engine.ended, ids))
    return engine


@virtual
async def test_a_mixed_run_is_counted_rightly() -> None:
    saga = trip(booking("flight", retry=Retry.none()), booking("hotel", retry=Retry.fixed(2, timedelta(seconds=1))))
    rig = Rig(saga)
    script = {"yes": [], "no": ["hotel"], "unknown": []}

    def answer(command: Message) -> Message:
        name = command.saga_id.split("-")[0]
        if name == "unknown" and command.step == "hotel" and command.direction == "do":
            return reply(command, "failed")
        return refusing(*script[name])(command) or reply(command)

    await rig.agency(answer)
    engine = await run(
        rig,
        saga,
        [f"{name}-{number}" for name, count in (("yes", 3), ("no", 2), ("unknown", 1)) for number in range(count)],
    )
    counted = scraped(engine.telemetry)
    assert totals(counted) == {
        ("saga_started_total", OF_TRIP): 6,
        ("saga_completed_total", OF_TRIP): 3,
        ("saga_failed_total", OF_TRIP): 3,
        ("saga_compensated_total", OF_TRIP): 3,
        ("saga_blocked_total", OF_TRIP): 0,
        ("step_completed_total", step("flight", "done")): 6,
        ("step_completed_total", step("hotel", "done")): 3,
        ("step_failed_total", step("hotel", "refused")): 2,
        ("step_failed_total", step("hotel", "retried")): 1,
        ("step_failed_total", step("hotel", "unknown")): 1,
        ("step_retried_total", step("hotel", "do")): 1,
        ("step_undone_total", step("flight", "undone")): 3,
        ("step_undone_total", step("hotel", "undone")): 1,
    }
    assert counted["saga_duration_seconds_count", ended("completed")] == 3
    assert counted["saga_duration_seconds_count", ended("compensated")] == 3
    assert counted["step_duration_seconds_count", step("flight", "done")] == 6
    assert counted["step_duration_seconds_count", step("hotel", "refused")] == 2
    assert counted["step_duration_seconds_count", step("flight", "undone")] == 3
    assert counted["unwind_batch_sagas_sum", ()] == len(rig.scripted.units) == engine.telemetry.units
    assert counted["unwind_batch_sagas_count", ()] == rig.scripted.calls["commit"] == engine.telemetry.batches


@virtual
async def test_it_is_told_how_long_steps_sagas_and_their_inconsistency_took() -> None:
    rig = Rig(trip(booking("flight"), booking("hotel")))
    engine = await rig.launch(sweeps=True)
    begin = datetime.fromtimestamp((rig.now() + 100 * SECOND) / SECOND, UTC)
    await engine.start("trip", Trip(), saga_id="later", begin_at=begin)
    await rig.until(lambda: rig.bus.published, 200, step=0.01)
    for seconds, step_name, direction, outcome in (
        (2, "flight", "do", "ok"),
        (3, "hotel", "do", "refused"),
        (4, "flight", "undo", "ok"),
    ):
        await rig.elapse(seconds)
        tell(engine, "later", step_name, direction, outcome)  # type: ignore[arg-type]
        await rig.elapse(0.001)
    assert rig.scripted.status("later") == "compensated"
    counted = scraped(engine.telemetry)
    for name, labels, seconds in (
        ("step_duration_seconds", step("flight", "done"), 2),
        ("step_duration_seconds", step("hotel", "refused"), 3),
        ("step_duration_seconds", step("flight", "undone"), 4),
        ("saga_duration_seconds", ended("compensated"), 9),
        ("saga_inconsistency_seconds", ended("compensated"), 9),
    ):
        assert counted[f"{name}_sum", labels] == pytest.approx(seconds, abs=0.6), (name, labels)
        assert counted[f"{name}_count", labels] == 1
    at_most = {
        float(dict(labels)["le"]): value
        for (name, labels), value in counted.items()
        if name == "step_duration_seconds_bucket" and set(step("hotel", "refused")) <= set(labels)
    }
    assert [at_most[2.5], at_most[5], at_most[float("inf")]] == [0, 1, 1]


@virtual
async def test_the_window_begins_with_what_was_asked_of_somebody() -> None:
    class Approval(SignalStep[Trip, None]):
        name = "approval"

    rig = Rig(trip(Approval(), booking("hotel")))
    engine = await rig.launch(sweeps=True)
    await rig.agency()
    await engine.start("trip", Trip(), saga_id="s")
    await rig.elapse(50)
    await engine.signal("s", "approval")
    await engine.ended("s")
    counted = scraped(engine.telemetry)
    assert counted["saga_duration_seconds_sum", ended("completed")] >= 50
    assert counted["saga_inconsistency_seconds_sum", ended("completed")] < 1


@virtual
async def test_undos_that_fail_and_those_that_are_left_out_are_counted() -> None:
    rig = Rig(trip(booking("flight", undo_retry=Retry.fixed(2, timedelta(seconds=1))), booking("hotel")))

    def answer(command: Message) -> Message:
        return reply(command, "failed") if command.direction == "undo" else refusing("hotel")(command) or reply(command)

    await rig.agency(answer)
    engine = await rig.launch(sweeps=True)
    await engine.start("trip", Trip(), saga_id="s")
    await rig.until(lambda: rig.scripted.status("s") == "blocked")
    await engine.skip("s", actor="me", reason="paid back by hand")
    counted = totals(scraped(engine.telemetry))
    assert counted["step_undo_failed_total", step("flight", "skipped")] == 1
    assert counted["step_undo_failed_total", step("flight", "retried")] >= 1
    assert counted["step_retried_total", step("flight", "undo")] >= 1
    assert counted["saga_blocked_total", OF_TRIP] == 1


def test_the_steps_of_a_group_are_told_together_however_many_items_it_has() -> None:
    found: dict[str, Durations] = {}
    first, second, plain = (durations_of(found, name) for name in ("pack[1]", "pack[2]", "ship"))
    assert first is second is not plain
    assert list(found) == ["pack", "ship"]


@given(st.lists(st.lists(st.integers(0, 2 * DURATIONS[-1]) | st.sampled_from(DURATIONS))))
def test_durations_that_were_only_noted_are_sorted_in_as_if_one_by_one(given_at_a_time: list[list[int]]) -> None:
    durations, one_by_one = Durations(), cells(DURATIONS)
    for some in given_at_a_time:
        durations.noted.extend(some)
        for each in some:
            add(one_by_one, DURATIONS, each)
        assert durations.counted() == one_by_one
        assert not durations.noted
    assert durations.count() == sum(map(len, given_at_a_time))


@virtual
async def test_what_was_only_noted_does_not_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unwind.runtime.telemetry.NOTED", 50)
    saga = trip(Deed("deed", at_once))
    rig = Rig(saga)
    engine = await rig.launch()
    most = 0
    for _ in range(200):
        await engine.execute(saga, Trip())
        noted = engine.telemetry._figures["trip"].done["deed"].noted
        most = max(most, len(noted))
    assert 10 < most <= 50
    assert totals(scraped(engine.telemetry))["step_completed_total", step("deed", "done")] == 200


@virtual
async def test_what_waits_is_told() -> None:
    async def never(call: ActionCall) -> None:
        await asyncio.Event().wait()

    rig = Rig(trip(Deed("deed", never, timeout=timedelta(hours=2))), limits=Limits(actions=2))
    engine = await rig.launch()
    for number in range(5):
        await engine.start("trip", Trip(), saga_id=f"s{number}")
    await rig.elapse(1)
    counted = scraped(engine.telemetry)
    assert (counted["unwind_actions_running", ()], counted["unwind_actions_waiting", ()]) == (2, 3)
    assert (counted["unwind_inbox_sagas", ()], counted["unwind_in_flight_sagas", ()]) == (0, 0)
    rig.scripted.gate.clear()
    calls = [asyncio.create_task(engine.start("trip", Trip(), saga_id=f"t{number}")) for number in range(3)]
    await rig.elapse(1)
    counted = scraped(engine.telemetry)
    assert counted["unwind_inbox_sagas", ()] + counted["unwind_in_flight_sagas", ()] == 3
    rig.scripted.gate.set()
    await asyncio.gather(*calls)


def test_everything_that_is_counted_under_a_name_has_a_meaning() -> None:
    source = "".join(path.read_text() for path in (Path(__file__).parents[2] / "src/unwind").rglob("*.py"))
    assert set(re.findall(r"work(?:_done)?\[\"(\w+)\"\]", source)) == WORK.keys()


@virtual
async def test_what_was_not_committed_is_not_counted() -> None:
    saga = trip(booking("flight"))
    rig = Rig(saga)
    engine = await rig.launch()
    rig.scripted.faults.extend(["lost", "lost"])
    await engine.start(saga, Trip())
    assert scraped(engine.telemetry)["saga_started_total", OF_TRIP] == 1
