"""Definitions and the live sagas of a store, compared: what a deploy would strand is said before it is made."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from msgspec import Struct
from tests.core.trips import BOOKED, Trip, approval, booking, errand, nap, trip
from tests.runtime.rig import Rig, ScriptedStore, tell, virtual
from tests.runtime.test_rehearsal import raising

from unwind.core.codec import Snapshot
from unwind.core.saga import Saga
from unwind.core.steps import Kind
from unwind.errors import UnavailableError
from unwind.runtime import check as checking
from unwind.runtime.check import Report, check, check_definitions
from unwind.runtime.engine import Engine

OLD = trip(booking("flight"), booking("hotel"))
NEW = trip(booking("flight"), booking("insurance"), booking("hotel"), version=2)


async def begun(
    rig: Rig, saga: Saga[Any], *answers: str, worker: str = "w1", count: int = 1
) -> tuple[Engine, list[str]]:
    """Live sagas whose first steps were answered with yes; their worker."""
    engine = await rig.launch(worker, saga)
    ids = [(await engine.start(saga, Trip())).saga_id for _ in range(count)]
    for step in answers:
        for saga_id in ids:
            tell(engine, saga_id, step)
        await rig.elapse(0.1)
    return engine, ids


def reasons(report: Report) -> list[str]:
    return [found.reason for known in report.definitions for group in known.groups for found in group.findings]


@virtual
async def test_definitions_that_all_live_sagas_know_strand_nothing() -> None:
    rig = Rig()
    await begun(rig, OLD, count=2)
    _, [third] = await begun(rig, OLD, "flight", worker="w2")
    report = await check(rig.store, [OLD, NEW])
    assert (report.good, report.strands, report.warnings, report.unknown) == (True, 0, 0, ())
    [old, new] = report.definitions
    assert (old.revision, old.sagas) == (OLD.revision, 3)
    assert [(group.state, group.sagas, group.completes, group.turns) for group in old.groups] == [
        ("running: hotel, outstanding", 1, True, 2),
        ("running: flight, outstanding", 2, True, 4),
    ]
    assert old.groups[0].examples == (third,)
    assert (new.sagas, new.groups[0].state, new.groups[0].turns) == (0, "begun with a made-up context", 6)


@virtual
async def test_a_version_that_is_not_given_strands_its_sagas() -> None:
    rig = Rig()
    engine, ids = await begun(rig, OLD, count=5)
    await engine.pause(ids[0], actor="ann")
    report = await check(rig.store, [NEW])
    assert (report.good, report.strands) == (False, 5)
    [unknown] = report.unknown
    assert (unknown.revision, unknown.sagas, unknown.given) == (OLD.revision, 5, None)
    assert unknown.examples == tuple(sorted(ids)[:-4:-1])


@virtual
async def test_what_has_ended_needs_no_definition() -> None:
    rig = Rig()
    await rig.agency()
    engine, [saga_id] = await begun(rig, OLD)
    await engine.ended(saga_id)
    assert (await check(rig.store, [NEW])).good


@virtual
async def test_a_check_writes_nothing() -> None:
    rig = Rig()
    await begun(rig, OLD, "flight", count=3)
    before = (await rig.store.tail("reader", 1_000)).entries
    calls = dict(rig.scripted.calls)
    await check(rig.store, [OLD, NEW])
    changed = {name for name, count in rig.scripted.calls.items() if count != calls.get(name)}
    assert changed == {"load"}
    assert (await rig.store.tail("reader", 1_000)).entries == before
    assert (await rig.store.register([("trip", 2, "another")])).clashes == []


@virtual
async def test_pages_are_read_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "PAGE", 3)
    rig = Rig()
    await begun(rig, OLD, count=8)
    assert (await check(rig.store, [OLD])).definitions[0].sagas == 8
    assert (await check(rig.store, [])).unknown[0].sagas == 8


@virtual
async def test_a_saga_that_ends_while_it_is_read_is_left_out() -> None:
    class Ending(ScriptedStore):
        async def find(self, query: Any) -> Any:
            rows = await super().find(query)
            if query.live_on and rows:
                await engine.cancel(rows[0].id, actor="ann")
                await rig.elapse(1)
            return rows

    rig = Rig()
    store = Ending(rig.now)
    await rig.agency(lambda command: None)
    engine = await rig.launch("w1", trip(approval("boss")), store=store)
    await engine.start(trip(approval("boss")), Trip())
    report = await check(store, [trip(approval("boss"))])
    assert (report.good, report.definitions[0].sagas) == (True, 0)


@virtual
async def test_a_store_that_does_not_answer_is_no_verdict() -> None:
    rig = Rig()
    await begun(rig, OLD)
    rig.scripted.down = True
    with pytest.raises(UnavailableError):
        await check(rig.store, [OLD])


# ------------------------------------------------------------------------------------------------ changed, same version

CHANGES: dict[str, tuple[Saga[Any], Saga[Any], Sequence[str], Sequence[str]]] = {
    "a step is gone": (
        OLD,
        trip(booking("hotel")),
        (),
        ["step flight was begun, and is no step of it any more"],
    ),
    "steps in another order": (
        OLD,
        trip(booking("hotel"), booking("flight")),
        (),
        ["step flight was number 1, and is number 2 now"],
    ),
    "another timeout": (
        OLD,
        trip(booking("flight", timeout=timedelta(seconds=45)), booking("hotel")),
        (),
        ["the timeout of flight was 30 s, and is 45 s now"],
    ),
    "another lease": (
        trip(errand("flight"), booking("hotel")),
        trip(errand("flight", lease=timedelta(seconds=10)), booking("hotel")),
        (),
        ["the lease of flight was 30 s, and is 10 s now"],
    ),
    "another kind of step": (
        OLD,
        trip(errand("flight"), booking("hotel")),
        (),
        ["step flight was a command, and is an action now"],
    ),
    "it asks where it waited": (
        trip(nap("flight"), booking("hotel")),
        trip(booking("flight"), booking("hotel")),
        (),
        ["step flight was a sleep, and is a command now"],
    ),
    "a pivot": (
        OLD,
        trip(booking("flight", Kind.PIVOT), booking("hotel", Kind.RETRIABLE)),
        (),
        ["step flight was not the pivot, and is now"],
    ),
    "no pivot": (
        trip(booking("flight", Kind.PIVOT), booking("hotel", Kind.RETRIABLE)),
        OLD,
        (),
        ["step flight was the pivot, and is not now"],
    ),
    "a deadline": (
        OLD,
        trip(booking("flight"), booking("hotel"), deadline=timedelta(hours=1)),
        (),
        ["it has a deadline now"],
    ),
    "no deadline": (
        trip(booking("flight"), booking("hotel"), deadline=timedelta(hours=1)),
        OLD,
        (),
        ["it has no deadline any more"],
    ),
    "another deadline": (
        trip(booking("flight"), booking("hotel"), deadline=timedelta(hours=1)),
        trip(booking("flight"), booking("hotel"), deadline=timedelta(hours=2)),
        (),
        ["its deadline was 3600 s, and is 7200 s now"],
    ),
    "what no saga has come to": (OLD, trip(booking("flight"), booking("bus")), (), []),
    "what a saga has come to": (
        OLD,
        trip(booking("flight"), booking("bus")),
        ("flight",),
        ["step hotel was begun, and is no step of it any more"],
    ),
}


@pytest.mark.parametrize("change", CHANGES)
@virtual
async def test_a_definition_changed_under_its_version_strands_and_says_what_differs(change: str) -> None:
    before, after, answers, differences = CHANGES[change]
    rig = Rig()
    await begun(rig, before, *answers)
    report = await check(rig.store, [after])
    assert (report.good, report.strands, report.refuses) == (False, 1, ("trip@1",))
    [unknown] = report.unknown
    assert (unknown.revision, unknown.given, list(unknown.differences)) == (
        before.revision,
        after.revision,
        differences,
    )


class Voyage(Struct, frozen=True):
    traveller: str
    ship: str


@virtual
async def test_a_context_that_does_not_fit_is_named() -> None:
    rig = Rig()
    await begun(rig, OLD)
    after: Saga[Any] = Saga("trip", context=Voyage, steps=[booking("flight"), booking("hotel")])
    [unknown] = (await check(rig.store, [after])).unknown
    [difference] = unknown.differences
    assert difference.startswith("its contexts do not fit any more: ")
    assert "ship" in difference


@virtual
async def test_a_changed_definition_without_live_sagas_strands_nothing_and_refuses_to_start() -> None:
    rig = Rig()
    await rig.agency()
    engine, [saga_id] = await begun(rig, OLD)
    await engine.ended(saga_id)
    report = await check(rig.store, [trip(booking("flight"))])
    assert (report.good, report.strands, report.refuses, report.unknown) == (False, 0, ("trip@1",), ())


# ---------------------------------------------------------------------------------------------------------- rehearsed


@virtual
async def test_code_that_would_block_a_live_saga_strands_it() -> None:
    rig = Rig()
    await begun(rig, OLD, count=2)
    await begun(rig, OLD, "flight", worker="w2")
    broken = trip(booking("flight"), raising("hotel", "execute", KeyError("rate")))
    assert broken.hash == OLD.hash
    report = await check(rig.store, [broken])
    # Those that have not come to the hotel are stranded; the one that has was sent its command long ago.
    assert (report.good, report.strands) == (False, 2)
    assert reasons(report) == ["hotel.execute raised KeyError: 'rate'"]


@virtual
async def test_code_that_would_block_an_undo_strands_whoever_may_have_to_be_undone() -> None:
    rig = Rig()
    await begun(rig, OLD, "flight", count=2)
    report = await check(rig.store, [trip(raising("flight", "compensate", KeyError("code")), booking("hotel"))])
    assert (report.strands, reasons(report)) == (2, ["flight.compensate raised KeyError: 'code'"])


@virtual
async def test_sagas_whose_contexts_are_built_differently_are_rehearsed_apart() -> None:
    def rate(_: object, context: Trip) -> Any:
        return booking("hotel").execute(context) if context.traveller else 1 / 0

    rig = Rig()
    saga = trip(booking("flight"), booking("hotel", execute=rate))
    engine = await rig.launch("w1", saga)
    for name in ("ada", "bob", ""):
        await engine.start(saga, Trip(name))
    report = await check(rig.store, [saga])
    assert [group.sagas for group in report.definitions[0].groups] == [1, 2]
    assert report.strands == 1
    assert reasons(report) == ["hotel.execute raised ZeroDivisionError: division by zero"]


@virtual
async def test_real_answers_are_learnt_from_the_log() -> None:
    def coded(_: object, context: Trip, reply: Any) -> Trip:
        return Trip(context.traveller, (str({"x1": 1}[reply.code]),))

    rig = Rig()
    saga = trip(booking("flight", succeeded=coded), booking("hotel"))
    await begun(rig, saga)
    assert (await check(rig.store, [saga])).warnings == 1
    await begun(rig, saga, "flight", worker="w2")
    assert BOOKED.code == "x1"
    assert (await check(rig.store, [saga])).warnings == 0


@virtual
async def test_more_shapes_than_are_rehearsed_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "SHAPES", 1)
    rig = Rig()
    await begun(rig, OLD, count=2)
    await begun(rig, OLD, "flight", worker="w2")
    report = await check(rig.store, [OLD])
    assert (report.good, report.warnings, report.definitions[0].not_rehearsed) == (True, 1, 2)
    assert report.definitions[0].sagas == 3


@virtual
async def test_a_log_that_is_not_understood_strands_its_saga() -> None:
    rig = Rig()
    _, [saga_id] = await begun(rig, OLD)
    rig.scripted.corrupt(saga_id, b'[{"type":"saga_started/99"}]')
    report = await check(rig.store, [OLD])
    assert report.strands == 1
    [known] = report.definitions
    assert (known.sagas, known.unreadable) == (1, 1)
    [reason] = known.reasons
    assert reason.startswith(f"{saga_id}: stored event 'saga_started/99' is not understood")
    changed = await check(rig.store, [trip(booking("flight"))])
    assert changed.unknown[0].differences == ("its sagas' logs are not understood by this program",)


@virtual
async def test_snapshots_are_used_and_bad_ones_are_not_believed() -> None:
    rig = Rig()
    saga = trip(*(booking(f"part{number}") for number in range(8)))
    _, [saga_id] = await begun(rig, saga, *(f"part{number}" for number in range(6)))
    for spoil in (False, True):
        kept = rig.scripted.snapshot(saga_id)
        assert kept is not None
        if spoil:
            rig.scripted.put_snapshot(saga_id, Snapshot(kept.version, kept.codec, kept.checksum + 1, kept.data))
        [group] = (await check(rig.store, [saga])).definitions[0].groups
        assert (group.state, group.completes) == ("running: part6, outstanding", True)


@virtual
async def test_a_blocked_saga_is_told_as_such_and_rehearsed_as_if_its_trouble_were_over() -> None:
    rig = Rig()
    saga = trip(booking("flight"), booking("hotel"))
    engine, [saga_id] = await begun(rig, saga, "flight")
    await engine.cancel(saga_id, actor="ann")
    tell(engine, saga_id, "hotel", "undo", "refused")
    await rig.elapse(1)
    report = await check(rig.store, [saga])
    [group] = report.definitions[0].groups
    assert (report.good, group.state, group.completes) == (True, "blocked at the undo of hotel", True)


def test_definitions_alone_are_rehearsed_without_a_store() -> None:
    broken = trip(booking("flight"), raising("hotel", "execute", KeyError("rate")))
    report = check_definitions([OLD, broken])
    assert (report.good, report.warnings) == (True, 1)
    assert [known.sagas for known in report.definitions] == [0, 0]
