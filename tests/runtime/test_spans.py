"""The spans of a saga: what its log tells, each once, with ids that every process finds alike."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from msgspec import Raw
from msgspec.structs import replace
from tests.core.stories import STORIES
from tests.core.trips import BOOKED, Stay, Trip, booking, stay, trip

from unwind.core.decide import decide
from unwind.core.events import Event, SagaStarted
from unwind.core.messages import Input, Moment, Reply, Start, Unwind
from unwind.core.state import NEW
from unwind.runtime.span import Span
from unwind.runtime.spans import is_milestone, spans_told
from unwind.runtime.trace_context import read_context, root_of, span_id_of
from unwind.testing.scenario import SECOND, START, Scenario, cancel, failed, ok, undone

CALLER = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def traced(log: Sequence[Event], traceparent: str = CALLER) -> list[Event]:
    [started, *others] = log
    assert isinstance(started, SagaStarted)
    return [replace(started, traceparent=traceparent), *others]


def tree(log: Sequence[Event], traceparent: str = CALLER) -> dict[str, Span]:
    """All spans of an ended saga, by name."""
    spans = spans_told(traced(log, traceparent), 0, len(log))
    assert len({span.name for span in spans}) == len(spans)
    return {span.name: span for span in spans}


CHILD = Start("child-1", Raw(b'{"code":"begun"}'), definition_hash=Stay.saga.hash, parent="saga-1/hotel")


def of_child(*messages: Input) -> tuple[list[Event], list[int]]:
    """The log of a saga that is a step of another, and how long it was after each of these."""
    log: list[Event] = []
    state, lengths = NEW, []
    for message in messages:
        decision = decide(Stay.saga, state, message, Moment(START, 0.0, "w1"))
        state = decision.state
        log += decision.events
        lengths.append(len(log))
    return traced(log), lengths


def step(name: str, direction: str = "do") -> str:
    return span_id_of(f"saga-1/{name}/{direction}")


def test_a_saga_is_part_of_what_began_it_and_its_steps_of_the_saga() -> None:
    spans = tree(STORIES["happy"]().log)
    assert set(spans) == {"trip", "flight", "hotel", "car"}
    assert {span.context.trace_id for span in spans.values()} == {CALLER[3:35]}
    assert (spans["trip"].parent, spans["trip"].context.span_id) == (CALLER[36:52], span_id_of("saga-1"))
    for name in ("flight", "hotel", "car"):
        assert (spans[name].parent, spans[name].context.span_id) == (span_id_of("saga-1"), step(name))
    assert {span.kind for name, span in spans.items() if name != "trip"} == {"producer"}
    assert not any(span.failed or span.link for span in spans.values())
    assert spans["trip"].attributes["unwind.outcome"] == "completed"


def test_an_undo_is_linked_to_what_it_undoes() -> None:
    spans = tree(STORIES["was_refused"]().log)
    undos = {name: span for name, span in spans.items() if name.startswith("undo ")}
    assert set(undos) == {"undo flight", "undo hotel"}
    for name in ("flight", "hotel"):
        undo = undos[f"undo {name}"]
        assert (undo.context.span_id, undo.link, undo.parent) == (step(name, "undo"), step(name), span_id_of("saga-1"))
        assert (undo.attributes["unwind.outcome"], undo.failed) == ("undone", False)
    assert (spans["car"].attributes["unwind.outcome"], spans["car"].failed) == ("refused", True)
    turned = [(each.name, each.attributes) for each in spans["trip"].events]
    assert turned == [("turned round", {"step": "car", "cause": "refused"})]


def test_a_step_lasts_from_its_first_attempt_and_tells_of_each() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip()).at(1).when(failed("flight")).at(20)
    span = tree(scenario.when(ok("flight", BOOKED)).log)["flight"]
    assert (span.began, span.ended) == (START, START + 20 * SECOND)
    assert [(each.name, each.attributes) for each in span.events] == [
        ("attempt failed", {"attempt": 1}),
        ("retried", {"attempt": 2}),
    ]
    assert span.events[0].at == START + SECOND
    assert span.attributes["unwind.attempts"] == 2


def test_what_is_undone_before_it_answered_ends_there() -> None:
    scenario = Scenario(trip(booking("flight"))).given(Trip()).at(3).when(cancel()).at(5).when(undone("flight"))
    spans = tree(scenario.log)
    assert (spans["flight"].attributes["unwind.outcome"], spans["flight"].failed) == ("unanswered", True)
    assert (spans["flight"].ended, spans["undo flight"].ended) == (START + 3 * SECOND, START + 5 * SECOND)


def test_of_a_saga_begun_outside_of_any_trace_its_own_span_is_the_root() -> None:
    context = root_of("saga-1")
    spans = tree(STORIES["happy"]().log, str(context))
    assert (spans["trip"].parent, spans["trip"].context) == ("", context)
    assert spans["flight"].parent == context.span_id


def test_a_step_that_is_a_saga_has_that_saga_under_it() -> None:
    log, _ = of_child(CHILD, Reply("ask", "do", "ok", 1))
    spans = tree(log)
    assert spans["stay"].parent == step("hotel")
    assert spans["ask"].parent == spans["stay"].context.span_id
    parent = Scenario(trip(stay("hotel"))).given(Trip()).when(ok("hotel", BOOKED))
    assert tree(parent.log)["hotel"].context.span_id == step("hotel")
    assert tree(parent.log)["hotel"].kind == "internal", "nothing is sent: the workers have it among themselves"


def test_a_saga_that_is_unwound_after_its_end_has_a_second_span_under_the_undo() -> None:
    log, ends = of_child(CHILD, Reply("ask", "do", "ok", 1), Unwind(CHILD), Reply("ask", "undo", "ok", 1))
    first, second = spans_told(log, ends[0], ends[1]), spans_told(log, ends[2], ends[3])
    assert [span.name for span in first] == ["ask", "stay"]
    assert [span.name for span in second] == ["undo ask", "undo stay"]
    assert second[1].parent == step("hotel", "undo")
    assert second[1].context.span_id not in {first[1].context.span_id, second[1].parent}
    assert (second[0].parent, second[0].link) == (second[1].context.span_id, first[0].context.span_id)


@pytest.mark.parametrize("traceparent", ["", CALLER[:-1] + "0", "nonsense"])
def test_outside_of_a_recorded_trace_nothing_is_told(traceparent: str) -> None:
    log = STORIES["happy"]().log
    assert spans_told(traced(log, traceparent), 0, len(log)) == ()


def test_of_what_is_no_saga_nothing_is_told() -> None:
    assert spans_told((), 0, 0) == ()
    assert spans_told(STORIES["happy"]().log[1:], 0, 3) == ()


@pytest.mark.parametrize("name", STORIES)
def test_however_a_log_was_cut_into_commits_each_span_is_told_once(name: str) -> None:
    log = traced(STORIES[name]().log)
    whole = spans_told(log, 0, len(log))
    last = max((number for number, event in enumerate(log, 1) if is_milestone(event)), default=0)
    assert all(span.began <= span.ended <= log[last - 1].at for span in whole)
    for size in range(1, len(log) + 1):
        cuts = [*range(0, len(log), size), len(log)]
        pieces = [span for known, now in pairwise(cuts) for span in spans_told(log[:now], known, now)]
        assert pieces == list(whole)
    assert len({span.context.span_id for span in whole}) == len(whole)


@pytest.mark.parametrize("name", STORIES)
def test_what_was_committed_since_does_not_change_what_is_told(name: str) -> None:
    log = traced(STORIES[name]().log)
    for now in range(1, len(log) + 1):
        assert list(spans_told(log, now - 1, now)) == list(spans_told(log[:now], now - 1, now))


@pytest.mark.parametrize("name", STORIES)
def test_no_span_has_what_a_participant_or_a_person_said(name: str) -> None:
    log = traced(STORIES[name]().log)
    said = {
        str(value) for event in log for field in ("reason", "actor", "evidence") if (value := getattr(event, field, ""))
    }
    spans = spans_told(log, 0, len(log))
    told = [each.attributes for span in spans for each in span.events] + [span.attributes for span in spans]
    assert not said & {str(value) for attributes in told for value in attributes.values()}


def test_a_trace_is_found_by_what_sagas_are_found_by() -> None:
    attributes = tree(STORIES["can_be_found"]().log)["trip"].attributes
    assert attributes["unwind.attribute.traveller"] == "ada"
    assert attributes["unwind.attribute.alone"] is True


def test_the_items_of_a_group_are_steps_under_one_name() -> None:
    log = traced(STORIES["was_done_side_by_side"]().log)
    spans = [span for span in spans_told(log, 0, len(log)) if span.name == "pack"]
    assert {span.attributes["unwind.step"] for span in spans} == {"pack[x]", "pack[y]"}


@pytest.mark.parametrize(
    "text", ["", "00-0-0-01", CALLER.upper(), "ff" + CALLER[2:], CALLER[:3] + "0" * 32 + CALLER[35:]]
)
def test_a_context_that_is_not_valid_is_none(text: str) -> None:
    assert read_context(text) is None


def test_a_context_is_written_as_it_was_read() -> None:
    context = read_context(CALLER)
    assert str(context) == CALLER
    assert context is not None
    assert context.sampled
    assert context.recorded(False).flags == "00"
    assert replace(context, flags="02").recorded(True).flags == "03", "other flags stay"
