"""Definitions: what is refused when they are built and how it is said, what the content hash covers, retry policies."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Generic, TypeVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct
from tests.core.chance import TRIED
from tests.core.trips import BOOKED, Booked, Booking, Diary, Errand, Trip, booking, diary, errand, note, trip

from unwind.core.plans import MAX_DURATION
from unwind.core.saga import MAX_STEPS, Saga, revision_of, version_in
from unwind.core.steps import ActionStep, Command, CommandStep, Kind, RecordStep, Retry, SleepStep, Step, micros
from unwind.errors import DefinitionError

ZERO = timedelta(0)
AGES = MAX_DURATION + timedelta(microseconds=1)


class Shapeless(Step[Trip, Any]):
    name = "walk"


class Commandless(CommandStep[Trip, Any]):
    name = "walk"


class Runless(ActionStep[Trip, Any]):
    name = "walk"


class Recordless(RecordStep[Trip]):
    name = "walk"


WRONG_STEPS: list[tuple[Callable[[], Any], str]] = [
    (lambda: booking(""), "needs `name"),
    (lambda: booking("a/b"), "without '/'"),
    (lambda: booking("a\nb"), "printable"),
    (Shapeless, "derive it from CommandStep, ActionStep, RecordStep, SagaStep, SignalStep or SleepStep"),
    (Commandless, "define `execute`"),
    (Runless, "define `run`"),
    (Recordless, "define `record`"),
    (lambda: booking("walk", timeout=ZERO), "timeout is 0:00:00; give a positive duration"),
    (lambda: booking("walk", timeout=AGES), "at most 3650 days"),
    (lambda: booking("walk", undo_timeout=-AGES), "undo_timeout is"),
    (lambda: booking("walk", timeout=5), "timeout is 5; give a timedelta"),
    (lambda: booking("walk", undo_timeout=None), "undo_timeout is None; give a timedelta"),
    (lambda: booking("walk", resend=5), "resend is 5; give a timedelta"),
    (lambda: errand("walk", lease=5), "lease is 5; give a timedelta"),
    (lambda: booking("walk", retry=3), "retry is 3; give a Retry, e.g. Retry.exponential(attempts=3)"),
    (lambda: booking("walk", undo_retry=None), "undo_retry is None; give a Retry"),
    (lambda: booking("walk", retry=Retry("3")), "Expected `int`, got `str` - at `$.attempts`"),  # type: ignore[arg-type]
    (lambda: errand("walk", run=lambda *_: None), "`run` is not async; declare it `async def run`"),
    (lambda: errand("walk", compensate=lambda *_: None), "`compensate` is not async"),
    (lambda: booking("walk", resend=ZERO), "resend is 0:00:00; it must lie between 0 and the timeout"),
    (lambda: booking("walk", resend=timedelta(seconds=30)), "resend is"),
    (lambda: errand("walk", lease=ZERO), "lease is 0:00:00"),
    (lambda: errand("walk", lease=AGES), "lease is"),
    (lambda: booking("walk", retry=Retry(0)), "retry has 0 attempts; allowed are 1 to 1000"),
    (lambda: booking("walk", retry=Retry(1001)), "retry has 1001 attempts"),
    (lambda: booking("walk", undo_retry=Retry(0)), "undo_retry has 0 attempts"),
    (lambda: booking("walk", retry=Retry(initial=-1)), "retry needs a delay ≥ 0"),
    (lambda: booking("walk", retry=Retry(factor=0.5)), "a factor from 1 to 1000"),
    (lambda: booking("walk", retry=Retry(factor=1e9)), "a factor from 1 to 1000"),
    (lambda: booking("walk", retry=Retry(factor=float("nan"))), "a factor from 1 to 1000"),
    (lambda: booking("walk", undo_retry=Retry(spread=1.1)), "a spread between 0 and 1"),
    (lambda: booking("walk", undo_retry=Retry(spread=float("nan"))), "a spread between 0 and 1"),
    (lambda: booking("walk", retry=Retry(cap=0)), "a cap > 0"),
    (lambda: booking("walk", retry=Retry(cap=micros(AGES))), "a cap > 0 and of at most 3650 days"),
    (type("Walk", (Booking,), {"name": "walk"}), "define `compensate`, or make it the pivot"),
    (type("Walk", (Errand,), {"name": "walk"}), "define `compensate`"),
    (type("Walk", (Diary,), {"name": "walk"}), "define `compensate`"),
    (lambda: booking("walk", Kind.RETRIABLE), "retriable but stands before any pivot; declare the pivot before it"),
]


@pytest.mark.parametrize(("make", "mend"), WRONG_STEPS, ids=[mend for _, mend in WRONG_STEPS])
def test_a_wrong_step_is_refused_by_name_and_with_the_mend(make: Callable[[], Any], mend: str) -> None:
    step = make()
    with pytest.raises(DefinitionError) as raised:
        trip(booking("flight"), step)
    assert str(raised.value).startswith(f"saga trip, step {step.name or type(step).__name__!r}".rstrip("'"), 0)
    assert mend in str(raised.value)


WRONG_ORDERS: list[tuple[list[Any], str]] = [
    ([booking("a"), booking("a")], "step 'a': another step has the same name"),
    ([booking("a", Kind.PIVOT), booking("b", Kind.PIVOT)], "step 'b': 'a' is the pivot already"),
    ([booking("a", Kind.PIVOT), booking("b")], "step 'b': it is compensatable but stands after the pivot 'a'"),
    ([], "it has no steps; give at least one"),
    ([booking(f"s{n}") for n in range(MAX_STEPS + 1)], "it has 65 steps; at most 64 are allowed"),
]


@pytest.mark.parametrize(("steps", "mend"), WRONG_ORDERS, ids=[mend for _, mend in WRONG_ORDERS])
def test_steps_in_a_wrong_order_are_refused(steps: list[Any], mend: str) -> None:
    with pytest.raises(DefinitionError, match=mend):
        Saga("trip", context=Trip, steps=steps)


@pytest.mark.parametrize(
    ("options", "mend"),
    [
        ({"name": "my trip"}, "saga 'my trip': the name must be a Python identifier"),
        ({"name": ""}, "the name must be a Python identifier"),
        ({"version": 0}, "version is 0; number versions from 1"),
        ({"deadline": ZERO}, "deadline is 0:00:00; give a positive duration"),
        ({"deadline": AGES}, "deadline is"),
        ({"deadline": 5}, "saga trip: deadline is 5; give a timedelta"),
        ({"context": object}, "cannot be stored as JSON"),
    ],
)
def test_a_wrong_saga_is_refused(options: dict[str, Any], mend: str) -> None:
    with pytest.raises(DefinitionError, match=mend):
        Saga(**{"name": "trip", "context": Trip, "steps": [booking("flight")], **options})


class Undecodable(CommandStep[Trip, set[int] | list[int]]):
    """Its replies could be either: nobody can read them."""

    name = "hotel"

    def execute(self, context: Trip) -> Command:
        raise NotImplementedError

    def compensate(self, context: Trip) -> Command:
        raise NotImplementedError


def test_a_step_whose_replies_cannot_be_read_is_refused() -> None:
    with pytest.raises(DefinitionError, match=r"step 'hotel': replies of type .* cannot be read from JSON"):
        trip(Undecodable())


def test_every_class_of_step_has_its_place() -> None:
    saga = trip(booking("a"), errand("b"), diary("c"), booking("d", Kind.PIVOT), diary("e", Kind.RETRIABLE))
    assert [plan.shape for plan in saga.plans] == ["command", "action", "record", "command", "record"]
    assert [plan.undoable for plan in saga.plans] == [True, True, True, False, False]


def test_the_resend_comes_before_the_timeout_unless_told() -> None:
    def resend(**attributes: Any) -> int:
        return trip(booking("flight", **attributes)).plans[0].resend

    assert resend(timeout=timedelta(seconds=9)) == 3_000_000
    assert resend(timeout=timedelta(hours=1)) == 5_000_000
    assert resend(resend=timedelta(seconds=29)) == 29_000_000


C = TypeVar("C")
R = TypeVar("R")


class House(CommandStep[C, R], Generic[C, R]):
    """A team's own base class."""


