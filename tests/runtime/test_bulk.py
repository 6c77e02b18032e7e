"""One act on many sagas: what it would apply to, how fast it goes, and that none of them is ever forced."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import structlog
from tests.core.trips import Trip, booking, pivotal, trip
from tests.runtime.rig import Rig, reply, tell, virtual

from unwind.census import Tally
from unwind.core.attributes import Attribute
from unwind.core.events import CompensationStarted, SagaBlocked, SagaPaused, SagaResumed
from unwind.errors import InputError, NotFoundError, OverloadedError, UnavailableError
from unwind.ports import Query
from unwind.runtime import bulk
from unwind.runtime.bulk import Action, Bulk, BulkRun, Order, Preview
from unwind.runtime.engine import Engine
from unwind.runtime.limits import SECOND
from unwind.runtime.queries import Queries, SagaView

FOUND_BY: dict[str, Any] = {
    "traveller": Attribute(str, lambda context: context.traveller),
    "letters": Attribute(int, lambda context: len(context.traveller), amount=True),
}
TRIP = trip(attributes=FOUND_BY)
ADA = Query(attributes=(("traveller", "ada"),))


class Looking(Queries):
    """Lets something happen between looking at a saga and acting on it."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.meanwhile: Callable[[str], Awaitable[object]] | None = None

    async def show(self, saga_id: str) -> SagaView:
        view = await super().show(saga_id)
        if self.meanwhile is not None:
            await self.meanwhile(saga_id)
        return view


class Desk:
    """A rig with sagas that wait for their participant, and whoever acts on them."""

    def __init__(self, rig: Rig, engine: Engine) -> None:
        self.rig = rig
        self.engine = engine
        self.queries = Looking(rig.scripted)
        self.bulk = Bulk(engine, self.queries, rig.clock, rig.new_id)

    async def begun(self, *travellers: str) -> list[str]:
        return [(await self.engine.start(self.engine_saga, Trip(name))).saga_id for name in travellers]

    @property
    def engine_saga(self) -> Any:
        return self.rig.sagas[0]

    async def begin(self, action: Action, query: Query, per_second: int = 10) -> BulkRun:
        order = Order(action, query, "ann", "the mill burns", per_second)
        return await self.bulk.begin(order, await self.bulk.preview(action, query))

    async def end(self, run: BulkRun) -> BulkRun:
        await self.rig.until(lambda: self.bulk.progress(run.id).state != "running", 600)
        return self.bulk.progress(run.id)


async def at_the_desk(*sagas: Any) -> Desk:
    rig = Rig(*(sagas or (TRIP,)))
    return Desk(rig, await rig.launch())


def told(run: BulkRun) -> tuple[str, int, int, int, int]:
    return run.state, run.total, run.applied, run.refused, run.left


# -------------------------------------------------------------------------------------------------------------- preview


@virtual
async def test_a_preview_tells_what_is_matched_and_what_the_act_is_of_use_for() -> None:
    desk = await at_the_desk()
    ada, *_ = await desk.begun("ada", "ada", "ada", "bob")
    await desk.engine.cancel(ada, actor="ann")
    expected = {
        "cancel": (Tally("trip", "running", 2, 6),),
        "resume": (Tally("trip", "compensating", 1, 3), Tally("trip", "running", 2, 6)),
        "retry": (Tally("trip", "compensating", 1, 3), Tally("trip", "running", 2, 6)),
    }
    before = len(desk.rig.scripted.units)
    for action, applicable in expected.items():
        preview = await desk.bulk.preview(action, ADA)  # type: ignore[arg-type]
        assert preview == Preview(expected["resume"], applicable)
        assert preview.applies_to == sum(tally.count for tally in applicable)
    assert (await desk.bulk.preview("cancel", Query())).applies_to == 3
    assert (await desk.bulk.preview("cancel", Query(statuses=("completed",)))).applies_to == 0
    assert len(desk.rig.scripted.units) == before


# -------------------------------------------------------------------------------------------------------- carrying out


