"""One act on many orders over HTTP: previewed, followed, refused where it is too much or too little."""

from typing import Any

import pytest
from tests.http.conftest import BROKE, ORDER, SLOW, Shop, check_problem

BULK = "/api/v1/sagas/bulk"
SLOWLY = {**SLOW, "customer_id": "customer-slow"}
MINE = {"attributes": {"customer_id": "customer-slow"}}


async def act(shop: Shop, action: str = "cancel", **body: Any) -> Any:
    return await shop.http.post(BULK, json={"action": action, **body})


async def ended(shop: Shop, answer: Any) -> Any:
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"{BULK}/{answer.json()['id']}"
    while (run := (await shop.http.get(answer.headers["location"])).json())["state"] == "running":
        assert run["total"] == run["applied"] + run["refused"] + run["left"]
    return run


async def placed(shop: Shop, *orders: Any) -> list[str]:
    return [(await shop.order(order)).json()["saga_id"] for order in orders]


async def held(shop: Shop, *orders: Any) -> list[str]:
    """Orders that stay as they are: their sagas are paused."""
    saga_ids = await placed(shop, *orders)
    for saga_id in saga_ids:
        assert (await shop.http.post(f"/api/v1/sagas/{saga_id}/pause")).status_code == 202
    return saga_ids


async def test_a_dry_run_tells_what_it_would_apply_to_and_does_nothing(shop: Shop) -> None:
    waiting = await held(shop, SLOWLY, SLOWLY)
    [broke] = await placed(shop, {**BROKE, "customer_id": "customer-slow", "items": [BROKE["items"][0]] * 2})
    await shop.until(broke, "completed", "compensated")
    before = [await shop.saga(saga_id) for saga_id in waiting]
    response = await act(shop, filter=MINE, dry_run=True)
    assert response.status_code == 200
    preview = response.json()
    total = {"definition": "order_saga", "attribute": "total"}
    [status] = {"completed", "compensated"} & preview["matched"]["by_status"].keys()
    assert preview == {
        "action": "cancel",
        "matched": {
            "count": 3,
            "by_status": {status: 1, "paused": 2},
            "amounts": [{**total, "sum": 1_000 + 200_000_000}],
        },
        "applies_to": 2,
        "amounts": [{**total, "sum": 1_000}],
    }
    assert (await act(shop, "retry", filter=MINE, dry_run=True)).json()["applies_to"] == 0
    assert [await shop.saga(saga_id) for saga_id in waiting] == before


async def test_many_orders_are_cancelled_each_with_actor_and_reason(shop: Shop) -> None:
    *mine, other = await placed(shop, SLOWLY, SLOWLY, SLOW)
    run = await ended(shop, await act(shop, filter=MINE, reason="the mill burns", limit_per_second=1_000))
    assert (run["state"], run["total"], run["applied"], run["refused"]) == ("done", 2, 2, 0)
    assert (run["action"], run["refusals"], run["note"], run["limit_per_second"]) == ("cancel", [], "", 1_000)
    assert run["started_at"] <= run["ended_at"]
    for saga_id in mine:
        await shop.until(saga_id, "compensated")
        history = await shop.history(saga_id)
        assert any((act["reason"], act["actor"]) == ("the mill burns", "anonymous") for act in history["acts"])
    await shop.until(other, "completed")


async def test_all_needs_to_be_said(shop: Shop) -> None:
    problem = check_problem(await act(shop), 422, "validation")
    assert problem["errors"][0]["field"] == "filter"
    assert '"all": true' in problem["errors"][0]["reason"]
    check_problem(await act(shop, filter={}, dry_run=True), 422, "validation")
    assert check_problem(await act(shop, filter=MINE, all=True), 422, "validation")["errors"][0]["field"] == "all"
    assert (await act(shop, all=True, dry_run=True)).json()["matched"]["count"] == 0
    assert (await ended(shop, await act(shop, all=True)))["total"] == 0


async def test_a_run_begins_only_on_what_was_seen(shop: Shop) -> None:
    [saga_id] = await placed(shop, ORDER)
    await shop.until(saga_id, "completed")
    problem = check_problem(await act(shop, "resume", all=True, expected_count=3), 409, "bulk-count")
    assert problem["detail"] == "it would apply to 0 sagas now, not 3; look again"
    assert (await ended(shop, await act(shop, "resume", all=True, expected_count=0)))["state"] == "done"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "delete", "all": True}, "action"),
        ({"all": True}, "action"),
        ({"action": "cancel", "filter": {"status": ["happy"]}}, "filter.status[0]"),
        ({"action": "cancel", "filter": {"colour": "red"}}, "filter.colour"),
        ({"action": "cancel", "filter": {"attributes": {"colour": "red"}}}, "filter.attributes.colour"),
        ({"action": "cancel", "filter": {"attributes": {"total": "many"}}}, "filter.attributes.total"),
        ({"action": "cancel", "filter": {"attributes": {"total": True}}}, "filter.attributes.total"),
        ({"action": "cancel", "filter": {"started_from": "yesterday"}}, "filter.started_from"),
        ({"action": "cancel", "filter": {"status": ["blocked"], "definition": ""}}, "filter.definition"),
        ({"action": "cancel", "filter": {"status": [], "definition": "order_saga"}}, "filter.status"),
        ({"action": "cancel", "all": True, "limit_per_second": 0}, "limit_per_second"),
        ({"action": "cancel", "all": True, "limit_per_second": 1_001}, "limit_per_second"),
        ({"action": "cancel", "all": True, "expected_count": -1}, "expected_count"),
        ({"action": "cancel", "all": True, "reason": "a\x1b[31m"}, "reason"),
        ({"action": "cancel", "all": True, "speed": 3}, "speed"),
    ],
)
async def test_what_is_wrong_is_named(shop: Shop, body: Any, field: str) -> None:
    problem = check_problem(await shop.http.post(BULK, json=body), 422, "validation")
    assert problem["errors"][0]["field"] == field


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        ({"action": "foo", "all": True}, "; there are cancel, resume, retry"),
        ({"action": "cancel", "filter": {"status": ["blocked", "foo"]}}, "; there are blocked, compensated, "),
    ],
)
async def test_what_is_no_choice_is_told_with_those_that_there_are(shop: Shop, body: Any, choices: str) -> None:
    problem = check_problem(await shop.http.post(BULK, json=body), 422, "validation")
    assert f"Invalid enum value 'foo'{choices}" in problem["errors"][0]["reason"]


async def test_a_run_is_stopped_between_two_acts(shop: Shop) -> None:
    await held(shop, SLOWLY, SLOWLY, SLOWLY)
    answer = await act(shop, "resume", filter=MINE, limit_per_second=1)
    run_id = answer.json()["id"]
    stopped = await shop.http.post(f"{BULK}/{run_id}/stop", json={"reason": "the wrong ones"})
    assert (stopped.status_code, stopped.json()["id"]) == (202, run_id)
    run = await ended(shop, answer)
    assert (run["state"], run["note"]) == ("interrupted", "stopped by an operator: the wrong ones")
    assert run["left"] >= 1


async def test_a_run_that_this_process_does_not_know_is_not_found_and_why(shop: Shop) -> None:
    for response in (await shop.http.get(f"{BULK}/unknown"), await shop.http.post(f"{BULK}/unknown/stop")):
        problem = check_problem(response, 404, "not-found")
        assert "each is known only to the process that took it" in problem["detail"]
    check_problem(await shop.http.get(f"{BULK}/{'x' * 256}"), 404, "not-found")
