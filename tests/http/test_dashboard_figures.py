"""Figures on the dashboard: the overview over time, and what became of the steps of each definition."""

import re

import httpx
import pytest
from tests.http.conftest import BROKE, SLOW, Shop
from tests.http.pages import page_of
from tests.http.test_dashboard import ended, opened
from tests.http.test_sagas import placed

SPANS = {"": "minute", "?range=1h": "minute", "?range=24h": "30 minutes", "?range=7d": "3 hours"}


async def test_what_ended_is_told_drawn_and_listed(shop: Shop) -> None:
    for _ in range(3):
        await ended(shop)
    await ended(shop, BROKE, "compensated")
    response = await shop.http.get("/")
    page = page_of(response)
    assert "Within 1 hour 4 sagas began, 3 were completed and 1 undone." in page.text
    assert "25 % of those that ended were undone." in page.text
    assert "Half of those that ended took" in page.text
    # Beside the three charts: the swatches of their legends, and a field for lines in each.
    assert page.tags["figure"] == 3
    assert len(re.findall('<rect class="bar (?:un)?done', response.text)) >= 4
    table = page.text[page.text.index("Undone of ended") :]
    rows = re.findall(r"\d\d:\d\d(?: so far)? (\d+) (\d+) (\d+) ", table)  # two where a minute has just ended
    assert [sum(map(int, each)) for each in zip(*rows, strict=True)] == [4, 3, 1]
    assert "For how long the world was half done" in page.text
    assert "order_saga 4 " in page.text


@pytest.mark.parametrize("query", SPANS)
async def test_one_may_look_further_back(shop: Shop, query: str) -> None:
    response = await shop.http.get(f"/{query}")
    page = page_of(response)
    assert f"Sagas per {SPANS[query]}" in page.text
    assert response.text.count('aria-current="true"') == 1
    assert {"/?range=1h", "/?range=24h", "/?range=7d"} <= set(page.links)
    assert "None ended." in page.text
    assert "No saga that asked anything of anybody has ended." in page.text


@pytest.mark.parametrize("query", ["?range=1y", "?range=%3Cb%3E"])
async def test_a_span_that_there_is_not_is_refused_by_name(shop: Shop, query: str) -> None:
    assert "range: give one of 1h, 24h, 7d" in (await opened(shop, f"/{query}", 422)).text


async def test_each_chart_has_its_words_and_no_other_name(shop: Shop) -> None:
    await ended(shop)
    response: httpx.Response = await shop.http.get("/")
    page = page_of(response)
    for name in ("throughput", "failures", "durations"):
        assert f'role="img" aria-labelledby="{name} {name}-told"' in response.text
        assert page.ids[name] == page.ids[f"{name}-told"] == 1


async def test_the_age_of_the_oldest_stands_among_the_counts(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    page = await opened(shop, "/")
    counts = page.text[page.text.index("How many") : page.text.index("Over time")]
    assert "age of the oldest under way" in counts
    assert f"/sagas/{saga_id}" in page.links


async def test_definitions_without_an_ended_saga_say_so(shop: Shop) -> None:
    assert "None of its sagas has ended yet." in (await opened(shop, "/definitions")).text


async def test_shares_are_of_the_sagas_that_ended_last(shop: Shop) -> None:
    for _ in range(3):
        await ended(shop)
    await ended(shop, BROKE, "compensated")
    page = await opened(shop, "/definitions")
    assert "Shares are of the 4 sagas that ended last" in page.text
    assert "100 % done, 25 % undone" in page.text
    assert "75 % 3 of 4" in page.text
    assert "1 refused" in page.text


async def test_the_system_knows_the_process_that_serves_it(shop: Shop) -> None:
    page = await opened(shop, "/system")
    assert "this one there everything" in page.text
    assert re.search(r"Store SQLite [\d.]+, schema \d+", page.text)
    assert "commands.inventory inventory" in page.text
    assert "replies engine" in page.text
    [worker] = (await shop.http.get("/api/v1/workers")).json()["workers"]
    assert worker["role"] == "all"
