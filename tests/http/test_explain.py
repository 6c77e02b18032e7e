"""Why a saga is where it is, as an operator reads it: real engine, virtual time, the HTTP application in-process."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta
from functools import reduce
from itertools import product
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from msgspec import Raw
from msgspec.structs import replace
from tests.core.chance import TRIED
from tests.core.reference import Node
from tests.core.test_laws import Story, definitions, moves
from tests.core.trips import Trip, booking, diary, errand, pivotal, trip
from tests.core.walk import walk
from tests.http.conftest import BROKE, Shop, check_problem
from tests.http.test_problems import ABOUT, client_of
from tests.http.test_sagas import UNKNOWN, placed
from tests.runtime.rig import Answer, Deed, Rig, refusing, reply, virtual

from unwind.core.acts import in_need
from unwind.core.decide import decide
from unwind.core.events import Event
from unwind.core.evolve import evolve
from unwind.core.messages import Cancel, Input, Moment, Pause, ResolveStep, Resume, RetryStep, SkipStep, Start
from unwind.core.saga import Saga
from unwind.core.state import NEW, State
from unwind.core.steps import SKIP, ActionCall, Kind
from unwind.http import create_app
from unwind.ports import Message
from unwind.runtime.acts import ACTS
from unwind.runtime.engine import Engine
from unwind.runtime.explain import explain
from unwind.runtime.limits import Limits
from unwind.runtime.queries import Queries
from unwind.runtime.situation import spoken
from unwind.testing.scenario import Scenario


class Told:
    """What the API tells of a saga when all has happened that the test lets happen."""

    def __init__(
        self,
        saga: Saga[Any],
        answer: Answer | None,
        *acts: Any,
        elapse: float = 0.5,
        knows: bool = True,
        sweeps: bool = True,
        parks: bool = True,
    ) -> None:
        """`answer` None: the participant is down. `acts`: operators' calls, and seconds that pass, in turn.

        Unless it `parks`, attempts at a participant that is down are spent.
        """
        self.saga_id = ""
        self.acts = acts

        @virtual
        async def happen() -> None:
            rig = Rig(saga, limits=Limits(circuit_after=3 if parks else 0))
            if answer is not None:
                await rig.agency(answer)
            engine = await rig.launch(sweeps=sweeps)
            self.saga_id = (await engine.start(saga, Trip())).saga_id
            await rig.elapse(elapse)
            for act in acts:
                await (rig.elapse(act) if isinstance(act, int | float) else act(engine, self.saga_id))
            asking = engine if knows else rig.engine("w2", trip(booking("other")))
            self.app = create_app(ABOUT, asking, Queries(rig.scripted), {})

        happen()

    def ask(self, what: str = "explain") -> Any:
        async def asked() -> httpx.Response:
            async with client_of(self.app) as client:
                return await client.get(f"/api/v1/sagas/{self.saga_id}/{what}".rstrip("/"))

        response = asyncio.run(asked())
        assert response.status_code == 200, response.text
        return response.json()


def cancel(engine: Engine, saga_id: str) -> Any:
    return engine.cancel(saga_id, actor="ada", reason="the customer called")


def pause(engine: Engine, saga_id: str) -> Any:
    return engine.pause(saga_id, actor="ada", reason="deploying")


def silent(*names: str) -> Answer:
    """Never answers what is about these steps, `step/direction`."""
    return lambda command: None if f"{command.step}/{command.direction}" in names else reply(command)


def saying(outcome: str, reason: str, *names: str) -> Answer:
    """Answers so to these, and yes to everything else."""

    def answer(command: Message) -> Message:
        said = f"{command.step}/{command.direction}" in names
        return reply(command, outcome if said else "ok", reason=reason if said else "")

    return answer


def possible(explained: Any) -> set[str]:
    return {may["act"] for may in explained["may"] if may["possible"]}


def consequence(explained: Any, act: str) -> str:
    return str(next(may["consequence"] for may in explained["may"] if may["act"] == act))


def instant_after(seconds: int) -> str:
    """So long after virtual time began."""
    return f"2023-11-14T22:{13 + (20 + seconds) // 60:02}:{(20 + seconds) % 60:02}.000000Z"


def test_a_participant_that_is_down() -> None:
    told = Told(trip(), None, elapse=22).ask()
    assert told["headline"] == "Waiting for agency to answer flight for 22 s: attempt 1 of 2, sent 5 times."
    assert told["sentences"] == [
        "It is sent again in 3 s, under the same id, so that nothing happens twice.",
        "Without an answer the attempt ends in 8 s; then attempt 2 follows.",
        "Should agency answer nobody, it is parked instead: no attempt is spent.",
    ]
    assert told["waits_for"] == {
        "what": "answer",
        "step": "flight",
        "direction": "do",
        "participant": "agency",
        "since": instant_after(0),
        "attempt": 1,
        "attempts": 2,
        "sent": 5,
    }
    assert told["next_at"] == instant_after(25)
    assert possible(told) == {"cancel", "pause", "resume"}
    assert consequence(told, "cancel") == "Undoes, in this order: flight; then it is compensated."


def test_it_counts_as_many_sends_as_there_were() -> None:
    sent: list[str] = []

    def listening(command: Message) -> None:
        sent.append(command.id)

    for seconds in (1, 7, 13, 24):
        sent.clear()
        assert Told(trip(), listening, elapse=seconds, parks=False).ask()["waits_for"]["sent"] == len(sent)


def test_the_last_attempt_says_that_everything_is_undone_after_it() -> None:
    told = Told(trip(), None, elapse=52, parks=False).ask()
    assert "attempt 2 of 2" in told["headline"]
    assert "Attempt 1 failed 22 s ago: no answer in time." in told["sentences"]
    assert told["sentences"][-2].endswith("; then its outcome is unknown and the saga is undone.")


def test_an_outage() -> None:
    told = Told(trip(), silent("hotel/do"), elapse=130).ask()
    assert told["headline"] == "Parked for 100 s: agency does not answer, and hotel waits until it does."
    assert told["sentences"] == [
        f"agency was first asked for it 2 minutes ago ({instant_after(0)}), and was silent to others too.",
        "No attempt is being spent: it is still attempt 1 of 2.",
        "It is tried again in 110 s, by itself; an answer that comes before that counts.",
        "If its participant will never come back, a person may resolve it by hand, as what is blocked.",
    ]
    assert (told["waits_for"]["what"], told["waits_for"]["participant"]) == ("outage", "agency")
    assert told["waits_for"]["since"] == instant_after(30)
    assert told["status"] == "running"
    assert possible(told) == {"cancel", "pause", "resume", "retry", "resolve"}


def test_an_undo_that_is_parked() -> None:
    told = Told(trip(), silent("hotel/do", "hotel/undo"), cancel, 40, elapse=1).ask()
    assert told["headline"] == "Parked for 10 s: agency does not answer, and the undo of hotel waits until it does."
    assert consequence(told, "skip") == "Leaves hotel as it is for good, names it in left_undone, and goes on."


def test_one_that_was_parked_and_is_asked_again() -> None:
    async def another(engine: Engine, _: str) -> None:
        await engine.start(saga, Trip())

    saga = trip()
    told = Told(saga, silent("hotel/do"), another, 5, elapse=65).ask()
    assert told["headline"].startswith("Waiting for agency to answer hotel for")
    assert told["sentences"][-1].endswith("; then it is parked again, unless its participant has answered others.")


def test_the_detail_says_that_it_is_parked() -> None:
    told = Told(trip(), silent("hotel/do"), elapse=130)
    shown = told.ask("")
    assert shown["parked"] == {
        "step": "hotel",
        "direction": "do",
        "participant": "agency",
        "since": instant_after(30),
        "until": shown["parked"]["until"],
    }
    assert Told(trip(), reply).ask("")["parked"] is None
    acts = told.ask("history")["acts"]
    assert {act["act"] for act in acts} == {"parked"}
    assert [entry["status"] for entry in told.ask("history")["history"]] == ["completed", "running"]


def test_a_backoff() -> None:
    told = Told(trip(), saying("failed", "the agency is closed", "flight/do"), elapse=4).ask()
    assert told["headline"] == "In a backoff: flight is tried again in 6 s, attempt 2 of 2."
    assert told["sentences"] == ["Attempt 1 failed 4 s ago: the agency is closed."]
    assert (told["waits_for"]["what"], told["next_at"]) == ("backoff", instant_after(10))
    assert consequence(told, "resume") == "Ends the backoff and tries flight again now: attempt 2 of 2."


def test_a_compensation_that_is_blocked_by_a_refusal() -> None:
    told = Told(trip(), saying("refused", "already flown", "hotel/undo", "car/do"), elapse=130).ask()
    assert (told["status"], told["headline"]) == ("blocked", "Blocked for 2 minutes: the undo of hotel needs a person.")
    assert told["sentences"] == [
        "The reason: already flown.",
        "The engine goes on trying every 5 minutes, next in 2 minutes.",
        "Waiting for it: the undo of flight.",
        "It turned round 2 minutes ago because car was refused: already flown.",
    ]
    assert (told["waits_for"]["what"], told["next_at"]) == ("operator", instant_after(300))
    assert consequence(told, "cancel") == "Refused: it is being undone already."
    assert consequence(told, "resume").startswith("Sends the undo of hotel again now")


def test_a_compensation_whose_participant_is_down() -> None:
    told = Told(trip(), silent("hotel/do", "hotel/undo"), cancel, 20, elapse=1).ask()
    assert told["status"] == "compensating"
    assert told["headline"].startswith("Waiting for agency to answer the undo of hotel for 20 s: attempt 1 of 2, sent")
    assert told["sentences"][-1] == "It turned round 20 s ago because ada cancelled it: the customer called."
    blocked = Told(trip(), silent("hotel/do", "hotel/undo"), cancel, 700, elapse=1, parks=False).ask()
    assert "The reason: attempt 2 failed: no answer in time." in blocked["sentences"]
    assert blocked["waits_for"]["sent"] == 9, "seven times in its attempt, and two at the cap"


def test_a_step_past_the_pivot_that_is_blocked() -> None:
    told = Told(pivotal(), saying("refused", "no cars", "car/do"), elapse=200).ask()
    assert told["headline"] == "Blocked for 3 minutes: car needs a person."
    assert told["sentences"] == [
        "The reason: no cars.",
        "The engine goes on trying every 5 minutes, next in 100 s.",
        "It cannot be cancelled: it is past its point of no return and can only go forward.",
    ]
    longer = trip(booking("hotel", Kind.PIVOT), booking("car", Kind.RETRIABLE), booking("taxi", Kind.RETRIABLE))
    waited = Told(longer, saying("refused", "no cars", "car/do")).ask()
    assert "Waiting for it: taxi." in waited["sentences"]
    assert possible(told) == {"pause", "resume", "retry", "resolve", "skip"}
    assert consequence(told, "cancel").startswith("Refused: it is past its point of no return")


def test_a_paused_saga_has_nothing_next() -> None:
    told = Told(trip(), silent("hotel/do"), pause, 240, elapse=1).ask()
    assert told["headline"] == "Paused for 4 minutes by ada: deploying."
    assert told["sentences"] == [
        "hotel had begun; if its answer comes, it is recorded.",
        "Nothing new begins and nothing is sent until it is resumed or cancelled.",
    ]
    assert told["next_at"] is None
    assert told["waits_for"]["since"] == instant_after(1)
    assert told["waits_for"]["sent"] == 1
    assert consequence(told, "pause") == "Nothing changes: it is paused."
    assert consequence(told, "resume").startswith("The pause ends. Sends hotel again now")
    assert consequence(told, "cancel") == "Undoes, in this order: hotel, flight; then it is compensated."


def test_the_pivot_itself_and_a_deadline_that_is_an_alarm_only() -> None:
    told = Told(pivotal(deadline=timedelta(seconds=15)), silent("hotel/do"), elapse=20).ask()
    assert "hotel, was begun; only a refusal of that step would undo the others." in told["sentences"][-2]
    assert told["sentences"][-1] == "Its deadline passed 5 s ago; past the point of no return it goes on all the same."
    assert "cancel" not in possible(told)


def test_a_deadline_that_is_to_come_is_told() -> None:
    told = Told(trip(deadline=timedelta(minutes=5)), None, elapse=20).ask()
    assert told["sentences"][-1] == "Its deadline is in 4 minutes; then everything is undone."


def test_an_overdue_deadline_and_nobody_at_work() -> None:
    told = Told(trip(deadline=timedelta(seconds=20)), None, elapse=80, sweeps=False).ask()
    assert told["headline"] == "Overdue: its deadline passed 60 s ago, and it is about to be undone."
    assert told["sentences"][-1].startswith("It should have been woken 60 s ago: check that a worker is running")
    paused = Told(trip(deadline=timedelta(seconds=20)), None, pause, 30, elapse=1).ask()
    assert paused["sentences"][-1] == "Its deadline passed 11 s ago: once resumed, it is undone."


def test_a_completed_saga() -> None:
    told = Told(trip(), reply, elapse=100).ask()
    assert (told["headline"], told["waits_for"], told["next_at"]) == ("Completed 100 s ago.", None, None)
    assert told["sentences"] == ["It took less than a second. Every step is done."]
    assert not possible(told)
    assert {may["consequence"] for may in told["may"]} == {"Refused: it has ended: it is completed."}
    skipping = Told(trip(booking("flight"), booking("hotel", verdict=SKIP)), reply).ask()
    assert skipping["sentences"][0].endswith("Every step is done, or skipped: hotel.")


def test_a_compensated_saga_says_why_it_turned_round() -> None:
    told = Told(trip(), refusing("hotel"), elapse=100).ask()
    assert told["headline"] == "Compensated 100 s ago."
    assert told["sentences"] == [
        "It took less than a second. Everything that was done is undone, and confirmed.",
        "It turned round 100 s ago because hotel was refused: full.",
    ]
    assert not possible(told)


def test_an_action_that_runs_and_one_that_must_end_before_it_is_undone() -> None:
    async def never(call: ActionCall) -> None:
        await asyncio.get_running_loop().create_future()

    saga = trip(booking("flight"), Deed("taxi", never))
    running = Told(saga, reply, elapse=5).ask()
    assert running["headline"].startswith(
        "Waiting for 5 s for taxi to end, which runs in the worker w1: attempt 1 of 1"
    )
    assert running["sentences"] == ["If its worker is gone, another takes it over, in 25 s at the earliest."]
    assert (running["waits_for"]["what"], running["waits_for"]["sent"]) == ("action", None)
    turned = Told(saga, reply, cancel, elapse=5).ask()
    assert turned["headline"] == "Waiting for 5 s for the action taxi to end, so that it can be undone."


def test_every_version_can_be_explained_also_those_in_between_the_events_of_one_decision() -> None:
    story = Scenario(trip(diary("c"), booking("flight"))).given(Trip())
    told = [
        explain(story.saga, reduce(evolve, story.log[:number], NEW), story.log[:number], story.log[number - 1].at)
        for number in range(1, len(story.log) + 1)
    ]
    assert told[1].headline == "c is recorded in the decision that begins it; this is how the saga stood in between."
    assert told[1].sentences == ("Nothing can come between.",)
    assert all(each.headline and each.next_at for each in told)


def test_a_definition_that_this_process_does_not_know() -> None:
    at = Told(trip(), silent("hotel/do"), elapse=1, knows=False)
    told = at.ask()
    assert "does not know trip version 1" in told["sentences"][-1]
    assert told["waits_for"]["attempts"] is None
    assert not possible(told)
    plan = at.ask("plan")
    assert not plan["definition_known"]
    assert [step["step"] for step in plan["ahead"]] == ["hotel"]
    assert [(undo["step"], undo["command"]) for undo in plan["undo"]] == [("hotel", None), ("flight", None)]


@pytest.mark.parametrize(
    ("micros", "said"),
    [
        (-1, "less than a second"),
        (999_999, "less than a second"),
        (1_000_000, "1 s"),
        (119_999_999, "119 s"),
        (120_000_000, "2 minutes"),
        (7_199_000_000, "119 minutes"),
        (7_200_000_000, "2 hours"),
        (172_799_000_000, "47 hours"),
        (172_800_000_000, "2 days"),
    ],
)
def test_durations_are_spoken(micros: int, said: str) -> None:
    assert spoken(micros) == said


# ------------------------------------------------------------------------------------------------- in every state


ACT_INPUTS: dict[str, Input] = {
    "cancel": Cancel("ada"),
    "pause": Pause("ada"),
    "resume": Resume("ada"),
    "retry": RetryStep("ada"),
    "resolve": ResolveStep("ada", evidence="seen", reply=Raw(b'{"code":"x"}')),
    "skip": SkipStep("ada", "so be it"),
}


def check_explanation(saga: Saga[Any], state: State, log: Sequence[Event], now: int) -> None:
    """It reads well, now and later, with the definition and without; and its acts are those the machine accepts."""
    for known, at in product((saga, None), (now, now + 61_000_000)):
        told = explain(known, state, log, at)
        texts = (told.headline, *told.sentences)
        assert all(text[0].isalnum() and text.endswith(".") for text in texts)
        assert not any("None" in text or ".." in text or ": ." in text for text in texts)
        assert (told.waits_for is None) == (not state.live)
        assert (told.next_at is None) == (not state.live or state.paused)
    for may in explain(saga, state, log, now).may:
        act = ACT_INPUTS[may.act]
        acts = [act]
        if isinstance(act, RetryStep | ResolveStep | SkipStep):  # where several need a person, an act names one
            acts += [replace(act, step=step) for _, step in in_need(state, type(act))]
        verdicts = {decide(saga, state, each, Moment(now, 0.0, "w1")).verdict for each in acts}
        assert may.possible == ("accepted" in verdicts)


@pytest.mark.parametrize("saga", [trip(), pivotal(), trip(errand("taxi"), booking("hotel"))])
def test_every_state_that_a_small_saga_can_reach_is_explained(saga: Saga[Any]) -> None:
    _, ways = walk(saga)
    logs: dict[int, tuple[Event, ...]] = {id(ways[0].before): ()}
    explained = 0
    for way in ways:
        state = way.after.state
        log = logs.setdefault(id(state), logs[id(way.before)] + way.events)
        if way.events:
            check_explanation(saga, state, log, way.after.now)
            explained += 1
    assert explained > 50


@settings(TRIED, max_examples=200)
@given(definitions(), moves)
def test_every_state_of_any_saga_is_explained(
    drawn: tuple[tuple[Node, ...], int | None], drawn_moves: list[Any]
) -> None:
    story = Story(*drawn)
    story.feed(Start("saga-1", Raw(b"{}")))
    check_explanation(story.saga, story.state, story.log, story.now)
    for kind, one, two in drawn_moves:
        message = story.move(kind, one, two)
        if message is not None and story.feed(message).events:
            check_explanation(story.saga, story.state, story.log, story.now)


def test_every_act_that_is_listed_was_tried() -> None:
    assert list(ACTS) == list(ACT_INPUTS)


async def test_an_order_that_was_refused_is_explained(shop: Shop) -> None:
    saga_id = await placed(shop, BROKE)
    await shop.until(saga_id, "compensated")
    response = await shop.http.get(f"/api/v1/sagas/{saga_id}/explain")
    assert "because process_payment was refused: insufficient balance" in response.json()["sentences"][-1]
    check_problem(await shop.http.get(f"/api/v1/sagas/{UNKNOWN}/explain"), 404, "not-found")
