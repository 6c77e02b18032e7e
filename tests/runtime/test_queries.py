"""The read side: a history told from the log agrees with the machine that wrote it, whatever happened to the saga."""

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from tests.core.trips import booking, diary, errand, pivotal, trip
from tests.eventually import eventually

from unwind.census import Tally
from unwind.core.codec import SAGA_EVENTS, Snapshot, take_snapshot
from unwind.core.decide import decide
from unwind.core.events import Event, StepRetried, StepSkipped, StepStarted, UndoDone, UndoRetried, UndoStarted
from unwind.core.messages import Cancel, Input, Moment, Pause, Reply, Resume, Start, Tick
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.core.steps import SKIP
from unwind.errors import NotFoundError, UnavailableError
from unwind.ports import Loaded, Query, SagaRow, StreamAppend, Unit
from unwind.runtime.history import tell
from unwind.runtime.instants import instant
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore

SECOND = 1_000_000
BEGINNINGS = (StepStarted, StepRetried, StepSkipped, UndoStarted, UndoRetried)
OPEN = {"running", "compensating"}
SAGAS: list[Saga[Any]] = [
    trip(deadline=None),
    pivotal(),
    trip(errand("a"), booking("b"), diary("c"), booking("d", verdict=SKIP), errand("e")),
]
inputs = st.one_of(
    st.builds(
        Reply,
        st.just("replaced by drive"),
        st.sampled_from(["do", "undo"]),
        st.sampled_from(["ok", "ok", "refused", "failed"]),
        st.integers(1, 3),
        st.just(Raw(b'{"code":"x"}')),
        st.sampled_from(["", "because"]),
        st.booleans(),
    ),
    st.builds(Tick, st.just(0)),
    st.builds(Cancel, st.just("ann"), st.just("why not")),
    st.builds(Pause, st.just("ann")),
    st.builds(Resume, st.just("bob")),
)
trips = st.tuples(
    st.sampled_from(SAGAS), st.lists(st.tuples(inputs, st.integers(0, 20 * SECOND), st.integers(0, 5)), max_size=40)
)


def drive(saga: Saga[Any], steps: list[tuple[Input, int, int]]) -> tuple[list[Event], State]:
    """Feed inputs, mostly replies to what is outstanding, as time goes by."""
    moment = Moment(0, 0.5, "w1")
    decision = decide(saga, NEW, Start("s1", Raw(b"{}")), moment)
    events, state = [*decision.events], decision.state
    for given_message, passed, choice in steps:
        message = given_message
        moment = Moment(moment.at + passed, 0.5, "w1" if choice else "w2")
        if isinstance(message, Reply):
            current = next(iter(state.undos), None) or (state.runs[-1] if state.runs else None)
            step = current.step if current and choice else saga.plans[choice % len(saga.plans)].name
            attempt = current.attempt.number if current and choice > 1 else message.attempt
            direction = ("undo" if state.undos else "do") if choice else message.direction
            message = Reply(
                step, direction, message.outcome, attempt, message.payload, message.reason, message.timed_out
            )
        decision = decide(saga, state, message, moment)
        events += decision.events
        state = decision.state
    return events, state


@given(trips)
def test_every_attempt_has_one_entry_in_the_order_of_their_beginnings(case: tuple[Saga[Any], Any]) -> None:
    events, _ = drive(*case)
    entries = tell(events).entries
    begun = [event for event in events if isinstance(event, BEGINNINGS)]
    assert [entry.step_name for entry in entries] == [event.step for event in begun]
    assert [entry.direction == "undo" for entry in entries] == [
        isinstance(event, UndoStarted | UndoRetried) for event in begun
    ]
    assert all(one.started_at <= other.started_at for one, other in pairwise(entries))


@given(trips)
def test_attempts_of_a_step_are_numbered_without_a_gap(case: tuple[Saga[Any], Any]) -> None:
    seen: Counter[tuple[str, str]] = Counter()
    for entry in tell(drive(*case)[0]).entries:
        seen[entry.step_name, entry.direction] += 1
        assert entry.attempt == seen[entry.step_name, entry.direction]
        assert entry.retry_attempt == entry.attempt - 1


@given(trips)
def test_an_entry_is_open_failed_with_an_error_or_done_without_one(case: tuple[Saga[Any], Any]) -> None:
    events, state = drive(*case)
    entries = tell(events).entries
    for entry in entries:
        assert (entry.completed_at is None) == (entry.status in OPEN)
        assert entry.status in OPEN or (entry.error is not None) == (entry.status in {"failed", "timed_out"})
        assert entry.status not in {"compensating", "compensated"} or entry.direction == "undo"
        assert entry.status not in {"running", "completed", "skipped"} or entry.direction == "do"
        assert not entry.refused or entry.status == "failed"
        assert entry.error is None or entry.status not in OPEN or state.live
    assert sum(entry.status in OPEN for entry in entries) <= 1
    assert state.live or not any(entry.status in OPEN for entry in entries)


