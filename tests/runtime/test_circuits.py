"""The circuit of a participant: when it opens, what it lets through, how it closes. Time is data."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.core.chance import TRIED

from unwind.core.messages import Direction
from unwind.runtime.circuits import LATER, MOST, SOON, STEPS, Circuit, Circuits, Turn
from unwind.runtime.limits import SECOND, Limits

LIMITS = Limits()
EPOCH = 1_700_000_000 * SECOND
DIRECTIONS: tuple[Direction, ...] = ("do", "undo")


def at(seconds: float) -> int:
    return EPOCH + round(seconds * SECOND)


def closed(**limits: int) -> Circuit:
    return Circuit("stock", Limits(**limits), [])


def opened(seconds: float = 30) -> Circuit:
    """Silent since the beginning, and open since then."""
    circuit = closed()
    for _ in range(LIMITS.circuit_after):
        circuit.unanswered(at(0), at(seconds), expired=True)
    assert circuit.stage == "open"
    return circuit


def ramp(seconds: float = 100) -> Circuit:
    circuit = opened()
    circuit.answered(1, at(seconds))
    assert circuit.stage == "ramp"
    return circuit


def let_go(circuit: Circuit, seconds: float, direction: Direction = "do") -> int:
    """How many are let go at that instant."""
    count = 0
    while circuit.admits(direction, at(seconds)):
        count += 1
        assert count < 10_000
    return count


# ------------------------------------------------------------------------------------------------------------- opening


def test_it_opens_after_so_many_commands_in_a_row_and_so_long_a_silence() -> None:
    circuit = closed()
    for seconds in (5, 6, 7, 8, 9):
        circuit.unanswered(at(0), at(seconds), expired=False)
        assert circuit.stage == "closed", "not silent for long enough"
    circuit.unanswered(at(0), at(10), expired=False)
    assert circuit.stage == "open"


def test_two_commands_are_not_enough_however_long_the_silence() -> None:
    circuit = closed()
    for seconds in (100, 200):
        circuit.unanswered(at(0), at(seconds), expired=True)
    assert circuit.stage == "closed"


def test_a_short_attempt_that_was_never_answered_is_silence_enough() -> None:
    circuit = closed()
    for seconds in (1, 2):
        circuit.unanswered(at(0), at(seconds), expired=False)
    circuit.unanswered(at(0), at(3), expired=True)
    assert circuit.stage == "open"


def test_an_answer_begins_the_count_anew() -> None:
    circuit = closed()
    for seconds in (20, 21):
        circuit.unanswered(at(0), at(seconds), expired=True)
    circuit.answered(1, at(22))
    for seconds in (23, 24):
        circuit.unanswered(at(0), at(seconds), expired=True)
    assert circuit.stage == "closed"


def test_many_who_wait_for_lost_messages_open_nothing_while_others_are_answered() -> None:
    circuit = closed()
    for number in range(100):
        circuit.answered(10, at(number))
        for _ in range(50):
            circuit.unanswered(at(number - 30), at(number), expired=True)
    assert circuit.stage == "closed"


def test_it_never_opens_where_it_is_told_not_to() -> None:
    circuit = closed(circuit_after=0)
    for seconds in range(1_000):
        circuit.unanswered(at(0), at(seconds), expired=True)
    assert circuit.stage == "closed"
    assert circuit.admits("do", at(1_000))
    assert not circuit.holds(at(10), at(5), at(40)), "nor does it heed what another worker has seen"


# ---------------------------------------------------------------------------------------------------------------- open


def test_while_it_is_open_one_command_goes_now_and_then() -> None:
    circuit = opened(30)
    assert [let_go(circuit, seconds) for seconds in (30, 34, 35, 36, 40, 1_000)] == [0, 0, 1, 0, 1, 1]


def test_a_probe_goes_to_whoever_comes_for_some_undos_may_never_be_answered() -> None:
    circuit = opened(30)
    assert not circuit.admits("undo", at(31))
    assert circuit.admits("do", at(35)), "though an undo was refused"
    assert not circuit.admits("undo", at(36))
    assert circuit.admits("undo", at(41))


@pytest.mark.parametrize(("silent", "parked"), [(3, 15), (30, 30), (100, 100), (1_000, 300), (100_000, 300)])
def test_an_attempt_is_parked_for_as_long_as_the_silence_has_lasted(silent: int, parked: int) -> None:
    circuit = closed()
    for _ in range(3):
        circuit.unanswered(at(0), at(3), expired=True)
    assert circuit.park_until(at(silent), 0.0) == at(silent + parked)
    assert circuit.park_until(at(silent), 0.5) == at(silent + 0.9 * parked), "what was parked together wakes apart"


def test_an_outage_of_an_hour_costs_a_saga_few_events() -> None:
    circuit, now, events = opened(30), at(30), 0
    while now < at(3_600):
        now, events = circuit.park_until(now, 0.0), events + 1
    assert events <= 16


# ------------------------------------------------------------------------------------------------------------- the ramp


def test_after_an_answer_more_are_let_go_with_each_second_until_it_closes() -> None:
    circuit = ramp(100)
    room = []
    for second in range(STEPS):
        circuit.answered(1, at(100 + second))
        room.append(let_go(circuit, 100.1 + second))
        circuit.answered(1, at(100.2 + second))
    assert room == [10, 20, 40, 80, 160, 320, 640]
    assert circuit.admits("do", at(100 + STEPS))
    assert circuit.stage == "closed"


def test_a_ramp_that_nobody_needs_closes_by_itself() -> None:
    circuit = ramp(100)
    assert circuit.view(at(100 + STEPS)).stage == "closed"


def test_a_ramp_waits_for_answers_and_where_none_come_it_is_open_again() -> None:
    circuit = ramp(100)
    assert let_go(circuit, 100) == 10
    assert [let_go(circuit, seconds) for seconds in (101, 102, 109)] == [10, 10, 10], "not faster without answers"
    assert let_go(circuit, 111) == 0
    assert circuit.stage == "open"
    assert circuit.opened == 2
    assert circuit.park_until(at(111), 0.0) == at(111 + 111), "the silence has lasted since the beginning"


def test_in_the_ramp_undos_go_first_and_leave_a_little_to_the_others() -> None:
    circuit = ramp(100)
    assert let_go(circuit, 100, "undo") == 8
    assert let_go(circuit, 101, "do") == 2, "undos were refused; some of them may never be answered"
    circuit.answered(1, at(101))
    assert let_go(circuit, 101.5, "undo") == 8
    circuit.answered(1, at(102))
    assert let_go(circuit, 104) > 0


def test_what_the_ramp_has_no_room_for_comes_again_soon() -> None:
    circuit = ramp(100)
    assert circuit.park_until(at(100), 0.0) == at(100) + SOON
    assert circuit.park_until(at(100), 0.999) < at(100) + LATER


def test_an_attempt_whose_commands_were_held_back_is_not_spent_after_it_has_closed() -> None:
    circuit = ramp(100)
    assert circuit.holds(at(90), 0, at(101))
    assert circuit.view(at(110)).stage == "closed"
    assert circuit.holds(at(90), 0, at(120))
    assert not circuit.holds(at(111), 0, at(141))
    circuit.unanswered(at(90), at(130), expired=True)
    assert circuit.view(at(130)).unanswered == 0, "nor does it speak against the participant"


def test_an_attempt_that_another_worker_has_parked_is_spent_once_the_participant_is_heard_of() -> None:
    circuit = closed()
    assert circuit.holds(at(10), at(5), at(40))
    circuit.answered(1, at(4))
    assert circuit.holds(at(10), at(5), at(40))
    circuit.answered(1, at(6))
    assert not circuit.holds(at(10), at(5), at(40))


# ----------------------------------------------------------------------------------------------------------- all of it

HAPPENINGS = st.lists(
    st.tuples(
        st.sampled_from(["answer", "silence", "silence", "silence", "ask", "ask", "ask", "wait"]),
        st.integers(0, 20 * SECOND),
        st.sampled_from(DIRECTIONS),
    ),
    max_size=120,
)


@TRIED
@given(HAPPENINGS)
def test_whatever_happens(happenings: list[Any]) -> None:
    turns: list[Turn] = []
    circuit, now, probes, told = Circuit("stock", LIMITS, turns), EPOCH, [0], 0
    for what, pause, direction in happenings:
        now += pause if what == "wait" else pause // 50
        before = circuit.view(now).stage
        if what == "answer":
            circuit.answered(1, now)
            assert circuit.stage != "open", "whoever answers is alive"
        elif what == "silence":
            circuit.unanswered(now - 30 * SECOND, now, expired=True)
            assert before == circuit.stage or (before, circuit.stage) == ("closed", "open")
        elif circuit.admits(direction, now) and circuit.stage == "open":
            assert now - probes[-1] >= LIMITS.circuit_probe or probes[-1] == 0
            probes.append(now)
        if circuit.stage != "open":
            probes = [0]
        parked = circuit.park_until(now, 0.5) - now
        assert SOON <= parked <= LIMITS.park_most
        if circuit.stage != "closed":
            assert circuit.holds(now, 0, now)
        told += len(turns)
        for turn in turns:
            assert (turn.before, turn.after) in {
                ("closed", "open"),
                ("open", "ramp"),
                ("ramp", "open"),
                ("ramp", "closed"),
            }
            assert turn.silent_for >= 0
        turns.clear()
    circuit.answered(1, now)
    for second in range(STEPS + 1):
        circuit.answered(1, now + second * SECOND)
        circuit.admits("do", now + second * SECOND)
    assert circuit.stage == "closed", "a participant that answers is soon asked as ever"


def test_a_worker_knows_the_services_that_it_had_to_do_with() -> None:
    circuits = Circuits(LIMITS)
    assert circuits.views(EPOCH) == ()
    circuits.of("stock").answered(3, EPOCH)
    circuits.of("bank").answered(1, EPOCH)
    assert [(view.service, view.answers) for view in circuits.views(EPOCH)] == [("bank", 1), ("stock", 3)]
    assert not circuits.troubled


def test_turns_are_told_once() -> None:
    circuits = Circuits(LIMITS)
    for _ in range(3):
        circuits.of("stock").unanswered(at(0), at(30), expired=True)
    assert circuits.troubled
    assert list(circuits.turns()) == [Turn("stock", "closed", "open", 30 * SECOND)]
    assert list(circuits.turns()) == []


def test_parked_sagas_are_counted_until_their_time_comes_and_only_so_many_are_remembered() -> None:
    circuits = Circuits(Limits(cache=2))
    circuits.of("stock")
    assert circuits.parked_now(at(0)) == {"stock": 0}
    circuits.parked("s1", "stock", "do", at(10))
    circuits.parked("s1", "stock", "do", at(20))
    circuits.parked("s2", "stock", "do", at(30))
    assert circuits.parked_now(at(0)) == {"stock": 2}
    assert circuits.parked_now(at(25)) == {"stock": 1}
    circuits.parked("s3", "stock", "do", at(30))
    circuits.parked("s4", "stock", "do", at(30))
    assert circuits.parked_now(at(26)) == {"stock": 2}


def silenced() -> Circuits:
    """Open since second 30, with an undo parked after two steps."""
    circuits = Circuits(LIMITS)
    for _ in range(3):
        circuits.of("stock").unanswered(at(0), at(30), expired=True)
    for name, direction in (("s1", "do"), ("s2", "do"), ("u1", "undo")):
        circuits.parked(name, "stock", direction, at(300))  # type: ignore[arg-type]
    return circuits


def test_while_it_is_open_one_saga_after_another_is_recalled_as_a_probe() -> None:
    circuits, asked = silenced(), []
    for seconds in range(30, 60, 5):
        recalled = circuits.recalled(at(seconds))
        asked += recalled
        assert all(circuits.of("stock").admits("undo", at(seconds)) for _ in recalled)
    assert asked == ["u1", "s1", "u1", "s2", "u1"], "an undo, and then another: it may never be answered"
    assert circuits.parked_now(at(60)) == {"stock": 3}, "they stay parked"


def test_in_the_ramp_parked_sagas_are_recalled_undos_first_and_forgotten() -> None:
    circuits = silenced()
    for number in range(20):
        circuits.parked(f"t{number}", "stock", "do", at(300))
    circuits.of("stock").answered(1, at(40))
    assert circuits.recalled(at(40)) == ["u1", "s1", "s2", *(f"t{number}" for number in range(7))]
    assert circuits.parked_now(at(40)) == {"stock": 13}


def test_once_it_is_closed_all_are_recalled_in_bounded_portions() -> None:
    circuits = Circuits(LIMITS)
    circuits.of("stock").answered(1, at(0))
    for number in range(MOST + 10):
        circuits.parked(f"s{number}", "stock", "do", at(300))
    assert [len(circuits.recalled(at(1))) for _ in range(3)] == [MOST, 10, 0]


def test_the_next_probe_is_told() -> None:
    circuit = opened(30)
    assert circuit.view(at(31)).next_probe == at(35)
    assert circuit.view(at(36)).next_probe == at(36), "at once: nobody has asked for it yet"
    assert ramp(100).view(at(100)).next_probe is None
    assert ramp(100).view(at(100)).per_second == 10
