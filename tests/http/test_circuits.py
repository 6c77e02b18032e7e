"""`GET /circuits`: which participants answer, as the process that is asked has seen."""

import asyncio
from typing import Any

import httpx
from tests.core.trips import Trip, trip
from tests.http.test_explain import instant_after
from tests.http.test_problems import ABOUT, client_of
from tests.runtime.rig import Rig, reply, virtual

from unwind.http.app import Guarded, create_app
from unwind.ports import Message
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries

SAGA = trip()


def asked(app: Guarded, path: str) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with client_of(app) as client:
            return await client.get(path)

    return asyncio.run(ask())


def seen(*, up: bool, elapse: float, back: float = 0, replies: bool = True, path: str = "/api/v1/circuits") -> Any:
    """What is told after three sagas have met a participant that is up, or down and perhaps back later."""
    apps: list[Guarded] = []

    @virtual
    async def happen() -> None:
        rig = Rig(SAGA)
        answers = [up]

        def answer(command: Message) -> Message | None:
            return reply(command) if answers[0] else None

        await rig.agency(answer)
        engine = await rig.launch(sweeps=True)
        for _ in range(3):
            await engine.start(SAGA, Trip())
        await rig.elapse(elapse)
        answers[0] = True
        await rig.elapse(back)
        if not replies:
            engine = Engine(
                rig.store,
                rig.bus,
                [SAGA],
                clock=rig.clock,
                worker="api-1",
                new_id=rig.new_id,
                jitter=lambda: 0.0,
                replies=False,
            )
        apps.append(create_app(ABOUT, engine, Queries(rig.scripted), {}))

    happen()
    response = asked(apps[0], path)
    assert response.status_code == 200, response.text
    return response.json()


def test_who_answers_has_a_closed_circuit() -> None:
    [circuit] = seen(up=True, elapse=1)["circuits"]
    assert circuit == {
        "service": "agency",
        "state": "closed",
        "since": None,
        "answers": 9,
        "answered_at": circuit["answered_at"],
        "unanswered": 0,
        "opened": 0,
        "parked": 0,
        "next_probe_at": None,
        "per_second": None,
    }


def test_who_does_not_answer_has_an_open_one() -> None:
    told = seen(up=False, elapse=47)
    [circuit] = told["circuits"]
    assert (told["worker"], told["hears_answers"]) == ("w1", True)
    assert (circuit["state"], circuit["opened"], circuit["answers"]) == ("open", 1, 0)
    assert circuit["since"] is not None
    assert circuit["next_probe_at"] > circuit["since"]
    assert circuit["parked"] == 3
    assert circuit["answered_at"] is None
    assert circuit["since"] >= instant_after(10)


def test_who_is_back_is_let_in_step_by_step() -> None:
    [circuit] = seen(up=False, elapse=47, back=5)["circuits"]
    assert circuit["state"] == "ramp"
    assert circuit["per_second"] >= 10
    assert circuit["next_probe_at"] is None


def test_the_list_says_of_a_saga_that_is_parked_whom_it_waits_for() -> None:
    listed = seen(up=False, elapse=47, path="/api/v1/sagas")["sagas"]
    assert [(saga["status"], saga["parked"]) for saga in listed] == [("running", "agency")] * 3
    listed = seen(up=False, elapse=47, back=60, path="/api/v1/sagas")["sagas"]
    assert [(saga["status"], saga["parked"]) for saga in listed] == [("completed", None)] * 3


def test_a_process_that_hears_no_answers_says_so() -> None:
    assert seen(up=True, elapse=1, replies=False) == {"worker": "api-1", "hears_answers": False, "circuits": []}
