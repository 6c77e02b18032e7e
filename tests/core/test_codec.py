"""Names and bytes: what was written is read for ever, and what is not understood is said, never guessed."""

from decimal import Decimal
from typing import get_args
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Raw, Struct
from msgspec.structs import replace
from tests.core.chance import TRIED
from tests.core.trips import BOOKED, Trip, trip

from unwind.core.codec import SAGA_EVENTS, SNAPSHOT_CODEC, Document, EventCodec, fold, read_snapshot, take_snapshot
from unwind.core.events import Event, SagaCompleted, StepDone, StepSkipped
from unwind.core.state import NEW, State
from unwind.errors import CodecError
from unwind.testing.scenario import Scenario, ok

NAMES = {
    "action_taken_over/1",
    "attempt_parked/1",
    "attempt_released/1",
    "compensation_started/1",
    "domain_recorded/1",
    "items_listed/1",
    "resolved_by_hand/1",
    "retry_ordered/1",
    "saga_blocked/1",
    "saga_compensated/1",
    "saga_completed/1",
    "saga_paused/1",
    "saga_resumed/1",
    "saga_started/1",
    "signal_received/1",
    "step_done/1",
    "step_failed/1",
    "step_refused/1",
    "step_retried/1",
    "step_settled/1",
    "step_skipped/1",
    "step_started/1",
    "step_unknown/1",
    "turning_round/1",
    "undo_done/1",
    "undo_failed/1",
    "undo_retried/1",
    "undo_skipped/1",
    "undo_started/1",
}


st.register_type_strategy(
    Raw, st.sampled_from([Raw(text) for text in (b"null", b"[1.10,-0]", b'{"a":{"b":"\\u00e9"}}')])
)


def test_stored_names_are_never_changed() -> None:
    assert {str(kind.__struct_config__.tag) for kind in get_args(Event)} == NAMES


@pytest.mark.parametrize("kind", get_args(Event), ids=lambda kind: kind.__name__)
def test_every_event_comes_back_as_it_was_written(kind: type[Event]) -> None:
    @settings(TRIED, max_examples=25)
    @given(st.lists(st.from_type(kind), min_size=1, max_size=3))
    def comes_back(events: list[Event]) -> None:
        assert SAGA_EVENTS.decode(SAGA_EVENTS.encode(events)) == events

    comes_back()


def test_fields_of_later_versions_are_ignored() -> None:
    data = b'[{"type":"step_skipped/1","at":1,"step":"a","mood":"good"}]'
    assert SAGA_EVENTS.decode(data) == [StepSkipped(1, "a")]


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON"),
        (b"[{", "not JSON"),
        (b'[{"type":"step_skipped/1","at":1,"step":"\xff"}]', "not JSON"),
        (b'{"type":"step_skipped/1"}', "not a JSON list of objects"),
        (b"[5]", "not a JSON list of objects"),
        (b'[{"type":"step_leapt/1","at":1,"step":"\xff"}]', "not a JSON list of objects"),
        (b'[{"type":"step_leapt/1","at":1}]', "'step_leapt/1' is not understood"),
        (b'[{"at":1}]', "'None' is not understood"),
        (b'[{"type":"step_skipped/1","at":"noon","step":"a"}]', "'step_skipped/1' is not understood"),
    ],
)
def test_what_is_not_understood_is_said(data: bytes, complaint: str) -> None:
    with pytest.raises(CodecError, match=complaint):
        SAGA_EVENTS.decode(data)


# ---------------------------------------------------------------------------------------------------------- upcasters


class Paid(Struct, frozen=True, tag_field="type", tag="paid/3"):
    cents: int
    rate: Decimal
    note: Raw = Raw(b"null")


class Posted(Struct, frozen=True, tag_field="type", tag="posted/1"):
    rate: Raw


def from_the_first(document: Document) -> Document:
    return {**document, "type": "paid/2", "cents": document["euros"] * 100}


def from_the_second(document: Document) -> Document:
    return {**document, "type": "paid/3", "rate": document.get("rate", 1)}


