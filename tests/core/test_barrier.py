"""The barrier's table: what a participant does and stores, for everything it may have stored before."""

import pytest

from unwind.core import barrier
from unwind.core.barrier import OK, TOMBSTONE, Answer, Settled, keeps_effects, rows_of, settle
from unwind.core.messages import Direction

DONE = Answer("ok", "done")
UNDONE = Answer("ok", "undone")
REFUSED = Answer("refused", "no")
FAILED = Answer("failed", reason="not now")


@pytest.mark.parametrize(
    ("direction", "do", "undo", "expected"),
    [
        pytest.param("do", None, None, None, id="a new do runs"),
        pytest.param("do", DONE, None, Settled(DONE), id="a repeated do is replayed"),
        pytest.param("do", DONE, UNDONE, Settled(DONE), id="a do repeated after its undo is replayed"),
        pytest.param("do", REFUSED, None, Settled(REFUSED), id="a refused do is replayed"),
        pytest.param("do", TOMBSTONE, OK, Settled(TOMBSTONE), id="a do that comes after its undo is refused"),
        pytest.param("undo", DONE, None, None, id="an undo of what was done runs"),
        pytest.param("undo", DONE, UNDONE, Settled(UNDONE), id="a repeated undo is replayed"),
        pytest.param("undo", REFUSED, None, Settled(OK, {"undo": OK}), id="an undo of a refused do does nothing"),
        pytest.param("undo", REFUSED, OK, Settled(OK), id="… and is replayed"),
        pytest.param("undo", None, None, Settled(OK, {"do": TOMBSTONE, "undo": OK}), id="an undo before its do"),
        pytest.param("undo", TOMBSTONE, OK, Settled(OK), id="… and is replayed too"),
    ],
)
def test_how_a_command_is_answered_from_what_is_stored(
    direction: Direction, do: Answer | None, undo: Answer | None, expected: Settled | None
) -> None:
    assert settle(direction, do, undo) == expected


@pytest.mark.parametrize(
    ("direction", "answer", "stored", "kept"),
    [
        ("do", DONE, True, True),
        ("do", REFUSED, True, False),
        ("do", FAILED, False, False),
        ("undo", UNDONE, True, True),
        ("undo", REFUSED, False, False),
        ("undo", FAILED, False, False),
    ],
)
def test_what_is_stored_and_kept_when_the_handler_has_answered(
    direction: Direction, answer: Answer, stored: bool, kept: bool
) -> None:
    assert rows_of(direction, answer) == ({direction: answer} if stored else {})
    assert keeps_effects(answer) is kept


def test_a_refusal_past_the_pivot_is_not_stored_because_it_will_be_asked_again() -> None:
    assert rows_of("do", REFUSED, retriable=True) == {}
    assert rows_of("do", DONE, retriable=True) == {"do": DONE}


def test_a_late_do_is_told_why_it_is_refused() -> None:
    assert TOMBSTONE.outcome == "refused"
    assert bytes(TOMBSTONE.payload) == b'{"type":"refused","reason":"it was undone before it arrived"}'
    assert TOMBSTONE.reason == "it was undone before it arrived"


@pytest.mark.parametrize(
    "rule",
    ["replays", "leaves_tombstone", "undo_runs_after", "stores_refusal", "stores_failed", "stores_undo_refusal"],
)
def test_each_rule_is_one_function_that_can_be_left_out(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ways: tuple[Direction, ...] = ("do", "undo")

    def table() -> list[object]:
        stored = (None, DONE, REFUSED)
        settled = [settle(way, do, undo) for way in ways for do in stored for undo in stored]
        return [*settled, *(rows_of(way, said) for way in ways for said in (DONE, REFUSED, FAILED))]

    with_rule = table()
    original = getattr(barrier, rule)
    monkeypatch.setattr(barrier, rule, lambda *stored, **how: not original(*stored, **how))
    assert table() != with_rule