@pytest.mark.parametrize(("action", "event"), [("cancel", CompensationStarted), ("resume", SagaResumed)])
def test_each_saga_is_acted_on_as_by_a_single_act(action: Action, event: Any) -> None:
    @virtual
    async def happen() -> None:
        desk = await at_the_desk()
        *adas, bob = await desk.begun("ada", "ada", "bob")
        ended = await desk.end(await desk.begin(action, ADA))
        assert told(ended) == ("done", 2, 2, 0, 0)
        assert (ended.refusals, ended.note, ended.action, ended.limit_per_second) == ((), "", action, 10)
        for saga_id in adas:
            [act] = [each for each in desk.rig.scripted.events(saga_id) if isinstance(each, event)]
            assert (act.actor, act.reason) == ("ann", "the mill burns")
        assert not any(isinstance(each, event) for each in desk.rig.scripted.events(bob))

    happen()


@virtual
async def test_what_waits_for_its_next_attempt_is_retried_and_what_does_not_is_refused_with_its_reason() -> None:
    desk = await at_the_desk()
    waiting, running = await desk.begun("ada", "ada")
    tell(desk.engine, waiting, "flight", outcome="failed")
    await desk.rig.until(lambda: len(desk.rig.scripted.events(waiting)) == 3)
    ended = await desk.end(await desk.begin("retry", ADA))
    assert told(ended) == ("done", 2, 1, 1, 0)
    [refused] = ended.refusals
    assert (refused.saga_id, "is not in a state for it: nothing in it is blocked" in refused.reason) == (running, True)


@virtual
async def test_past_the_point_of_no_return_a_cancel_is_refused() -> None:
    desk = await at_the_desk(pivotal(attributes=FOUND_BY))
    [saga_id] = await desk.begun("ada")
    tell(desk.engine, saga_id, "flight")
    await desk.rig.until(lambda: len(desk.rig.scripted.events(saga_id)) == 4)
    ended = await desk.end(await desk.begin("cancel", ADA))
    assert (told(ended), "past its point of no return" in ended.refusals[0].reason) == (("done", 1, 0, 1, 0), True)


@virtual
async def test_a_cancel_of_what_is_being_undone_already_is_refused_and_changes_nothing() -> None:
    desk = await at_the_desk()
    [saga_id] = await desk.begun("ada")
    await desk.engine.cancel(saga_id, actor="ann")
    tell(desk.engine, saga_id, "flight", direction="undo", outcome="refused")
    await desk.rig.until(lambda: isinstance(desk.rig.scripted.events(saga_id)[-1], SagaBlocked))
    before = desk.rig.scripted.events(saga_id)
    ended = await desk.end(await desk.begin("cancel", ADA))
    assert told(ended) == ("done", 1, 0, 1, 0)
    assert "is being undone already; nothing changed" in ended.refusals[0].reason
    assert desk.rig.scripted.events(saga_id) == before


@virtual
async def test_at_most_so_many_a_second_the_oldest_first() -> None:
    desk = await at_the_desk()
    begun = []
    for _ in range(9):
        begun += await desk.begun("ada")
        await desk.rig.elapse(0.001)
    run = await desk.begin("cancel", ADA, per_second=3)
    started = desk.rig.clock.monotonic()
    ended = await desk.end(run)
    acts = [
        (e.at, saga) for saga in begun for e in desk.rig.scripted.events(saga) if isinstance(e, CompensationStarted)
    ]
    assert [saga for _, saga in sorted(acts)] == begun
    times = [at for at, _ in sorted(acts)]
    assert all(later - sooner >= SECOND for sooner, later in zip(times, times[3:], strict=False))
    assert 2.6 < (desk.rig.clock.monotonic() - started) / SECOND < 3.1
    assert (ended.started_at < (ended.ended_at or ""), told(ended)) == (True, ("done", 9, 9, 0, 0))