@given(trips)
def test_the_last_entry_of_a_step_says_what_the_state_says(case: tuple[Saga[Any], Any]) -> None:
    events, state = drive(*case)
    last = {(entry.step_name, entry.direction): entry for entry in tell(events).entries}
    for run in state.runs:
        entry = last[run.step, "do"]
        match run.status:
            case "done":
                assert entry.status == "completed"
            case "skipped":
                assert entry.status == "skipped"
            case "refused":
                assert entry.status == "failed"
                assert entry.refused
            case "backoff":
                assert entry.status in {"failed", "timed_out"}
                assert entry.retry_at == instant(run.retry_at)
            case "unknown":
                assert entry.status in {"failed", "timed_out"}
            case "outstanding":
                assert entry.status == ("failed" if (run.step, "undo") in last else "running")
    for under_way in state.undos:
        undo = last[under_way.step, "undo"]
        assert (undo.status == "compensating") == (under_way.status == "outstanding")
    if state.blocked is not None and last.get((state.blocked.step, state.blocked.direction)) is not None:
        entry = last[state.blocked.step, state.blocked.direction]
        assert entry.status not in OPEN or entry.error == state.blocked.reason


@given(trips)
def test_compensations_stand_in_reverse_order_and_are_all_there_when_the_saga_is_compensated(
    case: tuple[Saga[Any], Any],
) -> None:
    events, state = drive(*case)
    entries = tell(events).entries
    done = list(dict.fromkeys(entry.step_name for entry in entries if entry.direction == "do"))
    undone = list(dict.fromkeys(entry.step_name for entry in entries if entry.direction == "undo"))
    assert undone == sorted(undone, key=done.index, reverse=True)
    compensated = [entry.step_name for entry in entries if entry.status == "compensated"]
    assert compensated == [event.step for event in events if isinstance(event, UndoDone)]
    if state.status == "compensated":
        assert compensated == undone


@given(trips)
def test_later_events_add_to_a_history_and_never_reorder_it(case: tuple[Saga[Any], Any]) -> None:
    events, _ = drive(*case)
    whole = [(entry.step_name, entry.direction, entry.started_at) for entry in tell(events).entries]
    for length in range(len(events)):
        part = tell(events[:length]).entries
        assert [(entry.step_name, entry.direction, entry.started_at) for entry in part] == whole[: len(part)]


def test_operators_acts_and_turns_are_listed_with_actor_and_reason() -> None:
    pause, resume, cancel = Pause("ann", "looking"), Resume("ann", "fine"), Cancel("bob", "customer called")
    events, _ = drive(trip(), [(pause, SECOND, 1), (resume, SECOND, 1), (cancel, SECOND, 1)])
    told = [(act.act, act.actor, act.reason) for act in tell(events).acts]
    assert told == [
        ("paused", "ann", "looking"),
        ("resumed", "ann", "fine"),
        ("cancelled", "bob", "customer called"),
    ]


def test_a_late_answer_to_an_attempt_that_timed_out_is_the_answer_that_counts() -> None:
    ok = Reply("flight", "do", "ok", 1, Raw(b'{"code":"x"}'))
    events, _ = drive(trip(), [(Tick(0), 31 * SECOND, 1)])
    assert tell(events).entries[0].status == "timed_out"
    events, _ = drive(trip(), [(Tick(0), 31 * SECOND, 1), (ok, SECOND, 1)])
    first = tell(events).entries[0]
    assert (first.status, first.error, first.completed_at) == ("completed", None, instant(32 * SECOND))


def test_instants_are_rfc_3339_with_six_digits_also_when_they_are_whole_seconds() -> None:
    assert instant(0) == "1970-01-01T00:00:00.000000Z"
    assert instant(1_764_000_000_000_001) == "2025-11-24T16:00:00.000001Z"
    assert instant(-1) == "1969-12-31T23:59:59.999999Z"


def stored(events: list[Event], state: State, snapshot: Snapshot | None = None) -> Unit:
    row = SagaRow("s1", "trip@1#x", "trip", state.shown_status, 10**18, "s1", 0, 0)
    return Unit(StreamAppend("s1", "saga", 1, len(events), SAGA_EVENTS.encode(events)), row, (), snapshot)