class Mixin(Step[Trip, Any]):
    """Says nothing about replies."""


class Flight(Mixin, House[Trip, Booked]):
    name = "flight"

    def execute(self, context: Trip) -> Command:
        raise AssertionError

    def compensate(self, context: Trip) -> Command:
        raise AssertionError


class Untyped(House):  # type: ignore[type-arg]
    name = "flight"
    execute = Flight.execute
    compensate = Flight.compensate


def test_the_reply_s_type_is_found_through_base_classes_and_mixins() -> None:
    assert trip(Flight()).plans[0].reply_type is Booked
    assert trip(Untyped()).plans[0].reply_type is Any


# ------------------------------------------------------------------------------------------------------- content hash


class Renamed(Struct, frozen=True):
    traveller: str = "ada"
    codes: tuple[str, ...] = ()
    age: int = 0


def hashed(**attributes: Any) -> str:
    return trip(booking("flight", **attributes)).hash


CHANGES: dict[str, Callable[[], str]] = {
    "name": lambda: trip(booking("plane")).hash,
    "order": lambda: trip(booking("flight"), booking("hotel")).hash,
    "reverse order": lambda: trip(booking("hotel"), booking("flight")).hash,
    "kind": lambda: trip(booking("flight", Kind.PIVOT, compensate=booking("x").compensate)).hash,
    "undo": lambda: trip(booking("flight", Kind.PIVOT)).hash,
    "shape": lambda: trip(errand("flight")).hash,
    "timeout": lambda: hashed(timeout=timedelta(seconds=31), resend=timedelta(seconds=5)),
    "undo_timeout": lambda: hashed(undo_timeout=timedelta(seconds=31)),
    "resend": lambda: hashed(resend=timedelta(seconds=4)),
    "retry attempts": lambda: hashed(retry=Retry(3)),
    "retry initial": lambda: hashed(retry=Retry(3, 1)),
    "retry factor": lambda: hashed(retry=Retry(3, 1, 2)),
    "retry cap": lambda: hashed(retry=Retry(3, 1, 2, 9)),
    "retry spread": lambda: hashed(retry=Retry(3, 1, 2, 9, 0.5)),
    "undo_retry": lambda: hashed(undo_retry=Retry(3)),
    "lease": lambda: trip(errand("flight", lease=timedelta(seconds=3))).hash,
    "deadline": lambda: trip(booking("flight"), deadline=timedelta(seconds=3)).hash,
    "version": lambda: trip(booking("flight"), version=2).hash,
    "saga": lambda: Saga("voyage", context=Trip, steps=[booking("flight")]).hash,
    "context": lambda: Saga("trip", context=Renamed, steps=[booking("flight")]).hash,
}


