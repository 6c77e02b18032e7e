"""The picture of a saga: its lanes, rows, bars, ticks, and what it makes of what is extreme."""

from datetime import timedelta
from itertools import pairwise

import pytest
from tests.core.trips import BOOKED, Trip, approval, booking, trip

from unwind.core.foresight import foresee
from unwind.core.groups import Parallel
from unwind.core.steps import Retry
from unwind.dashboard.timeline import ROW, Lane, Picture, draw
from unwind.runtime.history import tell
from unwind.testing.scenario import (
    Scenario,
    cancel,
    failed,
    ok,
    refused,
    undo_refused,
    undone,
)


def drawn(story: Scenario[Trip]) -> Picture:
    plan = foresee(story.saga, story.state, story.now)
    picture = draw(story.state, tell(story.log), plan, story.now)
    check(picture)
    return picture


def check(picture: Picture) -> None:
    """What holds of every picture."""
    tops = [row.y for lane in picture.lanes for row in lane.rows]
    assert all(after - before >= ROW for before, after in pairwise(tops))
    assert picture.height > max(tops, default=0) + ROW - 1
    for lane in picture.lanes:
        for row in lane.rows:
            assert row.bars
            assert all(0 <= bar.x <= 100 and bar.width > 0 and bar.x + bar.width <= 100.01 for bar in row.bars)
            assert all(0 <= tick <= 100 for tick in row.ticks)
            if row.look == "ahead":
                assert picture.now is not None
                assert row.bars[0].x >= picture.now


def looks(lane: Lane) -> list[tuple[str, str]]:
    return [(row.step, row.look) for row in lane.rows]


def test_what_is_to_come_stands_behind_now() -> None:
    picture = drawn(Scenario(trip()).given(Trip()).at(2).when(ok("flight", BOOKED)).at(4))
    [forward] = picture.lanes
    assert looks(forward) == [("flight", "done"), ("hotel", "running"), ("car", "ahead")]
    assert picture.turned is None
    assert [text for _, text in picture.axis] == ["0", "+2.0 s", "+4.0 s"]
    assert forward.rows[0].bars[0].width == pytest.approx(38, abs=0.1)


def test_compensation_is_a_lane_of_its_own_in_reverse() -> None:
    story = Scenario(trip()).given(Trip()).at(1).when(ok("flight", BOOKED)).at(2).when(ok("hotel", BOOKED))
    story.at(3).when(refused("car")).at(4).when(undone("hotel")).at(5)
    forward, back = drawn(story).lanes
    assert looks(forward) == [("flight", "done"), ("hotel", "done"), ("car", "refused")]
    assert looks(back) == [("hotel", "undone"), ("flight", "undoing")]
    ended = drawn(story.when(undone("flight")).at(9))
    assert ended.now is None
    assert ended.turned == pytest.approx(60)
    assert looks(ended.lanes[1]) == [("hotel", "undone"), ("flight", "undone")]


def test_an_undo_that_needs_a_person_and_what_it_holds_back() -> None:
    story = Scenario(trip()).given(Trip()).when(ok("flight", BOOKED)).when(ok("hotel", BOOKED)).when(refused("car"))
    _, back = drawn(story.when(undo_refused("hotel")).at(1)).lanes
    assert looks(back) == [("hotel", "blocked"), ("flight", "ahead")]


def test_where_nothing_was_done_nothing_is_to_be_undone() -> None:
    _, back = drawn(Scenario(trip()).given(Trip()).when(refused("flight"))).lanes
    assert back.title == "Compensation: nothing was to be undone"
    assert not back.rows


def test_what_was_not_answered_when_it_turned_round_is_unknown() -> None:
    forward, back = drawn(Scenario(trip()).given(Trip()).at(1).when(cancel()).at(2)).lanes
    assert looks(forward) == [("flight", "unknown")]
    assert "outcome unknown" in forward.rows[0].label
    assert looks(back) == [("flight", "undoing")]


def test_attempts_that_are_used_up_are_unknown() -> None:
    forward, _ = drawn(Scenario(trip()).given(Trip()).at(71)).lanes
    assert looks(forward) == [("flight", "unknown")]
    assert len(forward.rows[0].ticks) == 2


def test_a_wait_and_a_participant_that_answers_nobody_are_marked() -> None:
    [forward] = drawn(Scenario(trip(approval("boss"), booking("car"))).given(Trip()).at(1)).lanes
    assert looks(forward) == [("boss", "waits"), ("car", "ahead")]
    [forward] = drawn(Scenario(trip()).given(Trip()).at(40, silent=["agency"])).lanes
    assert looks(forward)[0] == ("flight", "parked")


def test_branches_are_rows_side_by_side() -> None:
    [forward] = drawn(Scenario(trip(Parallel(booking("a"), booking("b")))).given(Trip()).at(1)).lanes
    assert looks(forward) == [("a", "running"), ("b", "running")]
    assert forward.rows[0].bars[0].x == forward.rows[1].bars[0].x


def test_a_thousand_retries_are_one_bar_with_ticks_that_can_be_told_apart() -> None:
    often = Retry.fixed(1_000, timedelta(seconds=1))
    story = Scenario(trip(booking("flight", retry=often))).given(Trip())
    for second in range(1, 1_000):
        story.when(failed("flight")).at(second * 1.0)
    [row] = drawn(story).lanes[0].rows
    assert "1000 attempts" in row.label
    assert len(row.bars) == 1
    assert len(row.ticks) <= 250


def test_sixty_steps_are_sixty_rows() -> None:
    story = Scenario(trip(*(booking(f"step_{number}") for number in range(60)))).given(Trip()).at(1)
    [forward] = drawn(story).lanes
    assert len(forward.rows) == 60
    assert [row.look for row in forward.rows].count("ahead") == 59


def test_a_saga_that_was_just_begun_has_a_picture_too() -> None:
    drawn(Scenario(trip()).given(Trip()))
    drawn(Scenario(trip()).given(Trip(), begins=60))
