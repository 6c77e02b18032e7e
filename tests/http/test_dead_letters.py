"""Dead letters over the API and on the dashboard: shown with their reason, put back, thrown away, and by whom."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
import structlog
from msgspec import Raw
from tests.core.trips import trip
from tests.http.conftest import check_problem
from tests.http.pages import Page, page_of
from tests.http.test_problems import ABOUT, client_of

from unwind.buses.memory import MemoryBus
from unwind.dashboard import Dashboard
from unwind.errors import UnavailableError
from unwind.http import create_app
from unwind.ports import DEAD, Message
from unwind.queues import DeadLetters, Queue
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore

AT = 1_764_000_000_000_000
SAGA = "0199-saga"


class House:
    """An application over a bus of its own."""

    def __init__(self, http: httpx.AsyncClient, bus: MemoryBus) -> None:
        self.http = http
        self.bus = bus

    async def dead(self, number: int = 0, **fields: Any) -> None:
        """Set one message aside."""
        given = {
            "id": f"{SAGA}/pay/do",
            "name": "payment.pay",
            "payload": Raw(b'{"n":%d}' % number),
            "saga_id": SAGA,
            "step": "pay",
            "reason": f"reason {number}",
            **fields,
        }
        await self.bus.publish(DEAD + "commands.payment", [Message(**given)])

    async def listed(self, query: str = "") -> Any:
        answer = await self.http.get(f"/api/v1/dead-letters{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def act(self, name: str, body: Any) -> httpx.Response:
        return await self.http.post(f"/api/v1/dead-letters/{name}", json=body)

    async def page(self, path: str, status: int = 200) -> Page:
        return page_of(await self.http.get(path), status)

    async def send(self, page: Page, **fields: str) -> httpx.Response:
        """Send the form of a page, as a browser does."""
        headers = {"Origin": "http://localhost"}
        return await self.http.post(page.action, data={**page.fields, **fields}, headers=headers)


@asynccontextmanager
async def house_on(bus: MemoryBus) -> AsyncIterator[House]:
    store, clock = MemoryStore(lambda: AT), SystemClock()
    engine = Engine(store, bus, [trip()], clock=clock, worker="w", new_id=str, jitter=lambda: 0.5)
    dashboard = Dashboard("Trips")
    app = create_app(ABOUT, engine, Queries(store), {}, bus=bus, pages=[dashboard.router])
    async with client_of(app) as client:
        yield House(client, bus)
    dashboard.stop()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async with house_on(MemoryBus(SystemClock(), now=lambda: AT)) as house:
        yield house


# ------------------------------------------------------------------------------------------------------------- the API


async def test_each_letter_tells_what_it_is_and_why(house: House) -> None:
    assert await house.listed() == {"dead_letters": [], "total": 0, "next": None}
    await house.dead(7, direction="undo", attempt=3)
    [letter] = (await house.listed())["dead_letters"]
    assert letter.pop("size") > 0
    assert letter == {
        "id": "1",
        "topic": "commands.payment",
        "reason": "reason 7",
        "set_aside_at": "2025-11-24T16:00:00.000000Z",
        "messages": [
            {
                "id": f"{SAGA}/pay/do",
                "name": "payment.pay",
                "saga_id": SAGA,
                "step": "pay",
                "direction": "undo",
                "attempt": 3,
                "payload": {"n": 7},
            }
        ],
        "unreadable": None,
    }


async def test_letters_come_page_by_page(house: House) -> None:
    for number in range(5):
        await house.dead(number)
    seen: list[str] = []
    query = "?limit=2"
    while query:
        page = await house.listed(query)
        assert page["total"] == 5
        seen += [letter["reason"] for letter in page["dead_letters"]]
        query = f"?limit=2&after={page['next']}" if page["next"] else ""
    assert seen == [f"reason {number}" for number in range(5)]


async def test_large_payloads_are_left_out_of_the_list(house: House) -> None:
    await house.dead(payload=Raw(b'"%s"' % (b"x" * 20_000)))
    [letter] = (await house.listed())["dead_letters"]
    assert letter["messages"][0]["payload"] is None
    assert letter["size"] > 20_000


async def test_what_is_redriven_is_told_and_comes_where_it_belongs_with_who_did_it_in_the_log(house: House) -> None:
    for number in range(3):
        await house.dead(number)
    subscription = await house.bus.subscribe("commands.payment", "payment")
    with structlog.testing.capture_logs() as told:
        answer = await house.act("redrive", {"ids": ["2", "9", "2"], "reason": "мы починили 🛠"})
    assert answer.json() == {"done": ["2"], "missing": ["9"]}
    [delivery] = await subscription.fetch(1)
    assert [(each.reason, bytes(each.payload)) for each in delivery.messages] == [("", b'{"n":1}')]
    [line] = [line for line in told if line["event"] == "dead_letters_acted"]
    assert (line["actor"], line["act"], line["letters"], line["missing"]) == ("anonymous", "redrive", ["2"], ["9"])
    assert line["reason"] == "мы починили 🛠"
    assert [letter["id"] for letter in (await house.listed())["dead_letters"]] == ["1", "3"]


async def test_what_is_discarded_is_gone(house: House) -> None:
    await house.dead()
    assert (await house.act("discard", {"ids": ["1"]})).json() == {"done": ["1"], "missing": []}
    assert (await house.listed())["total"] == 0


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "ids"),
        ({"ids": []}, "ids"),
        ({"ids": [""]}, "ids[0]"),
        ({"ids": [1]}, "ids[0]"),
        ({"ids": [str(n) for n in range(101)]}, "ids"),
        ({"ids": ["1"], "reason": "a\x1bb"}, "reason"),
        ({"ids": ["1"], "why": "x"}, "why"),
    ],
)
async def test_what_makes_no_sense_is_refused_by_its_field(house: House, body: Any, field: str) -> None:
    problem = check_problem(await house.act("redrive", body), 422, "validation")
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize("query", ["?limit=0", "?limit=101", "?limit=x", "?after=", f"?after={'9' * 600}", "?before=1"])
async def test_a_page_that_makes_no_sense_is_refused(house: House, query: str) -> None:
    check_problem(await house.http.get(f"/api/v1/dead-letters{query}"), 422, "validation")


async def test_a_bus_that_does_not_answer_is_told(house: House) -> None:
    await house.bus.close()
    check_problem(await house.http.get("/api/v1/dead-letters"), 503, "unavailable")
    check_problem(await house.act("redrive", {"ids": ["1"]}), 503, "unavailable")


# ------------------------------------------------------------------------------------------------------- the dashboard


async def test_the_pages_lead_to_what_is_dead(house: House) -> None:
    assert "There are none." in (await house.page("/dead-letters")).text
    await house.dead()
    overview = await house.page("/")
    assert "1 dead letter : could never be handled." in overview.text
    assert "/dead-letters" in overview.links
    assert "Nothing needs a person." not in overview.text
    assert "/dead-letters" in (await house.page("/system")).links


async def test_a_letter_is_shown_with_its_saga_and_what_it_says(house: House) -> None:
    await house.dead(3)
    page = await house.page("/dead-letters")
    assert "payment.pay for commands.payment, set aside 2025-11-24 16:00" in page.text
    assert "reason 3" in page.text
    assert f"/sagas/{SAGA}" in page.links
    assert '{ "n": 3 }' in page.text
    assert {"/dead-letters/redrive?id=1", "/dead-letters/discard?id=1"} <= set(page.links)


async def test_redriving_is_asked_about_first_and_then_done(house: House) -> None:
    for number in range(3):
        await house.dead(number)
    subscription = await house.bus.subscribe("commands.payment", "payment")
    first = await house.page("/dead-letters")
    [together] = [link for link in first.links if "redrive?id=1&id=2&id=3" in link]
    ask = await house.page(together)
    assert ask.headings == ["Redrive 3 dead letters?"]
    assert (await house.listed())["total"] == 3
    answer = await house.send(ask, reason="mended")
    assert (answer.status_code, answer.headers["location"]) == (303, "/dead-letters?done=3&missing=0")
    assert len(await subscription.fetch(9)) == 3
    assert "Done with 3." in (await house.page(answer.headers["location"])).text
    # Somebody else was faster: the same form once more, and its page.
    again = await house.send(ask)
    assert again.headers["location"] == "/dead-letters?done=0&missing=3"
    assert "Nothing was done: 3 were not there any more." in (await house.page(again.headers["location"])).text
    assert "not there any more" in (await house.page(together, 404)).text


async def test_discarding_is_asked_about_too(house: House) -> None:
    await house.dead()
    ask = await house.page("/dead-letters/discard?id=1")
    assert "They are gone for good." in ask.text
    assert (await house.send(ask)).status_code == 303
    assert (await house.listed())["total"] == 0


async def test_markup_and_odd_letters_are_text_and_cut(house: House) -> None:
    await house.dead(
        name="<b>имя</b>",
        reason="<script>alert(1)</script> \u202eи " + "ы" * 2_000,
        id="<i>/x/do",
        saga_id="<a href=//x>",
        payload=Raw(('{"text":"<img src=x> 👩‍👧 ' + "x" * 100_000 + '"}').encode()),
    )
    response = await house.http.get("/dead-letters")
    page = page_of(response)
    assert "<script>alert(1)</script>" in page.text
    assert "<img src=x> 👩‍👧" in page.text
    assert "\u202e" not in response.text
    assert len(response.content) < 30_000


async def test_many_messages_in_one_letter_are_shown_in_part(house: House) -> None:
    sent = [Message(f"s{n}/pay/do", "payment.pay", Raw(b"{}"), saga_id=f"s{n}", reason="bad") for n in range(20)]
    await house.bus.publish(DEAD + "commands.payment", sent)
    page = await house.page("/dead-letters")
    assert "Of 20 messages the first 5 are shown." in page.text
    assert "/sagas/s5" not in page.links


async def test_the_list_comes_page_by_page(house: House) -> None:
    for number in range(30):
        await house.dead(number)
    first = await house.page("/dead-letters")
    [following] = [link for link in first.links if "after=" in link]
    second = await house.page(following)
    assert "reason 25" in second.text
    assert "reason 24" not in second.text
    assert "/dead-letters" in second.links
    assert "There are none after this one." in (await house.page("/dead-letters?after=30")).text


@pytest.mark.parametrize(
    "path", ["/dead-letters/resend?id=1", "/dead-letters/redrive?id=77", "/dead-letters/redrive?id=%07"]
)
async def test_what_is_not_there_is_said_to_be_none(house: House, path: str) -> None:
    await house.dead()
    await house.page(path, 404)


@pytest.mark.parametrize("path", ["/dead-letters/redrive", f"/dead-letters/redrive?{'&id=1' * 101}"])
async def test_from_one_to_a_hundred_are_chosen(house: House, path: str) -> None:
    assert "choose from 1 to 100" in (await house.page(path, 422)).text


@pytest.mark.parametrize("ids", ["", "1", "{}", "[1]", "[]", '["\\u0007"]'])
async def test_a_form_that_names_no_letters_does_nothing(house: House, ids: str) -> None:
    await house.dead()
    answer = await house.send(await house.page("/dead-letters/discard?id=1"), ids=ids)
    page_of(answer, 404 if "u0007" in ids else 422)
    assert (await house.listed())["total"] == 1


async def test_a_reason_that_cannot_be_taken_is_asked_for_again(house: House) -> None:
    await house.dead()
    answer = await house.send(await house.page("/dead-letters/redrive?id=1"), reason="x" * 1_001)
    assert "give at most 1000 printable characters" in page_of(answer, 422).text
    assert (await house.listed())["total"] == 1


async def test_a_form_of_another_site_does_nothing(house: House) -> None:
    await house.dead()
    ask = await house.page("/dead-letters/redrive?id=1")
    answer = await house.http.post(ask.action, data=ask.fields, headers={"Origin": "http://elsewhere"})
    page_of(answer, 403)
    assert (await house.listed())["total"] == 1


class Mute(MemoryBus):
    """It cannot be looked into."""

    async def queues(self) -> list[Queue]:
        raise UnavailableError("down")

    async def dead_letters(self, limit: int, after: str = "") -> DeadLetters:
        raise UnavailableError("the bus is down")


async def test_pages_stand_without_an_answer_of_the_bus() -> None:
    async with house_on(Mute(SystemClock())) as house:
        await house.page("/")
        assert "The bus does not tell now." in (await house.page("/system")).text
        assert "the bus is down" in (await house.page("/dead-letters", 503)).text