async def test_a_snapshot_that_cannot_be_believed_is_passed_over_for_the_log() -> None:
    events, state = drive(trip(), [(Cancel("ann"), SECOND, 1)])
    good = take_snapshot(state)
    bad = Snapshot(good.version, good.codec, good.checksum + 1, good.data)
    views = []
    for snapshot in (None, good, bad):
        store = MemoryStore(lambda: 0)
        await store.commit([stored(events, state, snapshot)])
        views.append(await Queries(store).show("s1"))
    assert views[0] == views[1] == views[2]
    assert views[0].status == "compensating"


async def test_unknown_sagas_and_streams_of_another_kind_are_not_found() -> None:
    store = MemoryStore(lambda: 0)
    events, state = drive(trip(), [])
    other = StreamAppend("order-1", "order", 1, 1, b'[{"type":"order.created/1"}]')
    unit = stored(events, state)
    await store.commit([Unit(unit.head, unit.row, (other,))])
    queries = Queries(store)
    for missing in ("s2", "order-1", ""):
        with pytest.raises(NotFoundError):
            await queries.show(missing)
        with pytest.raises(NotFoundError):
            await queries.history(missing)
    assert await queries.commits("order-1") == ((1, b'[{"type":"order.created/1"}]'),)


async def test_pages_follow_one_another_without_loss_or_repetition() -> None:
    store = MemoryStore(lambda: 0)
    for number in range(7):
        row = SagaRow(f"s{number}", "trip@1#x", "trip", "running", 10**18, "c", number // 2, 0)
        await store.commit([Unit(StreamAppend(f"s{number}", "saga", 1, 1, b"[]"), row)])
    queries = Queries(store)
    seen, place = [], None
    for expected in (3, 3, 1):
        page = await queries.find(Query(before=place, limit=3))
        assert len(page.sagas) == expected
        seen += [saga.saga_id for saga in page.sagas]
        place = page.next
    assert place is None
    assert seen == [f"s{number}" for number in (6, 5, 4, 3, 2, 1, 0)]


# ------------------------------------------------------------------------------------------ what a page of a list costs


LISTED = Unit(StreamAppend("s", "saga", 1, 1, b"[]"), SagaRow("s", "d@1#0", "d", "running", 1, "", 1, 1))


class Watched(MemoryStore):
    """Notes what it is asked; counting waits until it may."""

    def __init__(self) -> None:
        super().__init__(lambda: 0)
        self.asked: list[str] = []
        self.may_count = asyncio.Event()

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        self.asked.append("load")
        return await super().load(streams, snapshots=snapshots)

    async def tally(self, query: Query, amounts: Mapping[str, str]) -> Sequence[Tally]:
        self.asked.append(f"tally {query.definition}")
        await self.may_count.wait()
        return await super().tally(query, amounts)


async def test_a_page_without_what_is_parked_reads_no_saga() -> None:
    store = Watched()
    await store.commit([LISTED])
    assert [each.saga_id for each in (await Queries(store).find(Query(), parked=False)).sagas] == ["s"]
    assert store.asked == []
    await Queries(store).find(Query())
    assert store.asked == ["load"]


async def test_those_who_ask_for_one_count_share_the_next_one_and_never_one_under_way() -> None:
    store = Watched()
    queries = Queries(store)
    first = asyncio.create_task(queries.count(Query(), {}))
    await until(lambda: store.asked == ["tally "])
    await store.commit([LISTED])
    later = [asyncio.create_task(queries.count(Query(limit=n, before=(n, "x")), {})) for n in range(1, 20)]
    other = asyncio.create_task(queries.count(Query(definition="d"), {}))
    await until(lambda: len(queries._waiting) == 2)
    gone = asyncio.create_task(queries.count(Query(), {}))
    await asyncio.sleep(0)
    gone.cancel()
    store.may_count.set()
    await first
    assert [list(each) for each in await asyncio.gather(*later, other)] == [[Tally("d", "running", 1)]] * 20
    assert store.asked == ["tally ", "tally ", "tally d"]
    assert queries._waiting == {}


async def test_a_count_that_failed_is_told_to_whoever_shares_it() -> None:
    store = Watched()
    await store.close()
    store.may_count.set()
    asked = [Queries(store)] * 2
    found = await asyncio.gather(*(each.count(Query(), {}) for each in asked), return_exceptions=True)
    assert [type(each) for each in found] == [UnavailableError, UnavailableError]


async def until(holds: Callable[[], bool]) -> None:
    async def look() -> bool | None:
        return holds() or None

    await eventually(look, within=10)
