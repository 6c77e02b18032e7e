"""Steps side by side: branches, and the same steps for each of some items."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Self, cast

import pytest
from msgspec import Raw, Struct
from tests.core.trips import (
    BOOKED,
    Approval,
    Booked,
    Booking,
    Trip,
    Unbook,
    approval,
    booking,
    diary,
    errand,
    nap,
    parcels,
    trip,
)

from unwind.core.events import (
    CompensationStarted,
    ItemsListed,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaResumed,
    SagaStarted,
    StepDone,
    StepFailed,
    StepRefused,
    StepSkipped,
    StepStarted,
    StepUnknown,
    TurningRound,
    UndoDone,
    UndoStarted,
)
from unwind.core.groups import MAX_ITEMS, ForEach, OfItem, Parallel
from unwind.core.pending import due, outstanding
from unwind.core.steps import SKIP, Command, CommandStep, Fail, Kind, Refused
from unwind.errors import DefinitionError
from unwind.testing.scenario import (
    Scenario,
    cancel,
    failed,
    ok,
    pause,
    refused,
    resolve,
    resume,
    retry,
    signal,
    skip,
    undo_failed,
    undo_refused,
    undone,
)


def started(*parts: Any, **options: Any) -> Scenario[Trip]:
    return Scenario(trip(*parts, **options)).given(Trip())


def side_by_side(**options: Any) -> Scenario[Trip]:
    """A flight, beside a hotel and then a spa; a car when all are booked."""
    return started(Parallel(booking("flight"), [booking("hotel"), booking("spa")]), booking("car"), **options)


# ------------------------------------------------------------------------------------------------------------ branches


def test_branches_go_on_side_by_side() -> None:
    side_by_side().then(
        events=[SagaStarted, StepStarted, StepStarted], effects=["flight/do", "hotel/do"], status="running"
    )


def test_each_branch_goes_on_at_its_own_pace() -> None:
    side_by_side().when(ok("hotel", BOOKED)).then(effects=["flight/do", "spa/do"])


def test_what_follows_begins_when_every_branch_is_over() -> None:
    scenario = side_by_side().when(ok("flight", BOOKED)).then(effects=["hotel/do"]).when(ok("hotel", BOOKED))
    scenario.when(ok("spa", BOOKED)).then(effects=["car/do"]).when(ok("car", BOOKED)).then(status="completed")


def test_every_branch_adds_to_the_same_context() -> None:
    scenario = side_by_side().when(ok("hotel", Booked("h"))).when(ok("flight", Booked("f")))
    scenario.when(ok("spa", Booked("s"))).then(context=Trip(codes=("h", "f", "s")))


def test_a_command_is_frozen_whatever_other_branches_do_to_the_context() -> None:
    scenario = side_by_side().when(ok("hotel", BOOKED)).when(failed("flight")).at(10)
    [flight] = [effect for effect in scenario.effects if effect.step == "flight"]
    assert b"x1" not in bytes(flight.command.payload)  # type: ignore[union-attr]


def test_each_branch_has_its_own_retries() -> None:
    scenario = side_by_side().when(failed("flight")).then(events=[StepFailed], effects=["hotel/do"])
    scenario.at(10).then(effects=["flight/do", "hotel/do"])
    assert due(scenario.state, scenario.now) is not None


def test_a_step_that_is_left_out_holds_nobody_up() -> None:
    scenario = started(Parallel(booking("flight", verdict=SKIP), booking("hotel")), booking("car"))
    scenario.when(ok("hotel", BOOKED)).then(effects=["car/do"])


def test_groups_stand_inside_branches() -> None:
    inner = Parallel(booking("spa"), booking("tour"))
    scenario = started(Parallel([booking("hotel"), inner, booking("dinner")], booking("flight")))
    scenario.when(ok("hotel", BOOKED)).then(effects=["flight/do", "spa/do", "tour/do"])
    scenario.when(ok("spa", BOOKED)).when(ok("tour", BOOKED)).then(effects=["flight/do", "dinner/do"])


def test_a_wait_in_one_branch_does_not_hold_up_the_others() -> None:
    scenario = started(Parallel(approval("boss"), nap("rest"), booking("flight")), booking("car"))
    scenario.when(ok("flight", BOOKED)).at(30).then(events=[StepUnknown, CompensationStarted, UndoStarted])
    scenario = started(Parallel(approval("boss"), nap("rest"), booking("flight")), booking("car"))
    scenario.when(signal("boss", BOOKED)).when(ok("flight", BOOKED)).at(30).then(effects=["car/do"])


def test_past_the_pivot_each_branch_is_blocked_for_itself() -> None:
    retriable = [booking(name, Kind.RETRIABLE) for name in ("mail", "bill")]
    scenario = started(booking("flight", Kind.PIVOT), Parallel(*retriable)).when(ok("flight", BOOKED))
    scenario.when(refused("mail", "no address")).then(events=[SagaBlocked], status="blocked")
    scenario.when(failed("bill")).then(events=[StepFailed]).at(10).when(refused("bill")).then(events=[SagaBlocked])
    scenario.when(ok("mail", BOOKED)).then(status="blocked").when(ok("bill", BOOKED)).then(status="completed")


# ------------------------------------------------------------------------------------------------------- turning round


def test_when_a_branch_fails_what_is_under_way_settles_before_anything_is_undone() -> None:
    scenario = (
        side_by_side().when(refused("hotel", "full")).then(events=[StepRefused, TurningRound], effects=["flight/do"])
    )
    scenario.then(status="running").when(ok("flight", BOOKED))
    scenario.then(events=[StepDone, CompensationStarted, UndoStarted], effects=["flight/undo"], status="compensating")
    assert (scenario.log[-2].cause, scenario.log[-2].step, scenario.log[-2].reason) == ("refused", "hotel", "full")  # type: ignore[union-attr]


def test_a_branch_that_settles_begins_nothing_more() -> None:
    side_by_side().when(refused("flight")).when(ok("hotel", BOOKED)).then(effects=["hotel/undo"])


def test_nothing_under_way_beside_it_means_that_the_saga_turns_round_at_once() -> None:
    scenario = side_by_side().when(ok("flight", BOOKED)).when(refused("hotel"))
    scenario.then(events=[StepRefused, CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_both_branches_may_say_no() -> None:
    scenario = side_by_side().when(refused("hotel")).when(refused("flight"))
    scenario.then(events=[StepRefused, CompensationStarted, SagaCompensated], status="compensated")


def test_the_saga_waits_for_the_last_of_several() -> None:
    scenario = started(Parallel(booking("a"), booking("b"), booking("c"))).when(refused("a"))
    scenario.when(refused("b")).then(events=[StepRefused], effects=["c/do"]).when(ok("c", BOOKED))
    scenario.then(effects=["c/undo"])
    assert scenario.log[-2].step == "a"  # type: ignore[union-attr]


def test_a_failure_while_the_saga_settles_is_worth_no_further_attempt() -> None:
    scenario = side_by_side().when(refused("hotel")).when(failed("flight"))
    scenario.then(events=[StepUnknown, CompensationStarted, UndoStarted], effects=["flight/undo"])
    scenario = side_by_side().when(refused("hotel")).at(30)
    scenario.then(events=[StepUnknown, CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_what_is_in_a_backoff_is_not_tried_again_once_the_saga_settles() -> None:
    scenario = started(Parallel(booking("flight"), booking("hotel"), booking("car")))
    scenario.when(failed("flight")).when(refused("hotel")).then(effects=["car/do"]).at(10).then(events=[])
    scenario.when(resume()).then(events=[SagaResumed], effects=["car/do"]).when(ok("car", BOOKED))
    scenario.then(effects=["car/undo", "flight/undo"])


def test_what_only_waits_is_not_waited_for() -> None:
    started(Parallel(approval("boss"), nap("rest"), booking("hotel"))).when(refused("hotel")).then(status="compensated")
    scenario = started(Parallel(approval("boss"), booking("flight"), booking("hotel"))).when(refused("hotel"))
    scenario.when(signal("boss", BOOKED)).then(verdict="unfit", events=[]).at(29).then(events=[])
    scenario.when(ok("flight", BOOKED)).then(effects=["flight/undo"])


def test_a_guard_that_says_fail_lets_the_others_settle_too() -> None:
    scenario = started(Parallel(booking("flight"), booking("hotel", verdict=Fail("too dear")), booking("car")))
    scenario.then(events=[SagaStarted, StepStarted, TurningRound], effects=["flight/do"])


def test_a_wait_that_brings_no_word_lets_the_others_settle_too() -> None:
    slow = booking("flight", timeout=timedelta(minutes=5))
    scenario = started(Parallel(approval("boss"), slow)).at(30).then(events=[StepUnknown, TurningRound])
    scenario.when(ok("flight", BOOKED)).then(effects=["flight/undo"])


def test_a_cancel_and_the_deadline_wait_for_nothing() -> None:
    side_by_side().when(cancel()).then(events=[CompensationStarted, UndoStarted, UndoStarted])
    scenario = side_by_side().when(refused("hotel")).when(cancel()).then(effects=["flight/undo"])
    assert scenario.log[-2].cause == "cancelled"  # type: ignore[union-attr]
    slow = booking("flight", timeout=timedelta(minutes=5))
    scenario = started(Parallel(slow, booking("hotel")), deadline=timedelta(seconds=60)).when(refused("hotel"))
    scenario.at(60).then(effects=["flight/undo"])


def test_answers_are_recorded_while_paused_and_the_saga_settles() -> None:
    scenario = side_by_side().when(refused("hotel")).when(pause()).at(500).nothing_happened()
    scenario.when(ok("flight", BOOKED)).then(events=[StepDone, CompensationStarted], effects=[], status="paused")
    scenario.when(resume()).then(effects=["flight/undo"])


def test_a_reply_that_the_author_cannot_take_is_not_waited_for_either() -> None:
    class Broken(Booking):
        name = "flight"

        def succeeded(self, context: Trip, reply: Booked) -> Trip:
            raise ValueError("oops")

        def compensate(self, context: Trip) -> Command:
            return Unbook("flight")

    scenario = started(Parallel(Broken(), booking("hotel"))).when(refused("hotel")).when(ok("flight", BOOKED))
    scenario.then(events=[SagaBlocked, CompensationStarted, UndoStarted], effects=["flight/undo"])


def test_while_it_settles_no_step_is_mended_for_it_is_undone_in_any_case() -> None:
    class Broken(Booking):
        name = "car"

        def execute(self, context: Trip) -> Command:
            raise ValueError("oops")

        def compensate(self, context: Trip) -> Command:
            return Unbook("car")

    scenario = started(Parallel(booking("flight"), booking("hotel"), Broken())).then(status="blocked")
    scenario.when(refused("hotel")).then(events=[StepRefused, TurningRound])
    scenario.when(skip("car")).nothing_happened().then(verdict="unfit")


# ------------------------------------------------------------------------------------------------------------- undoing


def all_booked() -> Scenario[Trip]:
    return side_by_side().when(ok("flight", BOOKED)).when(ok("hotel", BOOKED)).when(ok("spa", BOOKED))


def test_each_branch_is_undone_backwards_and_the_branches_side_by_side() -> None:
    scenario = all_booked().when(cancel()).then(effects=["car/undo"]).when(undone("car"))
    scenario.then(effects=["spa/undo", "flight/undo"]).when(undone("spa")).then(effects=["flight/undo", "hotel/undo"])
    scenario.when(undone("flight")).then(effects=["hotel/undo"]).when(undone("hotel")).then(status="compensated")


def test_what_stands_before_a_group_is_undone_when_every_branch_is() -> None:
    scenario = started(booking("visa"), Parallel(booking("flight"), booking("hotel"))).when(ok("visa", BOOKED))
    scenario.when(cancel()).then(effects=["hotel/undo", "flight/undo"]).when(undone("hotel")).then(
        effects=["flight/undo"]
    )
    scenario.when(undone("flight")).then(effects=["visa/undo"])


def test_a_blocked_undo_holds_back_its_own_branch_and_what_stands_before_the_group() -> None:
    scenario = started(booking("visa"), Parallel([booking("a"), booking("b")], [booking("c"), booking("d")]))
    for step in ("visa", "a", "c"):
        scenario.when(ok(step, BOOKED))
    scenario.when(cancel()).when(undo_refused("b", "locked")).then(status="blocked", effects=["d/undo", "b/undo"])
    scenario.when(undone("d")).then(effects=["b/undo", "c/undo"]).when(undone("c")).then(effects=["b/undo"])
    scenario.when(undone("b")).then(effects=["a/undo"], status="compensating")


def test_undos_side_by_side_have_their_own_retries_and_their_own_blocks() -> None:
    scenario = started(Parallel(booking("a"), booking("b"))).when(cancel()).then(effects=["b/undo", "a/undo"])
    scenario.when(undo_failed("a")).when(undo_refused("b", "locked")).then(status="blocked")
    scenario.at(10).then(effects=["b/undo", "a/undo"]).when(undo_refused("a", "locked too")).then(events=[SagaBlocked])
    scenario.when(undone("a")).then(status="blocked").when(undone("b")).then(status="compensated")


def test_an_action_that_may_still_run_holds_back_its_own_undo_only() -> None:
    scenario = started(booking("visa"), Parallel(errand("taxi"), booking("hotel"))).when(ok("visa", BOOKED))
    scenario.when(cancel()).then(effects=["hotel/undo"]).when(undone("hotel")).then(effects=[])
    scenario.when(ok("taxi")).then(effects=["taxi/undo"]).when(undone("taxi")).then(effects=["visa/undo"])


def test_the_lease_of_such_an_action_wakes_the_saga() -> None:
    scenario = started(Parallel(errand("taxi"), diary("page"))).when(cancel()).at(29).then(effects=[])
    scenario.worker = "w2"
    scenario.at(30).then(effects=["taxi/undo"])


def test_an_undo_that_cannot_begin_holds_back_only_what_stands_before_it() -> None:
    class Broken(Booking):
        name = "a"

        def compensate(self, context: Trip) -> Command:
            raise ValueError("oops")

    scenario = started(booking("visa"), Parallel(Broken(), booking("b"))).when(ok("visa", BOOKED)).when(cancel())
    scenario.then(effects=["b/undo"], status="blocked").when(undone("b")).then(effects=[], status="blocked")
    scenario.when(skip("a")).then(effects=["visa/undo"]).when(undone("visa")).then(status="compensated")


# --------------------------------------------------------------------------------------------------------------- mends


def two_blocked() -> Scenario[Trip]:
    scenario = started(Parallel(booking("a"), booking("b"))).when(cancel())
    return scenario.when(undo_refused("a", "no")).when(undo_refused("b", "no"))


def test_where_several_steps_need_a_person_an_act_says_which() -> None:
    scenario = two_blocked().when(skip()).nothing_happened().then(verdict="unfit")
    scenario.when(skip("a")).then(status="blocked").when(resolve("b")).then(status="compensated")
    assert scenario.state.left == ("a",)


def test_an_act_on_a_step_that_needs_nobody_names_those_that_do() -> None:
    scenario = two_blocked().when(retry("car")).nothing_happened()
    assert scenario.reason == "what needs a person is a, b, not car"


def test_a_retry_is_about_one_step_and_leaves_the_others_in_their_backoff() -> None:
    scenario = started(Parallel(booking("a"), booking("b"))).when(failed("a")).when(failed("b"))
    scenario.when(retry()).nothing_happened().then(verdict="unfit")
    scenario.when(retry("b")).then(effects=["b/do"])


def test_once_one_wait_has_turned_the_saga_round_the_next_is_not_asked() -> None:
    class Fickle(Approval):
        mended = False

        def succeeded(self, context: Trip, reply: Booked) -> Refused:
            if self.mended:
                return Refused("no")
            raise ValueError("oops")

    first, second = type("A", (Fickle,), {"name": "a"})(), type("B", (Fickle,), {"name": "b"})()
    scenario = started(Parallel(first, second)).when(signal("a", BOOKED)).when(signal("b", BOOKED))
    first.mended = second.mended = True
    scenario.when(resume()).then(events=[SagaResumed, StepRefused, CompensationStarted, SagaCompensated])


def test_resume_drives_on_everything_that_waits() -> None:
    scenario = started(Parallel(booking("a"), booking("b"))).when(failed("a")).when(failed("b"))
    scenario.when(resume()).then(effects=["a/do", "b/do"])


# ------------------------------------------------------------------------------------------------------------ for each


class Parcel(Struct, frozen=True):
    kilos: int


class Pack(Command, frozen=True, tag="depot.pack"):
    kilos: int


class Unpack(Command, frozen=True, tag="depot.unpack"):
    kilos: int


class PackParcel(CommandStep[Trip, Booked], OfItem[Parcel]):
    name = "pack"

    def execute(self, context: Trip) -> Command:
        return Pack(self.item.kilos)

    def compensate(self, context: Trip) -> Command:
        return Unpack(self.item.kilos)


def packing(items: Any, **options: Any) -> Scenario[Trip]:
    return started(ForEach("parcels", PackParcel(), items=lambda _: items, of=Parcel, **options), booking("car"))


TWO = {"red": Parcel(3), "blue": Parcel(5)}


def test_the_steps_are_done_for_each_item_side_by_side_under_names_of_their_own() -> None:
    scenario = packing(TWO).then(
        events=[SagaStarted, ItemsListed, StepStarted, StepStarted], effects=["pack[red]/do", "pack[blue]/do"]
    )
    assert [bytes(effect.command.payload) for effect in scenario.effects] == [  # type: ignore[union-attr]
        b'{"type":"depot.pack","kilos":3}',
        b'{"type":"depot.pack","kilos":5}',
    ]


def test_what_follows_begins_when_every_item_is_over() -> None:
    scenario = packing(TWO).when(ok("pack[blue]", BOOKED)).then(effects=["pack[red]/do"])
    scenario.when(ok("pack[red]", BOOKED)).then(effects=["car/do"])


def test_no_items_mean_that_nothing_is_to_be_done() -> None:
    packing({}).then(events=[SagaStarted, ItemsListed, StepStarted], effects=["car/do"])


def test_only_so_many_items_are_under_way_at_once() -> None:
    scenario = packing({key: Parcel(1) for key in "abcd"}, at_once=2).then(effects=["pack[a]/do", "pack[b]/do"])
    scenario.when(ok("pack[b]", BOOKED)).then(effects=["pack[a]/do", "pack[c]/do"])


def test_an_item_goes_through_all_its_steps_at_its_own_pace() -> None:
    scenario = started(parcels(booking("pick"), booking("pack"), of=("x", "y"), at_once=1))
    scenario.when(ok("pick[x]", BOOKED)).then(effects=["pack[x]/do"])
    scenario.when(ok("pack[x]", BOOKED)).then(effects=["pick[y]/do"])
    scenario.when(cancel()).then(effects=["pick[y]/undo", "pack[x]/undo"]).when(undone("pack[x]"))
    scenario.then(effects=["pick[y]/undo", "pick[x]/undo"])


def test_each_item_is_undone_with_what_it_is() -> None:
    scenario = packing(TWO).when(ok("pack[red]", BOOKED)).when(refused("pack[blue]")).then(effects=["pack[red]/undo"])
    assert bytes(scenario.effects[0].command.payload) == b'{"type":"depot.unpack","kilos":3}'  # type: ignore[union-attr]


def test_the_items_are_asked_for_once_whatever_becomes_of_the_context() -> None:
    asked: list[int] = []

    def items(context: Trip) -> Mapping[str, Parcel]:
        asked.append(1)
        return TWO

    scenario = started(ForEach("parcels", PackParcel(), items=items, of=Parcel), booking("car"))
    scenario.when(ok("pack[red]", BOOKED)).when(failed("pack[blue]")).at(10)
    assert asked == [1]


def test_an_answer_about_an_item_that_is_not_there_does_nothing() -> None:
    for step in ("pack[green]", "pack", "pack[]", "parcels[red]", "parcels"):
        packing(TWO).when(ok(step, BOOKED)).nothing_happened()


@pytest.mark.parametrize(
    ("items", "told"),
    [
        ([Parcel(1)], "give a mapping"),
        ({"a/b": Parcel(1)}, "the key 'a/b'"),
        ({"": Parcel(1)}, "the key ''"),
        ({3: Parcel(1)}, "the key 3"),
        ({"k" * 101: Parcel(1)}, "of 1 to 100 characters"),
        ({"a": "parcel"}, "Expected `object`"),
        ({"a": object()}, "unsupported"),
        ({str(number): Parcel(1) for number in range(MAX_ITEMS + 1)}, "at most 256 are allowed"),
    ],
)
def test_items_that_will_not_do_block_the_saga_and_say_why(items: Any, told: str) -> None:
    scenario = packing(items).then(events=[SagaStarted, SagaBlocked], status="blocked")
    assert scenario.state.blocked is not None
    assert told in scenario.state.blocked.reason


def test_a_person_may_leave_out_a_group_that_cannot_list_its_items() -> None:
    packing(["oops"]).when(skip("parcels")).then(events=[StepSkipped, StepStarted], effects=["car/do"])


def test_a_group_may_be_left_out_by_its_guard() -> None:
    class Never(ForEach[Trip, Parcel]):
        def when(self, context: Trip) -> bool:
            return False

    group = Never("parcels", PackParcel(), items=lambda _: TWO, of=Parcel)
    started(group, booking("car")).then(events=[SagaStarted, StepSkipped, StepStarted], effects=["car/do"])


def test_a_wait_for_each_item_hears_a_signal_of_its_own_once_the_items_are_known() -> None:
    scenario = started(booking("visa"), parcels(approval("check"), of=("x", "y")))
    scenario.when(signal("check[x]", BOOKED)).nothing_happened().then(verdict="unfit")
    assert scenario.reason == "it waits for no signal 'check[x]'; it has check[…]"
    scenario.when(ok("visa", BOOKED)).when(signal("check[y]", BOOKED)).when(signal("check[x]", BOOKED))
    scenario.then(status="completed")


def test_nothing_is_outstanding_of_a_group_that_has_no_steps_under_way() -> None:
    assert outstanding(packing({}).when(ok("car", BOOKED)).then(events=[StepDone, SagaCompleted]).state) == []


def test_an_undone_item_stays_undone() -> None:
    scenario = packing(TWO).when(cancel()).when(undone("pack[red]")).then(events=[UndoDone])
    scenario.when(undone("pack[red]")).nothing_happened()


# ---------------------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("parts", "told"),
    [
        ([Parallel(booking("a"))], "at least two branches"),
        ([Parallel(booking("a"), [])], "at least two branches"),
        ([booking("a"), Parallel(booking("b"))], "the group after 'a'"),
        ([Parallel(booking("a"), booking("a"))], "same name"),
        ([Parallel(booking("a", Kind.PIVOT), booking("b"))], "a pivot cannot have neighbours"),
        ([parcels(booking("a", Kind.PIVOT), of=())], "a pivot cannot have neighbours"),
        (["flight"], "'flight' is no step"),
        ([Parallel(cast("Any", "flight"), booking("b"))], "'flight' is no step"),
        ([parcels(of=())], "it has no steps"),
        ([parcels(booking("a"), of=(), at_once=0)], "at_once must be at least 1"),
        ([parcels(booking("a"), booking("b"), *map(booking, "cde"), of=(), at_most=205)], "between 1 and 204 for"),
        ([parcels(booking("a"), of=(), at_most=257)], "at_most must lie between 1 and 256 for"),
        ([parcels(booking("a"), of=(), name="a[b]")], "or brackets"),
        ([parcels(booking("a[b]"), of=())], "or brackets"),
        ([ForEach("g", booking("a"), items=lambda _: {}, of=str)], "derive it from OfItem too"),
        ([ForEach("g", parcels(booking("a"), of=()), items=lambda _: {}, of=str)], "inside another"),
        ([PackParcel()], "OfItem is for ForEach only"),
        ([ForEach("g", PackParcel(), items=lambda _: {}, of=object)], "items' type"),
    ],
)
def test_a_group_that_cannot_work_is_refused_when_it_is_built(parts: Any, told: str) -> None:
    with pytest.raises(DefinitionError, match=told.replace("[", r"\[")):
        trip(*parts)


def test_groups_are_part_of_what_running_sagas_are_bound_to() -> None:
    a, b, c = booking("a"), booking("b"), booking("c")
    hashes = {
        trip(*parts).hash
        for parts in (
            [a, b, c],
            [Parallel(a, b), c],
            [a, Parallel(b, c)],
            [Parallel(a, b, c)],
            [Parallel([a, b], c)],
            [parcels(a, of=()), b, c],
            [parcels(a, b, of=()), c],
            [parcels(a, of=(), at_once=1), b, c],
        )
    }
    assert len(hashes) == 8


def test_a_sequence_keeps_the_hash_it_had_before_there_were_groups() -> None:
    assert trip().hash == "7e29070c367a"


def test_a_decision_makes_only_the_steps_of_those_items_that_it_is_about() -> None:
    made: list[str] = []

    class Counted(PackParcel):
        def of_item(self, stored: Raw, of: Any) -> Self:
            made.append("")
            return super().of_item(stored, of)

    items = {f"k{number}": Parcel(1) for number in range(100)}
    scenario = started(ForEach("parcels", Counted(), items=lambda _: items, of=Parcel), booking("car"))
    assert len(made) == 100
    for act, most in ((ok("pack[k7]", BOOKED), 1), (failed("pack[k8]"), 1), (cancel(), 100), (undone("pack[k9]"), 1)):
        made.clear()
        scenario.when(act)
        assert len(made) <= most


def test_what_is_parked_is_neither_waited_for_nor_begun_anew_once_another_has_failed() -> None:
    scenario = started(Parallel(booking("a"), booking("b"), errand("c"))).at(30, silent=["agency"])
    scenario.when(refused("b")).then(events=[StepRefused, TurningRound], effects=["c/do"])
    scenario.at(120).then(events=[]).when(ok("c")).then(effects=["c/undo", "a/undo"])