PAYMENTS: EventCodec[Paid | Posted] = EventCodec(
    Paid | Posted, {"paid/1": from_the_first, "paid/2": from_the_second, "lost/1": lambda document: document}
)


def test_old_events_are_raised_one_version_at_a_time_beside_new_ones() -> None:
    data = b'[{"type":"paid/1","euros":5},{"type":"paid/3","cents":7,"rate":"1.5"},{"type":"paid/2","cents":8}]'
    assert PAYMENTS.decode(data) == [Paid(500, Decimal(1)), Paid(7, Decimal("1.5")), Paid(8, Decimal(1))]


def test_numbers_stay_exact_on_the_way_through_an_upcaster() -> None:
    data = b'[{"type":"paid/1","euros":12345678901234567890,"rate":0.1000000000000000000001,"note":[1.10]}]'
    (paid,) = PAYMENTS.decode(data)
    assert paid == Paid(1234567890123456789000, Decimal("0.1000000000000000000001"), Raw(b"[1.10]"))


def test_an_event_beside_an_outdated_one_is_read_as_it_stands() -> None:
    data = b'[{"type":"posted/1","rate":12345678901234567.89},{"type":"paid/1","euros":1}]'
    assert PAYMENTS.decode(data)[0] == Posted(Raw(b"12345678901234567.89"))


def test_an_upcaster_that_leads_nowhere_is_found_out() -> None:
    with pytest.raises(CodecError, match="the upcaster of 'lost/1' does not lead to a newer version"):
        PAYMENTS.decode(b'[{"type":"lost/1"}]')


# ------------------------------------------------------------------------------------------------- folds and snapshots


def story() -> Scenario[Trip]:
    return Scenario(trip()).given(Trip()).when(ok("flight", BOOKED))


def test_a_log_folds_commit_by_commit_from_anywhere() -> None:
    scenario = story()
    head, tail = SAGA_EVENTS.encode(scenario.log[:2]), SAGA_EVENTS.encode(scenario.log[2:])
    assert fold([(1, head), (3, tail)]) == scenario.state
    assert fold([(3, tail)], fold([(1, head)])) == scenario.state
    assert fold([]) == NEW


def test_a_gap_in_the_log_is_found_out() -> None:
    scenario = story()
    head, tail = SAGA_EVENTS.encode(scenario.log[:2]), SAGA_EVENTS.encode(scenario.log[3:])
    with pytest.raises(CodecError, match="saga-1: the log goes from event 2 to 4; restore it from a backup"):
        fold([(1, head), (4, tail)])


def test_a_snapshot_gives_the_state_back() -> None:
    state = story().state
    snapshot = take_snapshot(state)
    assert (snapshot.version, snapshot.codec) == (state.version, SNAPSHOT_CODEC)
    assert read_snapshot(snapshot) == state


def test_a_snapshot_that_is_not_to_be_believed_is_ignored() -> None:
    snapshot = take_snapshot(story().state)
    damaged = snapshot.data.replace(b"flight", b"fright")
    broken, foreign = b'{"saga_id":', b'{"saga_id":5}'
    for wrong in (
        replace(snapshot, codec=SNAPSHOT_CODEC + 1),
        replace(snapshot, data=damaged),
        replace(snapshot, checksum=snapshot.checksum + 1),
        replace(snapshot, version=snapshot.version + 1),
        replace(snapshot, data=broken, checksum=crc32(broken)),
        replace(snapshot, data=foreign, checksum=crc32(foreign)),
    ):
        assert read_snapshot(wrong) is None


@settings(TRIED, max_examples=25)
@given(st.builds(State, runs=st.just(())))
def test_any_state_survives_its_snapshot(state: State) -> None:
    assert read_snapshot(take_snapshot(state)) == state


def test_an_unchanged_context_takes_no_room_in_the_log() -> None:
    assert SAGA_EVENTS.encode([StepDone(1, "a", 1), SagaCompleted(2)]) == (
        b'[{"type":"step_done/1","at":1,"step":"a","attempt":1},{"type":"saga_completed/1","at":2}]'
    )