@virtual
async def test_there_is_no_catching_up_after_a_slow_act() -> None:
    desk = await at_the_desk()
    begun = await desk.begun(*["ada"] * 6)
    desk.rig.scripted.gate.clear()
    run = await desk.begin("cancel", ADA, per_second=2)
    await desk.rig.elapse(4)
    desk.rig.scripted.gate.set()
    await desk.end(run)
    times = sorted(e.at for saga in begun for e in desk.rig.scripted.events(saga) if isinstance(e, CompensationStarted))
    # The first was decided before it was held up.
    assert all(later - sooner >= SECOND for sooner, later in zip(times[1:], times[3:], strict=False))


@virtual
async def test_more_sagas_than_a_page_are_all_acted_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "PAGE", 3)
    desk = await at_the_desk()
    await desk.begun(*["ada"] * 8)
    assert told(await desk.end(await desk.begin("cancel", ADA, 1_000))) == ("done", 8, 8, 0, 0)


@virtual
async def test_a_filter_that_fits_nothing_the_act_is_of_use_for_does_nothing() -> None:
    desk = await at_the_desk()
    await desk.begun("ada")
    for query in (Query(statuses=("completed", "compensating")), Query(attributes=(("traveller", "eve"),))):
        assert told(await desk.end(await desk.begin("cancel", query))) == ("done", 0, 0, 0, 0)


# --------------------------------------------------------------------------------------------------------- never forced


@virtual
async def test_a_saga_that_has_moved_on_before_its_turn_is_refused() -> None:
    desk = await at_the_desk()
    first, second = await desk.begun("ada", "ada")
    run = await desk.begin("cancel", Query(statuses=("running",)), per_second=1)
    await desk.rig.until(lambda: desk.bulk.progress(run.id).applied == 1)
    await desk.engine.pause(second, actor="bea")
    ended = await desk.end(run)
    assert told(ended) == ("done", 2, 1, 1, 0)
    assert [(each.saga_id, each.reason) for each in ended.refusals] == [(second, "it has moved on: it is paused now")]
    assert isinstance(desk.rig.scripted.events(second)[-1], SagaPaused)
    assert first != second


@virtual
async def test_a_saga_that_moves_between_the_look_and_the_act_is_looked_at_again() -> None:
    desk = await at_the_desk()
    [saga_id] = await desk.begun("ada")
    steps = iter(["flight"])

    async def answered(_: str) -> None:
        for step in steps:
            tell(desk.engine, saga_id, step)
            await desk.rig.elapse(0.1)
            break

    desk.queries.meanwhile = answered
    # It is running still, so it is what was asked for.
    assert told(await desk.end(await desk.begin("cancel", Query(statuses=("running",))))) == ("done", 1, 1, 0, 0)


@virtual
async def test_one_that_leaves_the_filter_between_the_look_and_the_act_is_left_alone() -> None:
    desk = await at_the_desk()
    [saga_id] = await desk.begun("ada")

    async def paused(_: str) -> None:
        await desk.engine.pause(saga_id, actor="bea")

    desk.queries.meanwhile = paused
    ended = await desk.end(await desk.begin("cancel", Query(statuses=("running",))))
    assert (told(ended), ended.refusals[0].reason) == (("done", 1, 0, 1, 0), "it has moved on: it is paused now")


@virtual
async def test_one_that_never_stands_still_is_refused_at_last() -> None:
    desk = await at_the_desk()
    [saga_id] = await desk.begun("ada")

    async def resumed(_: str) -> None:
        await desk.engine.resume(saga_id, actor="bea")

    desk.queries.meanwhile = resumed
    ended = await desk.end(await desk.begin("cancel", ADA))
    assert (told(ended), "has moved on" in ended.refusals[0].reason) == (("done", 1, 0, 1, 0), True)


# ---------------------------------------------------------------------------------------------------- what goes wrong


