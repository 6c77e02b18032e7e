"""Stories whose logs are kept for ever: `python -m tests.core.stories` writes those that are not kept yet."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
from tests.core.trips import BOOKED, Book, Booked, Trip, approval, booking, diary, errand, nap, parcels, pivotal, trip

from unwind.core.attributes import Attribute
from unwind.core.codec import SAGA_EVENTS
from unwind.core.groups import Parallel
from unwind.core.state import State
from unwind.core.steps import SKIP, Fail, Kind
from unwind.testing.scenario import (
    Scenario,
    cancel,
    failed,
    ok,
    pause,
    refused,
    resolve,
    resume,
    retry,
    signal,
    skip,
    undo_failed,
    undo_refused,
    undone,
)

GOLDEN = Path(__file__).parent / "golden"
VERSION = "v1"


def begun(**options: Any) -> Scenario[Trip]:
    return Scenario(trip(**options)).given(Trip())


def happy() -> Scenario[Trip]:
    scenario = begun(deadline=timedelta(minutes=5)).when(ok("flight", Booked("f")))
    return scenario.when(ok("hotel", Booked("h"))).when(ok("car", Booked("c")))


def was_refused() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", Booked("f"))).when(ok("hotel", Booked("h"))).when(refused("car", "no cars"))
    return scenario.when(undone("hotel")).when(undone("flight"))


def was_unknown() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", BOOKED)).at(30).at(70)
    return scenario.when(undo_failed("hotel", "down")).at(80).when(undone("hotel")).when(undone("flight"))


def was_cancelled() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", BOOKED)).when(failed("hotel")).when(cancel("bob", "changed my mind"))
    return scenario.when(undone("hotel")).when(undone("flight"))


def was_blocked_and_resumed() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", BOOKED)).when(refused("hotel", "full")).when(undo_refused("flight", "late"))
    return scenario.at(700).when(resume("bob", "called them")).when(undone("flight"))


def is_blocked() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", BOOKED)).when(cancel())
    return scenario.when(undo_failed("hotel")).at(10).when(undo_failed("hotel", "down for good"))


def is_paused() -> Scenario[Trip]:
    return begun().when(pause("bob", "audit")).when(ok("flight", Booked("f")))


def was_paused() -> Scenario[Trip]:
    scenario = is_paused().at(500).when(resume("bob")).when(ok("hotel", Booked("h")))
    return scenario.when(ok("car", Booked("c")))


def passed_the_pivot() -> Scenario[Trip]:
    scenario = Scenario(pivotal()).given(Trip()).when(ok("flight", Booked("f"))).when(failed("hotel")).at(10)
    scenario.when(failed("hotel", "down")).when(ok("hotel", Booked("h"))).when(refused("car", "no cars"))
    return scenario.at(400).when(ok("car", Booked("c")))


def has_actions_and_records() -> Scenario[Trip]:
    saga = trip(diary("page"), booking("flight", verdict=SKIP), errand("visa"), on_started=None)
    scenario = Scenario(saga).given(Trip())
    scenario.worker = "worker-2"
    return scenario.at(30).when(cancel()).when(ok("visa")).when(undone("visa"))


def was_mended_by_hand() -> Scenario[Trip]:
    scenario = Scenario(pivotal()).given(Trip()).when(ok("flight", Booked("f"))).when(ok("hotel", Booked("h")))
    scenario = scenario.when(refused("car", "no cars")).when(retry("car", Book("car"), reason="by phone"))
    return scenario.when(refused("car", "none at all")).when(resolve("car", Booked("c"), evidence="a paper slip"))


def was_left_undone() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", BOOKED)).when(refused("hotel", "full")).when(undo_refused("flight", "late"))
    return scenario.when(skip("flight", "worth less than the fee"))


def turned_by_a_guard_before_the_pivot() -> Scenario[Trip]:
    saga = trip(booking("flight"), booking("hotel", Kind.PIVOT, verdict=Fail("too dear")))
    return Scenario(saga).given(Trip()).when(ok("flight", Booked("f")))


def was_approved() -> Scenario[Trip]:
    saga = trip(booking("flight"), nap("rest"), approval("boss"), booking("car"))
    scenario = (
        Scenario(saga).given(Trip()).when(signal("boss", Booked("b"), signal_id="s-1")).when(ok("flight", BOOKED))
    )
    return scenario.at(100).when(ok("car", Booked("c")))


def was_not_approved() -> Scenario[Trip]:
    scenario = Scenario(trip(booking("flight"), approval("boss"))).given(Trip()).when(ok("flight", BOOKED))
    return scenario.when(signal("boss", Booked("no"))).when(undone("flight"))


def was_scheduled() -> Scenario[Trip]:
    return Scenario(trip(booking("flight"), deadline=timedelta(minutes=5))).given(Trip(), begins=60)


def was_done_side_by_side() -> Scenario[Trip]:
    saga = trip(
        Parallel(booking("flight"), [booking("hotel"), booking("spa")]), parcels(booking("pack"), of=("x", "y"))
    )
    scenario = Scenario(saga).given(Trip()).when(ok("hotel", Booked("h"))).when(ok("spa", Booked("s")))
    scenario.when(ok("flight", Booked("f"))).when(ok("pack[y]", Booked("y"))).when(refused("pack[x]", "too large"))
    scenario.when(undone("pack[y]")).when(undone("flight")).when(undone("spa"))
    return scenario.when(undone("hotel"))


def is_settling() -> Scenario[Trip]:
    saga = trip(Parallel(booking("flight"), booking("hotel"), booking("car")))
    return Scenario(saga).given(Trip()).when(ok("car", Booked("c"))).when(refused("hotel", "full"))


def sat_out_an_outage() -> Scenario[Trip]:
    scenario = begun().when(ok("flight", BOOKED)).at(200, silent=["agency"]).at(230).when(ok("hotel", Booked("h")))
    scenario = scenario.when(refused("car", "no cars")).at(400, silent=["agency"])
    return scenario.at(450).when(undone("hotel")).when(undone("flight"))


def can_be_found() -> Scenario[Trip]:
    """By attributes of each kind, recorded with its beginning."""
    found_by = {
        "traveller": Attribute(str, lambda context: context.traveller),
        "parts": Attribute(int, lambda context: len(context.codes)),
        "alone": Attribute(bool, lambda _: True),
    }
    return Scenario(trip(booking("flight"), attributes=found_by)).given(Trip()).when(ok("flight", BOOKED))


STORIES: Mapping[str, Callable[[], Scenario[Trip]]] = {
    story.__name__: story
    for story in (
        happy,
        was_refused,
        was_unknown,
        was_cancelled,
        was_blocked_and_resumed,
        is_blocked,
        is_paused,
        was_paused,
        passed_the_pivot,
        has_actions_and_records,
        turned_by_a_guard_before_the_pivot,
        was_mended_by_hand,
        was_left_undone,
        was_approved,
        was_not_approved,
        was_scheduled,
        was_done_side_by_side,
        is_settling,
        sat_out_an_outage,
        can_be_found,
    )
}


def summary(state: State) -> dict[str, Any]:
    """What must come out of a stored log, in every version of this program."""
    return {
        "version": state.version,
        "status": state.shown_status,
        "context": msgspec.json.decode(state.context),
        "steps": {run.step: run.status for run in state.runs},
        "targets": list(state.targets),
        "streams": dict(state.streams),
    }


def write() -> list[str]:
    """Keep the stories that are not kept yet; gives their names."""
    folder = GOLDEN / VERSION
    folder.mkdir(parents=True, exist_ok=True)
    new = {folder / f"{name}.json": tell() for name, tell in STORIES.items() if not (folder / f"{name}.json").exists()}
    for path, scenario in new.items():
        kept = {"expected": summary(scenario.state), "events": msgspec.Raw(SAGA_EVENTS.encode(scenario.log))}
        path.write_bytes(msgspec.json.format(msgspec.json.encode(kept), indent=1) + b"\n")
    return [path.name for path in new]


if __name__ == "__main__":
    print("kept:", *write())
