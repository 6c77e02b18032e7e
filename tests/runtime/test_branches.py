"""Branches that fail, by the public API: all of them settle, then each is undone backwards; in virtual time."""

from collections.abc import Iterator
from itertools import islice, permutations, product
from random import Random
from typing import Any

import pytest
from msgspec import Raw
from tests.core.trips import Trip, booking, parcels, stay, trip
from tests.runtime.rig import Rig, reply, tell, virtual

from unwind.core.events import CompensationStarted, StepDone, StepRefused, StepUnknown, UndoDone, UndoStarted
from unwind.core.groups import Parallel
from unwind.core.steps import Kind, Retry
from unwind.ports import Message
from unwind.runtime.families import child_id
from unwind.runtime.limits import Limits

ORDERS = 20
ONCE: Any = {"retry": Retry.none()}
BRANCHES = trip(
    booking("visa"),
    Parallel(*([booking(f"{name}1"), booking(f"{name}2", **ONCE)] for name in "abc")),
)
OUTCOMES = ("ok", "refused", "silent")


def orders(seed: int) -> Iterator[tuple[str, ...]]:
    """In which order the branches come to their second step's answer: all six, and more by chance."""
    yield from permutations("abc")
    chance = Random(seed)
    while True:
        yield tuple(chance.sample("abc", 3))


@pytest.mark.parametrize("outcomes", list(product(OUTCOMES, repeat=3)), ids=" ".join)
def test_whatever_becomes_of_three_branches_all_settle_and_each_is_undone_backwards(outcomes: tuple[str, ...]) -> None:
    says = dict(zip("abc", outcomes, strict=True))

    @virtual
    async def happen() -> None:
        rig = Rig(BRANCHES, limits=Limits(circuit_after=0))
        turns = list(islice(orders(sum(map(ord, "".join(outcomes)))), ORDERS))
        places = {name: [turn.index(name) for turn in turns] for name in "abc"}
        number: dict[str, int] = {}

        def answer(command: Message) -> Message | None:
            branch = command.step[0]
            if command.direction == "undo" or not command.step.endswith("2"):
                return reply(command)
            if says[branch] == "silent":
                return None
            # Each branch is heard in its turn: later ones when the command is sent again.
            waited = number[f"{command.saga_id} {branch}"] = number.get(f"{command.saga_id} {branch}", -1) + 1
            if waited < places[branch][ids.index(command.saga_id)]:
                return None
            return reply(command, says[branch], reason="no")

        ids: list[str] = []
        await rig.agency(answer)
        engine = await rig.launch(sweeps=True)
        for _ in turns:
            ids.append(f"order-{len(ids)}")
            await engine.start(BRANCHES, Trip(), saga_id=ids[-1])
        await rig.elapse(200)
        for saga_id in ids:
            check(rig, saga_id, says)

    happen()


def check(rig: Rig, saga_id: str, says: dict[str, str]) -> None:
    log = rig.scripted.events(saga_id)
    failing = [name for name, said in says.items() if said != "ok"]
    assert rig.scripted.status(saga_id) == ("compensated" if failing else "completed")
    if not failing:
        return
    turned = next(place for place, event in enumerate(log) if isinstance(event, CompensationStarted))
    over = [event for event in log if isinstance(event, StepDone | StepRefused | StepUnknown)]
    settled = {event.step for event in log[:turned] if event in over}
    assert {f"{name}{number}" for name in says for number in "12"} <= settled, "all branches settle first"
    unknown = {event.step for event in over if isinstance(event, StepUnknown)}
    done = {event.step for event in over if isinstance(event, StepDone)}
    undone = [event.step for event in log if isinstance(event, UndoDone)]
    assert sorted(undone) == sorted(done | unknown), "all that was done, or may have been, each once"
    begun = [event.step for event in log if isinstance(event, UndoStarted)]
    for name in "abc":
        mine = [step for step in begun if step.startswith(name)]
        assert mine == sorted(mine, reverse=True), "backwards"
    assert undone[-1] == "visa", "what stands before the group comes last"


@virtual
async def test_each_branch_is_sent_again_in_its_own_time_and_not_in_that_of_the_others() -> None:
    """Found by an attack: every branch woke the saga, and each wake-up sent all of them again."""
    saga = trip(Parallel(*([booking(f"a{number}"), booking(f"b{number}")] for number in range(20))))
    rig = Rig(saga, limits=Limits(circuit_after=0))
    sent: list[str] = []

    def answer(command: Message) -> None:
        sent.append(command.step)

    await rig.agency(answer)
    engine = await rig.launch(sweeps=True)
    await engine.start(saga, Trip(), saga_id="trip-1")
    for number in range(20):
        await rig.elapse(0.23)
        tell(engine, "trip-1", f"a{number}")
    await rig.elapse(24)
    asked = [step for step in sent if step.startswith("b")]
    assert 20 * 4 <= len(asked) <= 20 * 8


@virtual
async def test_a_saga_inside_a_saga_is_found_from_both_sides_and_survives_its_worker() -> None:
    saga = trip(booking("flight"), stay("hotel"), booking("car"))
    rig = Rig(saga)
    await rig.agency()
    first = await rig.launch("w1")
    started = await first.start(saga, Trip(), saga_id="trip-1")
    await rig.until(lambda: any(isinstance(event, StepDone) for event in rig.scripted.events("trip-1")))
    await rig.kill(first)  # with its word to the child, or the child's to it, perhaps
    second = await rig.launch("w2", sweeps=True)
    ended = await second.ended(started.saga_id)
    assert ended.status == "completed"
    child = await second.loop.state(child_id("trip-1", "hotel"))
    assert (child.status, child.parent) == ("completed", "trip-1/hotel")


@virtual
async def test_a_child_is_unwound_long_after_it_was_completed() -> None:
    saga = trip(stay("hotel"), booking("car"))
    rig = Rig(saga)
    await rig.agency(lambda command: reply(command, "refused" if command.step == "car" else "ok", reason="no"))
    engine = await rig.launch(sweeps=True)
    started = await engine.start(saga, Trip(), saga_id="trip-1")
    ended = await engine.ended(started.saga_id)
    assert ended.status == "compensated"
    assert rig.scripted.status(child_id("trip-1", "hotel")) == "compensated"


@virtual
async def test_a_child_that_the_store_refuses_is_told_to_its_parent() -> None:
    """Found by an attack: a parent past its pivot's start waited for ever, and nobody could do anything about it."""
    saga = trip(booking("flight"), stay("hotel", Kind.PIVOT))
    rig = Rig(saga)
    rig.scripted.poisoned.add(child_id("trip-1", "hotel"))
    await rig.agency()
    engine = await rig.launch(sweeps=True)
    await engine.start(saga, Trip(), saga_id="trip-1")
    await rig.elapse(60)
    assert rig.scripted.status("trip-1") == "blocked"
    await engine.resolve("trip-1", actor="ada", evidence="booked by phone", reply=Raw(b'{"code":"x"}'))
    assert rig.scripted.status("trip-1") == "completed"


@virtual
async def test_each_item_may_be_a_saga_of_its_own() -> None:
    saga = trip(parcels(stay("hotel"), of=("x", "y")))
    rig = Rig(saga)
    await rig.agency()
    engine = await rig.launch(sweeps=True)
    started = await engine.start(saga, Trip(), saga_id="trip-1")
    assert (await engine.ended(started.saga_id)).status == "completed"
    assert {rig.scripted.status(child_id("trip-1", f"hotel[{key}]")) for key in "xy"} == {"completed"}