@virtual
async def test_a_saga_whose_definition_nobody_here_knows_is_refused_and_the_others_go_on() -> None:
    other = trip(booking("boat"), version=2, attributes=FOUND_BY)
    desk = await at_the_desk()
    both = await desk.rig.launch("w2", TRIP, other)
    unknown = (await both.start(other, Trip("ada"))).saga_id
    await desk.begun("ada")
    ended = await desk.end(await desk.begin("cancel", ADA))
    assert told(ended) == ("done", 2, 1, 1, 0)
    assert (ended.refusals[0].saga_id, "which this process does not know" in ended.refusals[0].reason) == (
        unknown,
        True,
    )


@virtual
async def test_where_the_store_falls_silent_the_run_ends_and_says_how_far_it_came() -> None:
    desk = await at_the_desk()
    await desk.begun("ada", "ada", "ada")
    run = await desk.begin("cancel", ADA, per_second=1)
    await desk.rig.until(lambda: desk.bulk.progress(run.id).applied == 1)
    fallen = UnavailableError("scripted: the store is down")

    async def silent(*_: object, **__: object) -> Any:
        raise fallen

    desk.queries.show = silent  # type: ignore[method-assign]
    desk.queries.now = silent  # type: ignore[method-assign]
    ended = await desk.end(run)
    assert told(ended) == ("interrupted", 3, 1, 0, 2)
    assert ended.note == "it cannot go on (scripted: the store is down); begin it anew for what is left"


@virtual
async def test_a_mistake_of_ours_does_not_look_like_a_run_that_goes_on() -> None:
    desk = await at_the_desk()
    await desk.begun("ada")

    async def mistaken(_: str) -> None:
        raise ZeroDivisionError

    desk.queries.meanwhile = mistaken
    ended = await desk.end(await desk.begin("cancel", ADA))
    assert (told(ended), ended.note) == (("interrupted", 1, 0, 0, 1), "it failed; the log says why")


# --------------------------------------------------------------------------------------------------------------- limits


@virtual
async def test_what_is_too_much_is_refused_before_it_begins() -> None:
    desk = await at_the_desk()
    order = Order("cancel", Query(), "ann", "", 1)
    with pytest.raises(InputError, match="would apply to 100001 sagas, and one run takes 100000: narrow the filter"):
        await desk.bulk.begin(order, Preview((), (Tally("trip", "running", 100_001),)))
    await desk.begun("ada", "ada")
    runs = [await desk.begin("resume", ADA, 1) for _ in range(4)]
    with pytest.raises(OverloadedError, match="4 bulk runs are under way in this process"):
        await desk.begin("resume", ADA)
    for run in runs:
        assert (await desk.end(run)).state == "done"
    await desk.end(await desk.begin("resume", ADA))


@virtual
async def test_only_so_many_refusals_are_named_and_so_many_runs_kept() -> None:
    desk = await at_the_desk(pivotal(attributes=FOUND_BY))
    first = await desk.begin("retry", Query())
    await desk.begun(*["ada"] * 105)
    ended = await desk.end(await desk.begin("retry", Query(), 1_000))
    assert (told(ended), len(ended.refusals)) == (("done", 105, 0, 105, 0), 100)
    for _ in range(48):
        await desk.end(await desk.begin("retry", Query(definition="none")))
    assert desk.bulk.progress(first.id).state == "done"
    await desk.end(await desk.begin("retry", Query(definition="none")))
    with pytest.raises(NotFoundError, match="this process knows no such bulk run: each is known only to the process"):
        desk.bulk.progress(first.id)
    with pytest.raises(NotFoundError):
        desk.bulk.halt("nothing")


# ----------------------------------------------------------------------------------------------------------------- ends


@virtual
async def test_an_operator_ends_a_run_between_two_acts() -> None:
    desk = await at_the_desk()
    await desk.begun("ada", "ada", "ada")
    run = await desk.begin("cancel", ADA, per_second=1)
    await desk.rig.until(lambda: desk.bulk.progress(run.id).applied == 2)
    assert desk.bulk.halt(run.id, "the wrong ones").state == "running"
    desk.bulk.halt(run.id, "once more")
    ended = await desk.end(run)
    assert (told(ended), ended.note) == (("interrupted", 3, 2, 0, 1), "stopped by an operator: the wrong ones")


