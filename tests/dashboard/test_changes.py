"""What an event changed, line by line: all of it, no more than can be read, and never slowly."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from unwind.core.events import StepDone
from unwind.core.messages import NULL, Attempt, CommandCall
from unwind.core.state import NEW, State, StepRun
from unwind.dashboard.changes import AROUND, MOST, Line, changed, compared

texts = st.lists(st.sampled_from(["a", "b", "c", "", "{"]), min_size=1, max_size=12).map("\n".join)


def numbered(*numbers: int) -> str:
    return "\n".join(f"line {number}" for number in numbers)


@given(texts, texts)
def test_both_texts_can_be_read_out_of_their_comparison(before: str, after: str) -> None:
    lines = compared(before, after)
    assert bool(lines) is (before != after)
    if lines and not any(line.kind == "gap" for line in lines):
        assert [line.text for line in lines if line.kind in {"same", "gone"}] == before.split("\n")
        assert [line.text for line in lines if line.kind in {"same", "new"}] == after.split("\n")


def test_what_did_not_change_is_left_out_but_for_some_lines_around() -> None:
    lines = compared(numbered(*range(20)), numbered(*range(9), 99, *range(10, 20)))
    assert AROUND == 2
    assert lines == (
        Line("gap", "… 7 the same"),
        Line("same", "line 7"),
        Line("same", "line 8"),
        Line("gone", "line 9"),
        Line("new", "line 99"),
        Line("same", "line 10"),
        Line("same", "line 11"),
        Line("gap", "… 8 the same"),
    )


def test_what_is_very_long_is_compared_in_few_steps_and_cut() -> None:
    before, after = numbered(*range(0, 40_000, 2)), numbered(*range(1, 40_000, 2))
    lines = compared(before, after)
    assert len(lines) == MOST + 1
    assert lines[-1] == Line("gap", f"… {40_000 - MOST} more lines")
    [gone, new] = compared("x" * 1_000_000, "y" * 1_000_000)
    assert len(gone.text) == len(new.text) < 300


def test_an_event_is_told_with_what_it_did_to_context_and_state() -> None:
    call = CommandCall("flight.book", "flights", Raw(b'{"secret":1}'))
    before = State(
        status="running", runs=(StepRun("flight", "outstanding", Attempt(1), call),), version=2, context=NULL
    )
    after = State(status="running", runs=(StepRun("flight", "done", Attempt(1), call),), version=3, context=NULL)
    event = StepDone(at=1, step="flight", attempt=1, reply=NULL)
    change = changed(event, (Raw(b'{"seat":null}'), before), (Raw(b'{"seat":"7A"}'), after))
    assert change.event == "step done: flight"
    assert [line.text.strip() for line in change.context if line.kind == "gone"] == ['"seat": null']
    assert [line for line in change.state if line.kind in {"gone", "new"}] == [
        Line("gone", '      "status": "outstanding",'),
        Line("new", '      "status": "done",'),
    ]
    assert "secret" not in str(change.state)
    assert "version" not in str(change.state)


def test_the_first_event_brings_all_there_is() -> None:
    event = StepDone(at=1, step="", attempt=1, reply=NULL)
    change = changed(event, (NULL, NEW), (Raw(b'{"a":1}'), State(status="running", deadline=1_000_000)))
    assert [line.text for line in change.context if line.kind == "new"] == ["{", '  "a": 1', "}"]
    assert '"deadline": "1970-01-01T00:00:01.000000Z"' in str(change.state)
