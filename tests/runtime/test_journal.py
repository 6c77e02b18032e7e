"""The log has one line for each beginning, end, refusal, retry and block, with ids and without payloads."""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
import structlog
from tests.core.trips import Trip, booking, trip
from tests.runtime.rig import Rig, refusing, reply, virtual

from unwind.core.steps import Retry
from unwind.ports import Message
from unwind.runtime.journal import Journal
from unwind.runtime.unit import Decided


@contextmanager
def heard(level: int) -> Iterator[list[dict[str, Any]]]:
    """Log lines of at least this level."""
    lines = structlog.testing.LogCapture()
    before = structlog.get_config()
    structlog.configure([lines], wrapper_class=structlog.make_filtering_bound_logger(level))
    try:
        yield lines.entries  # type: ignore[misc]
    finally:
        structlog.configure(**before)


def of_sagas(lines: Sequence[dict[str, Any]]) -> list[tuple[str, str, dict[str, Any]]]:
    known = {"event", "log_level", "saga_id", "correlation_id", "definition", "definition_version", "took_s"}
    return [
        (line["event"], line["log_level"], {name: each for name, each in line.items() if name not in known})
        for line in lines
        if "saga_id" in line
    ]


async def stuck(rig: Rig) -> None:
    """A flight that needs two attempts, a hotel that is refused, and an undo that is refused too."""

    def answer(command: Message) -> Message:
        if command.direction == "undo":
            return reply(command, "refused", reason="a secret")
        if command.step == "flight" and command.attempt == 1:
            return reply(command, "failed", reason="a secret")
        return refusing("hotel")(command) or reply(command)

    await rig.agency(answer)
    engine = await rig.launch(sweeps=True)
    engine.telemetry.hear.append(Journal().saw)
    await engine.start("trip", Trip(traveller="a secret"), saga_id="s", correlation_id="c")
    await rig.until(lambda: rig.scripted.status("s") == "blocked")
    await engine.skip("s", actor="me", reason="a secret")
    await engine.ended("s")


RETRIED = Retry.fixed(2, timedelta(seconds=1))


@virtual
async def test_each_saga_has_its_lines() -> None:
    rig = Rig(trip(booking("flight", retry=RETRIED), booking("hotel")))
    with heard(logging.INFO) as lines:
        await stuck(rig)
    assert of_sagas(lines) == [
        ("saga_started", "info", {}),
        ("step_retried", "info", {"step": "flight", "attempt": 2}),
        ("step_refused", "info", {"step": "hotel", "attempt": 1}),
        ("saga_turned_round", "info", {"cause": "refused", "step": "hotel"}),
        ("saga_blocked", "warning", {"step": "flight", "direction": "undo"}),
        ("saga_compensated", "info", {}),
    ]
    told = [line for line in lines if "saga_id" in line]
    assert {(line["saga_id"], line["correlation_id"], line["definition"]) for line in told} == {("s", "c", "trip")}
    assert 1 <= told[-1]["took_s"] < 60
    assert "secret" not in repr(lines)


@virtual
async def test_at_warning_only_what_needs_a_person_is_told() -> None:
    rig = Rig(trip(booking("flight", retry=RETRIED), booking("hotel")))
    with heard(logging.WARNING) as lines:
        await stuck(rig)
    assert of_sagas(lines) == [("saga_blocked", "warning", {"step": "flight", "direction": "undo"})]


@virtual
async def test_the_lines_of_a_saga_lead_to_its_trace() -> None:
    rig = Rig(trip(booking("flight")))
    await rig.agency()
    engine = await rig.launch()
    engine.telemetry.hear.append(Journal().saw)
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    with heard(logging.INFO) as lines:
        await engine.execute("trip", Trip(), traceparent=f"00-{trace}-00f067aa0ba902b7-00")
    assert [details for _, _, details in of_sagas(lines)] == [{"trace_id": trace}] * 2


class Untouchable(Sequence[Decided]):
    """Nobody may look at it."""

    def __len__(self) -> int:
        raise AssertionError("looked at")

    def __getitem__(self, index: Any) -> Any:
        raise AssertionError("looked at")


def test_where_nobody_reads_nothing_is_looked_at() -> None:
    with heard(logging.ERROR):
        Journal().saw(Untouchable())
    with heard(logging.INFO), pytest.raises(AssertionError, match="looked at"):
        Journal().saw(Untouchable())


@virtual
async def test_what_was_not_committed_is_not_told() -> None:
    rig = Rig(trip(booking("flight")))
    engine = await rig.launch()
    engine.telemetry.hear.append(Journal().saw)
    rig.scripted.faults.extend(["lost", "lost"])
    with heard(logging.INFO) as lines:
        await engine.start("trip", Trip())
    assert [event for event, _, _ in of_sagas(lines)] == ["saga_started"]
