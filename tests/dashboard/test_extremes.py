"""Pages about what is extreme: many retries, many steps, sagas inside sagas, definitions that are not known here."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import httpx
from tests.core.trips import BOOKED, Trip, booking, stay, trip
from tests.http.pages import Page, page_of
from tests.http.test_problems import ABOUT, client_of

from unwind.buses.memory import MemoryBus
from unwind.core.events import Event
from unwind.core.groups import Parallel
from unwind.core.saga import Saga
from unwind.core.steps import Retry
from unwind.dashboard import Dashboard
from unwind.http import create_app
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore
from unwind.testing.scenario import Scenario, failed, ok, refused

FIRST_PAGE = 60 * 1024


class Told(Queries):
    """Queries about a story that was made up."""

    story: Scenario[Trip]

    async def log(self, saga_id: str) -> tuple[Event, ...]:
        return tuple(self.story.log)

    async def now(self) -> int:
        return self.story.now


@asynccontextmanager
async def serving(sagas: Sequence[Saga[Trip]], story: Scenario[Trip] | None = None) -> AsyncIterator[httpx.AsyncClient]:
    store, clock = MemoryStore(lambda: 0), SystemClock()
    engine = Engine(store, MemoryBus(clock), sagas, clock=clock, worker="w", new_id=str, jitter=lambda: 0.5)
    queries = Told(store)
    if story is not None:
        queries.story = story
    app = create_app(ABOUT, engine, queries, {}, pages=[Dashboard("Trips").router])
    async with client_of(app) as client:
        yield client


async def page_about(story: Scenario[Trip], *, known: bool = True) -> tuple[Page, int]:
    """The page, and its size in bytes."""
    async with serving([story.saga] if known else [trip(booking("other"), version=9)], story) as client:
        response = await client.get("/sagas/saga-1")
        return page_of(response), len(response.content)


async def test_a_thousand_retries_are_told_in_a_few_lines() -> None:
    often = Retry.fixed(1_000, timedelta(seconds=1))
    story = Scenario(trip(booking("flight", retry=often))).given(Trip())
    for second in range(1, 1_000):
        story.when(failed("flight", "no <b>connection</b>")).at(second * 1.0)
    page, size = await page_about(story)
    assert "970 more between" in page.text
    assert "no <b>connection</b>" in page.text
    assert size <= FIRST_PAGE


async def test_sixty_steps_fit_on_a_page() -> None:
    story = Scenario(trip(*(booking(f"step_{number}") for number in range(60)))).given(Trip())
    for number in range(40):
        story.when(ok(f"step_{number}", BOOKED))
    page, size = await page_about(story.at(1))
    assert "step_59: to come" in page.text
    assert size <= 2 * FIRST_PAGE


async def test_a_step_that_is_a_saga_of_its_own_leads_to_it() -> None:
    page, _ = await page_about(
        Scenario(trip(booking("flight"), stay("hotel"))).given(Trip()).when(ok("flight", BOOKED))
    )
    [link] = [link for link in page.links if link.startswith("/sagas/") and "saga-1" not in link]
    assert "Its step hotel is" in page.text
    assert len(link) == len("/sagas/") + 36


async def test_a_saga_of_a_definition_that_is_not_known_here_is_shown_without_acts() -> None:
    page, _ = await page_about(Scenario(trip()).given(Trip()).when(refused("flight")), known=False)
    assert "this process does not know it" in page.text
    assert not [link for link in page.links if "/acts/" in link]


async def test_a_reason_of_many_kilobytes_is_cut() -> None:
    story = Scenario(trip()).given(Trip()).when(ok("flight", BOOKED)).when(refused("hotel", "<i>" * 30_000))
    _, size = await page_about(story)
    assert size <= FIRST_PAGE


async def test_side_by_side_stands_one_beneath_the_other_in_the_graph() -> None:
    old, new = trip(), trip(booking("a"), Parallel(booking("b"), booking("c")), booking("d"), version=2)
    async with serving([old, new]) as client:
        page = page_of(await client.get("/definitions"))
        quiet = page_of(await client.get("/system"))
    assert page.tags["svg"] == 2
    assert page.tags["line"] == 2 + 4
    assert "None was asked anything yet." in quiet.text


async def test_steps_and_sagas_may_be_named_in_cyrillic_and_emoji() -> None:
    name = "бронь ✈️ номер"
    page, _ = await page_about(Scenario(trip(booking(name), booking("🛏"))).given(Trip()).when(ok(name, BOOKED)))
    assert f"{name}: done" in page.text
    assert "🛏: under way" in page.text