def test_the_hash_changes_with_everything_that_running_sagas_depend_on() -> None:
    hashes = [hashed(), *(change() for change in CHANGES.values())]
    assert len(set(hashes)) == len(hashes)


def test_the_hash_changes_with_nothing_else() -> None:
    same = {
        "again": hashed(),
        "guard": hashed(verdict="proceed"),
        "mapping": hashed(succeeded=lambda self, context, reply: context),
        "prose": hashed(__doc__="Other words."),
        "hooks": trip(booking("flight"), on_started=lambda _: [note("x")]).hash,
    }
    assert set(same.values()) == {hashed()}


def test_the_hash_does_not_depend_on_the_prose_of_the_context() -> None:
    def with_prose(text: str) -> str:
        context = msgspec.defstruct("Voyage", [("description", str), ("tags", list[str])], namespace={"__doc__": text})
        return Saga("trip", context=context, steps=[booking("flight")]).hash

    assert with_prose("One.") == with_prose("Two.")


def test_the_revision_names_all_that_a_saga_is_bound_to() -> None:
    saga = trip(version=2)
    assert saga.revision == f"trip@2#{saga.hash}"


# -------------------------------------------------------------------------------------------------------------- retry


def test_policies_read_as_they_are_written() -> None:
    second = timedelta(seconds=1)
    assert Retry.none().attempts == 1
    assert [Retry.fixed(3, second).delay(n, 0.9) for n in (1, 2)] == [1_000_000, 1_000_000]
    grows = Retry.exponential(5, second, cap=3 * second, spread=0)
    assert [grows.delay(n, 0.0) for n in (1, 2, 3, 4)] == [1_000_000, 2_000_000, 3_000_000, 3_000_000]


