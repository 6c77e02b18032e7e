"""What is counted can be scraped, under the names that dashboards know."""

import asyncio
from datetime import timedelta

from prometheus_client.parser import text_string_to_metric_families
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, refusing, reply, virtual

from unwind.core.steps import Retry
from unwind.ports import Message
from unwind.runtime.telemetry import Telemetry

Sample = tuple[str, tuple[tuple[str, str], ...]]


def scraped(telemetry: Telemetry) -> dict[Sample, float]:
    families = text_string_to_metric_families(telemetry.render().decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


def step(name: str, outcome: str, saga: str = "trip") -> tuple[tuple[str, str], ...]:
    return (("definition", saga), ("outcome", outcome), ("step", name))


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
    engine = await rig.launch(sweeps=True)
    ids = [f"{name}-{number}" for name, count in (("yes", 3), ("no", 2), ("unknown", 1)) for number in range(count)]
    for saga_id in ids:
        await engine.start(saga, Trip(), saga_id=saga_id)
    await asyncio.gather(*map(engine.ended, ids))
    of_trip = (("definition", "trip"),)
    counted = scraped(engine.telemetry)
    expected = {
        ("saga_started_total", of_trip): 6,
        ("saga_completed_total", of_trip): 3,
        ("saga_failed_total", of_trip): 3,
        ("saga_compensated_total", of_trip): 3,
        ("saga_blocked_total", of_trip): 0,
        ("step_completed_total", step("flight", "done")): 6,
        ("step_completed_total", step("hotel", "done")): 3,
        ("step_failed_total", step("hotel", "refused")): 2,
        ("step_failed_total", step("hotel", "retried")): 1,
        ("step_failed_total", step("hotel", "unknown")): 1,
        ("step_undone_total", step("flight", "undone")): 3,
        ("step_undone_total", step("hotel", "undone")): 1,
    }
    assert {sample: value for sample, value in counted.items() if not sample[0].startswith("unwind_")} == expected
    work = {labels[0][1]: value for (name, labels), value in counted.items() if name == "unwind_work_total"}
    assert work["units"] == len(rig.scripted.units)
    assert work["batches"] == rig.scripted.calls["commit"]


@virtual
async def test_what_was_not_committed_is_not_counted() -> None:
    saga = trip(booking("flight"))
    rig = Rig(saga)
    engine = await rig.launch()
    rig.scripted.faults.extend(["lost", "lost"])
    await engine.start(saga, Trip())
    assert scraped(engine.telemetry)["saga_started_total", (("definition", "trip"),)] == 1