@virtual
async def test_a_graceful_stop_ends_a_run_between_two_acts_and_it_says_how_far_it_came() -> None:
    desk = await at_the_desk()
    await desk.begun("ada", "ada", "ada")
    run = await desk.begin("cancel", ADA, per_second=1)
    desk.rig.scripted.gate.clear()
    await desk.rig.until(lambda: desk.rig.scripted.calls["commit"] == 4)
    with structlog.testing.capture_logs() as lines:
        stopping = asyncio.create_task(desk.bulk.stop())
        await desk.rig.elapse(0.5)
        assert not stopping.done()  # the act in hand is not torn
        desk.rig.scripted.gate.set()
        await stopping
    ended = desk.bulk.progress(run.id)
    assert told(ended) == ("interrupted", 3, 1, 0, 2)
    assert ended.note == "the process was stopped; begin it anew for what is left"
    [line] = [line for line in lines if line["event"] == "bulk_ended"]
    assert (line["applied"], line["refused"], line["left"], line["log_level"]) == (1, 0, 2, "warning")
    await desk.rig.stop(desk.engine)
    with pytest.raises(UnavailableError, match="this process is stopping"):
        await desk.begin("cancel", ADA)


@virtual
async def test_a_store_that_hangs_does_not_hold_the_process() -> None:
    desk = await at_the_desk()
    await desk.begun("ada", "ada")
    run = await desk.begin("cancel", ADA, per_second=1)
    desk.rig.scripted.gate.clear()
    await desk.rig.until(lambda: desk.rig.scripted.calls["commit"] == 3)
    before = desk.rig.clock.monotonic()
    await desk.bulk.stop()
    await desk.rig.elapse(0.1)
    assert desk.rig.clock.monotonic() - before < 6 * SECOND
    assert told(desk.bulk.progress(run.id)) == ("interrupted", 2, 0, 0, 2)
    desk.rig.scripted.gate.set()


@virtual
async def test_stopping_without_runs_is_nothing() -> None:
    desk = await at_the_desk()
    await desk.bulk.stop()
    await desk.begun("ada")
    await desk.end(await desk.begin("cancel", ADA))
    await desk.bulk.stop()


@virtual
async def test_an_engine_that_stops_first_ends_the_run() -> None:
    desk = await at_the_desk()
    await desk.begun("ada", "ada")
    run = await desk.begin("cancel", ADA, per_second=1)
    await desk.rig.until(lambda: desk.bulk.progress(run.id).applied == 1)
    await desk.rig.stop(desk.engine)
    ended = await desk.end(run)
    assert (told(ended), "this process is stopping" in ended.note) == (("interrupted", 2, 1, 0, 1), True)


@virtual
async def test_sagas_that_end_by_themselves_meanwhile_are_refused() -> None:
    desk = await at_the_desk()
    await desk.begun("ada", "ada")
    run = await desk.begin("cancel", ADA, per_second=1)
    await desk.rig.until(lambda: desk.bulk.progress(run.id).applied == 1)
    await desk.rig.agency(reply)
    newest = (await desk.rig.scripted.find(Query()))[0].id
    await desk.engine.resume(newest, actor="bea")
    ended = await desk.end(run)
    assert (told(ended), ended.refusals[0].reason) == (("done", 2, 1, 1, 0), "it has moved on: it is completed now")


@virtual
async def test_what_was_not_seen_in_the_preview_is_not_acted_on() -> None:
    desk = await at_the_desk()
    [saga_id] = await desk.begun("ada")
    preview = await desk.bulk.preview("cancel", ADA)
    [late] = await desk.begun("ada")
    run = await desk.bulk.begin(Order("cancel", ADA, "ann", "", 10, preview.applies_to), preview)
    ended = await desk.end(run)
    assert told(ended) == ("interrupted", 2, 0, 0, 2)
    assert ended.note == "it would apply to 2 sagas now, not 1; nothing was done"
    for each in (saga_id, late):
        assert not any(isinstance(event, CompensationStarted) for event in desk.rig.scripted.events(each))