@pytest.mark.parametrize(
    ("make", "mend"),
    [
        (lambda: Retry.fixed(2, 1), "Retry.fixed: delay is 1; give a timedelta"),  # type: ignore[arg-type]
        (lambda: Retry.exponential(2, initial=1), "Retry.exponential: initial is 1; give"),  # type: ignore[arg-type]
        (lambda: Retry.exponential(2, cap=1.5), "Retry.exponential: cap is 1.5; give"),  # type: ignore[arg-type]
    ],
)
def test_a_policy_of_what_is_no_duration_is_refused(make: Callable[[], Retry], mend: str) -> None:
    with pytest.raises(DefinitionError, match=mend):
        make()


def test_a_fixed_delay_is_never_cut_short() -> None:
    assert Retry.fixed(2, timedelta(hours=1)).delay(1, 0.0) == micros(timedelta(hours=1))


policies = st.builds(
    Retry,
    attempts=st.integers(1, 1000),
    initial=st.integers(0, micros(MAX_DURATION)),
    factor=st.floats(1, 1000),
    cap=st.integers(1, micros(MAX_DURATION)),
    spread=st.floats(0, 1),
)
jitters = st.floats(0, 1, exclude_max=True)


@TRIED
@given(policies, st.integers(1, 1000), jitters)
def test_a_delay_is_never_negative_and_never_more_than_the_cap(retry: Retry, attempt: int, jitter: float) -> None:
    assert 0 <= retry.delay(attempt, jitter) <= retry.cap


@TRIED
@given(policies, st.integers(1, 999), jitters)
def test_delays_do_not_shrink_from_one_attempt_to_the_next(retry: Retry, attempt: int, jitter: float) -> None:
    assert retry.delay(attempt, jitter) <= retry.delay(attempt + 1, jitter)


@TRIED
@given(policies, st.integers(1, 1000), jitters)
def test_jitter_takes_away_at_most_its_share(retry: Retry, attempt: int, jitter: float) -> None:
    full = retry.delay(attempt, 0.0)
    assert full * (1 - retry.spread) - 1 <= retry.delay(attempt, jitter) <= full


def test_a_step_s_own_methods_say_that_they_are_not_written() -> None:
    command, record = CommandStep[Trip, Any](), RecordStep[Trip]()
    for method in (command.execute, command.compensate, record.record, record.compensate, SleepStep[Trip]().until):
        with pytest.raises(NotImplementedError):
            method(Trip())


async def test_an_action_s_own_methods_say_that_they_are_not_written() -> None:
    for method in (ActionStep[Trip, Any]().run, ActionStep[Trip, Any]().compensate):
        with pytest.raises(NotImplementedError):
            await method(Trip(), None)  # type: ignore[arg-type]


def test_without_a_mapping_the_context_stays() -> None:
    assert CommandStep[Trip, Any]().succeeded(Trip(), BOOKED) == Trip()
    assert ActionStep[Trip, Any]().succeeded(Trip(), BOOKED) == Trip()
    assert Step[Trip, Any]().guard(Trip()) == "proceed"
    assert Step[Trip, Any]().when(Trip())


def test_a_revision_names_definition_and_version() -> None:
    saga = trip(version=12)
    assert saga.revision == revision_of("trip", 12, saga.hash) == f"trip@12#{saga.hash}"
    assert version_in(saga.revision) == 12
