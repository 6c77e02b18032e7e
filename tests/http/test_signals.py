"""Signals over HTTP: an approval, a webhook; kept when it comes early, counted once, refused where nobody waits."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager as Opened
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Protocol

import httpx
import pytest
from tests.core.trips import BOOKED, Book, Booked, Trip, Unbook, approval, booking, nap, trip
from tests.eventually import eventually
from tests.http.conftest import check_problem
from tests.http.test_problems import ABOUT, client_of

from unwind.bootstrap import Embedded, open_worker
from unwind.core.saga import Saga
from unwind.http import create_app
from unwind.runtime.engine import Engine
from unwind.runtime.participant import HandlerCall, Participant
from unwind.settings import Settings

APPROVED = trip(booking("flight"), approval("boss"), booking("car"))
YES, NO = {"code": "b-1"}, {"code": "no"}
agency = Participant[Connection]("agency")


@agency.handles(Book)
def book(tx: Connection, command: Book, call: HandlerCall) -> Booked:
    return BOOKED


@agency.undoes(Unbook)
def unbook(tx: Connection, command: Unbook, call: HandlerCall) -> None:
    return None


class Office:
    """One saga, and the API that tells it things."""

    def __init__(self, engine: Engine, http: httpx.AsyncClient, saga_id: str) -> None:
        self.engine, self.http, self.saga_id, self.path = engine, http, saga_id, f"/api/v1/sagas/{saga_id}"

    async def signal(self, name: str, payload: Any, key: str | None = None) -> httpx.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        return await self.http.post(f"{self.path}/signals/{name}", json=payload, headers=headers)

    async def ask(self, what: str = "") -> Any:
        response = await self.http.get(self.path + what)
        assert response.status_code == 200, response.text
        return response.json()

    async def ended(self) -> str:
        return (await self.engine.ended(self.saga_id)).status

    async def at(self, step: str) -> Any:
        """The saga, once it has come to that step."""

        async def come() -> Any:
            told = await self.ask()
            return told if told["current_step"] == step else None

        return await eventually(come, within=10)


class Opens(Protocol):
    def __call__(self, saga: Saga[Trip] = APPROVED) -> Opened[Office]: ...


@asynccontextmanager
async def opened(folder: Path, saga: Saga[Trip] = APPROVED) -> AsyncIterator[Office]:
    settings = Settings(data_dir=folder, database=folder / "unwind.db")
    async with open_worker(settings, [saga], [Embedded(agency, "")]) as worker:
        app = create_app(ABOUT, worker.engine, worker.queries, {})
        async with client_of(app) as http:
            yield Office(worker.engine, http, (await worker.engine.start(saga, Trip())).saga_id)


@pytest.fixture
def office(tmp_path: Path) -> Opens:
    return partial(opened, tmp_path)


async def test_an_approval_ends_the_wait(office: Opens) -> None:
    async with office() as at:
        await at.at("boss")
        answer = await at.signal("boss", YES)
        assert (answer.status_code, answer.json()["message"]) == (202, "Signal received")
        assert await at.ended() == "completed"
        assert (await at.ask())["context"]["codes"][1] == "b-1"
        story = await at.ask("/history")
        assert [(act["act"], act["step"], act["actor"]) for act in story["acts"]] == [
            ("signalled", "boss", "anonymous")
        ]
        assert [entry["status"] for entry in story["history"]] == ["completed"] * 3


async def test_a_no_undoes_the_saga(office: Opens) -> None:
    async with office() as at:
        assert (await at.signal("boss", NO)).status_code == 202
        assert await at.ended() == "compensated"
        [wait] = [entry for entry in (await at.ask("/history"))["history"] if entry["step_name"] == "boss"]
        assert (wait["status"], wait["refused"], wait["error"]) == ("failed", True, "the boss says no")


async def test_an_early_signal_is_kept(office: Opens) -> None:
    async with office(trip(nap("rest", duration=timedelta(seconds=1)), approval("boss"))) as at:
        answer = await at.signal("boss", YES)
        assert (answer.status_code, answer.json()["message"]) == (202, "Signal kept for its step")
        assert await at.ended() == "completed"


async def test_a_repeated_signal_is_accepted_and_another_one_refused(office: Opens) -> None:
    async with office(trip(nap("rest"), approval("boss"))) as at:
        for payload, key, status in ((YES, "k-1", 202), (YES, "k-1", 202), (YES, "k-2", 409)):
            assert (await at.signal("boss", payload, key)).status_code == status
        assert len((await at.ask("/history"))["acts"]) == 1


async def test_a_signal_that_nobody_waits_for_is_refused_and_says_what_there_is(office: Opens) -> None:
    async with office() as at:
        problem = check_problem(await at.signal("bos", YES), 409, "saga-state")
        assert "'bos'; it has boss" in problem["detail"]
        await at.at("boss")
        await at.signal("boss", YES)
        check_problem(await at.signal("boss", NO), 409, "saga-state")


@pytest.mark.parametrize(("payload", "field"), [({}, "payload"), ({"code": 7}, "payload.code"), (None, "payload")])
async def test_a_signal_of_another_shape_is_refused_with_its_place(office: Opens, payload: Any, field: str) -> None:
    async with office() as at:
        problem = check_problem(await at.signal("boss", payload), 422, "validation")
        assert problem["errors"][0]["field"] == field
        assert (await at.at("boss"))["status"] == "running"


async def test_a_key_that_is_none_is_refused(office: Opens) -> None:
    async with office() as at:
        problem = check_problem(await at.signal("boss", YES, "a key"), 422, "validation")
        assert problem["errors"][0]["field"] == "Idempotency-Key"


async def test_what_waits_is_explained_and_planned(office: Opens) -> None:
    async with office() as at:
        await at.at("boss")
        told = await at.ask("/explain")
        assert told["headline"].startswith("Waiting for the signal boss for ")
        [sentence] = told["sentences"]
        assert sentence.startswith("If it does not come, the wait ends in 2")
        assert sentence.endswith("; then the saga is undone.")
        waits = told["waits_for"]
        assert (waits["what"], waits["step"], waits["sent"]) == ("signal", "boss", None)
        acts = {may["act"]: may["consequence"] for may in told["may"] if may["possible"]}
        assert acts["skip"] == "Leaves boss out and goes on."
        assert acts["resume"] == "Leaves boss to wait on."
        assert acts["cancel"] == "Undoes, in this order: flight; then it is compensated."
        plan = await at.ask("/plan")
        assert [(step["step"], step["shape"]) for step in plan["ahead"]] == [("boss", "signal"), ("car", "command")]
        assert [undo["step"] for undo in plan["undo"]] == ["flight"]


async def test_a_sleep_is_explained(office: Opens) -> None:
    async with office(trip(nap("rest"))) as at:
        told = await at.ask("/explain")
        assert told["headline"].startswith("rest lets time pass, for ")
        assert told["sentences"][0].startswith("It goes on in ")
        assert told["waits_for"]["what"] == "time"


async def test_what_follows_a_signal_that_does_not_come_is_told(office: Opens) -> None:
    async with office(trip(approval("boss", on_timeout="skip"))) as at:
        assert (await at.ask("/explain"))["sentences"][0].endswith("; then it goes on without it.")
