"""Acts on all sagas that a list's filter fits: shown first, then begun, followed and stopped."""

from typing import Any

import httpx
import pytest
from tests.eventually import eventually
from tests.http.conftest import SLOW, Shop
from tests.http.pages import Page, page_of
from tests.http.test_dashboard import CLOSED, ended, opened
from tests.http.test_dashboard_live import listening
from tests.http.test_sagas import placed

FROM_US = {"Origin": "http://localhost"}


async def send(shop: Shop, address: str, **fields: str) -> httpx.Response:
    return await shop.http.post(address, data=fields, headers=FROM_US)


async def confirmed(shop: Shop, page: Page, **fields: str) -> str:
    """The address of the run that a preview's form begins."""
    response = await send(shop, page.action, **{**page.fields, "reason": "the road is closed", **fields})
    assert response.status_code == 303, response.text
    return response.headers["location"]


async def over(shop: Shop, run: str) -> Page:
    async def look() -> Page | None:
        page = await opened(shop, run)
        return None if "data-live" in page.main else page

    return await eventually(look, within=20)


async def blocked(shop: Shop, count: int) -> list[str]:
    found = [await placed(shop, CLOSED) for _ in range(count)]
    for saga_id in found:
        await shop.until(saga_id, "blocked")
    return found


async def test_a_list_offers_each_act_on_all_that_fit_it(shop: Shop) -> None:
    page = await opened(shop, "/sagas?status=running&text=customer-&before=9.x")
    for action in ("cancel", "resume", "retry"):
        assert f"/bulk/{action}?status=running&text=customer-" in page.links


async def test_what_an_act_would_meet_is_shown_first_and_nothing_is_done(shop: Shop) -> None:
    stuck = await blocked(shop, 2)
    whole = await ended(shop)
    page = await opened(shop, "/bulk/cancel?definition=order_saga&attribute=customer_id&value=customer-closed")
    assert "It would be tried on 2 sagas" in page.text
    assert "order_saga blocked 2 tried" in page.text
    assert "total of order_saga, of those that it would be tried on, together: 1000" in page.text
    assert {f"/sagas/{saga_id}" for saga_id in stuck} <= set(page.links)
    assert f"/sagas/{whole}" not in page.links
    assert "/sagas?definition=order_saga&attribute=customer_id&value=customer-closed" in page.links
    every = await opened(shop, "/bulk/retry")
    assert "this is about every saga there is" in every.text
    assert "order_saga completed 1 left out: of no use" in every.text
    none = await opened(shop, "/bulk/retry?status=completed")
    assert "It would be tried on 0 sagas" in none.text
    assert not none.action
    assert [(await shop.saga(saga_id))["status"] for saga_id in stuck] == ["blocked", "blocked"]


async def test_a_run_acts_on_what_was_shown_with_its_reason_and_is_followed(shop: Shop) -> None:
    stuck = await blocked(shop, 3)
    page = await opened(shop, "/bulk/retry?status=blocked")
    run = await confirmed(shop, page, limit_per_second="1000")
    done = await over(shop, run)
    assert "Looked at 3 of 3" in done.text
    assert "done" in done.text
    for saga_id in stuck:
        [*_, act] = [act for act in (await shop.history(saga_id))["acts"] if act["act"] == "retried"]
        assert (act["actor"], act["reason"]) == ("anonymous", "the road is closed")


async def test_a_run_is_told_of_live_and_can_be_stopped(shop: Shop) -> None:
    await blocked(shop, 3)
    run = await confirmed(shop, await opened(shop, "/bulk/retry?status=blocked"), limit_per_second="1")
    page = await opened(shop, run)
    async with listening(shop, page.main["data-live"], last=page.main["data-mark"]) as stream:
        assert await stream.news() != page.main["data-mark"]
    assert page.action == f"{run}/stop"
    stopped = await send(shop, page.action)
    assert (stopped.status_code, stopped.headers["location"]) == (303, run)
    told = await over(shop, run)
    assert "interrupted" in told.text
    assert "stopped by an operator" in told.text
    assert not told.action


async def test_what_refuses_is_named_with_its_reason(shop: Shop) -> None:
    slow = await placed(shop, SLOW)
    page = await opened(shop, "/bulk/retry?text=customer-1")
    done = await over(shop, await confirmed(shop, page))
    assert "Refused 1" in done.text
    assert f"/sagas/{slow}" in done.links


@pytest.mark.parametrize(
    ("changed", "status", "told"),
    [
        ({"reason": ""}, 422, "reason: it is kept"),
        ({"reason": "x" * 1_001}, 422, "reason: give at most 1000"),
        ({"limit_per_second": "1001"}, 422, "limit_per_second: give a whole number up to 1000"),
        ({"limit_per_second": "fast"}, 422, "limit_per_second"),
        ({"expected_count": "7"}, 409, "it would apply to 1 sagas now, not 7"),
        ({"expected_count": ""}, 422, "expected_count"),
    ],
)
async def test_what_cannot_be_accepted_is_asked_for_again(
    shop: Shop, changed: dict[str, str], status: int, told: str
) -> None:
    [stuck] = await blocked(shop, 1)
    page = await opened(shop, "/bulk/cancel?status=blocked")
    again = page_of(await send(shop, page.action, **{**page.fields, "reason": "typed <b>", **changed}), status)
    assert told in again.text
    assert ("typed <b>" in again.text) is ("reason" not in changed)
    assert again.fields["expected_count"] == "1"
    assert "cancelled" not in {act["act"] for act in (await shop.history(stuck))["acts"]}


async def test_every_saga_is_meant_only_where_somebody_says_so(shop: Shop) -> None:
    await blocked(shop, 1)
    page = await opened(shop, "/bulk/retry")
    refused = page_of(await send(shop, page.action, **{**page.fields, "reason": "all of them", "all": ""}), 422)
    assert "say that every one is meant" in refused.text
    assert (await confirmed(shop, page, all="yes")).startswith("/bulk/runs/")


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/bulk/skip", 404),
        ("/bulk/cancel?status=odd", 422),
        ("/bulk/runs/nope", 404),
        ("/live/bulk/nope", 404),
        ("/bulk/runs/%00", 404),
    ],
)
async def test_what_is_not_there_is_said_to_be_none(shop: Shop, path: str, status: int) -> None:
    await opened(shop, path, status)


async def test_a_form_of_another_site_begins_and_stops_nothing(shop: Shop) -> None:
    await blocked(shop, 1)
    page = await opened(shop, "/bulk/retry?status=blocked")
    fields: dict[str, Any] = page.fields | {"reason": "evil"}
    for address in (page.action, "/bulk/runs/x/stop"):
        response = await shop.http.post(address, data=fields, headers={"Origin": "http://evil.example"})
        page_of(response, 403)
