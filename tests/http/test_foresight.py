"""What comes next, as a client asks for it."""

from typing import Any

import pytest
from tests.http.conftest import BROKE, SLOW, Shop, check_problem
from tests.http.test_sagas import UNKNOWN, act, placed


async def plan(shop: Shop, saga_id: str) -> Any:
    response = await shop.http.get(f"/api/v1/sagas/{saga_id}/plan")
    assert response.status_code == 200, response.text
    return response.json()


async def waiting_for_the_carrier(shop: Shop) -> str:
    """A saga whose shipment takes seconds, while it takes them."""
    saga_id = await placed(shop, SLOW)
    while (await shop.saga(saga_id))["current_step"] != "create_shipment":
        continue  # the test's own time limit ends the wait
    return saga_id


async def test_a_cancel_undoes_what_the_plan_announced(shop: Shop) -> None:
    saga_id = await waiting_for_the_carrier(shop)
    announced = await plan(shop, saga_id)
    assert [(step["step"], step["progress"], step["forecast"]) for step in announced["ahead"]] == [
        ("create_shipment", "outstanding", False),
        ("complete_order", "waiting", True),
    ]
    assert announced["cancel_possible"]
    assert [(undo["step"], undo["command"]["name"]) for undo in announced["undo"]] == [
        ("create_shipment", "shipment.cancel"),
        ("process_payment", "payment.refund"),
        ("reserve_inventory", "inventory.release"),
    ]
    assert (await act(shop, saga_id, "cancel")).status_code == 202
    await shop.until(saga_id, "compensated")
    undone = [entry["step_name"] for entry in (await shop.history(saga_id))["history"] if entry["direction"] == "undo"]
    assert undone == [undo["step"] for undo in announced["undo"]]


@pytest.mark.parametrize(("body", "end"), [(None, "completed"), (BROKE, "compensated")])
async def test_the_plan_of_an_ended_saga_says_that_it_has_ended(shop: Shop, body: Any, end: str) -> None:
    saga_id = await placed(shop, body)
    await shop.until(saga_id, end)
    over = await plan(shop, saga_id)
    assert (over["status"], over["ahead"], over["undo"], over["cancel_possible"]) == (end, [], [], False)
    assert over["cancel_refused_because"] == f"it has ended: it is {end}"
    assert bool(over["past_undoing"]) == (end == "completed")


@pytest.mark.parametrize("what", ["plan", "explain"])
@pytest.mark.parametrize("saga_id", [UNKNOWN, "nope", "%00", "x" * 3_000, "order_saga"])
async def test_an_unknown_saga_is_not_found(shop: Shop, what: str, saga_id: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/sagas/{saga_id}/{what}"), 404, "not-found")


@pytest.mark.parametrize("what", ["plan", "explain"])
async def test_a_parameter_that_is_not_documented_is_refused(shop: Shop, what: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/sagas/{UNKNOWN}/{what}?at=1"), 422, "validation")


# --------------------------------------------------------------------------------------------------------- time travel


async def test_a_saga_is_shown_as_it_stood_after_each_of_its_versions(shop: Shop) -> None:
    saga_id = await placed(shop, BROKE)
    newest = await shop.until(saga_id, "compensated")
    seen = []
    for version in range(1, newest["version"] + 1):
        response = await shop.http.get(f"/api/v1/sagas/{saga_id}?at={version}")
        assert response.status_code == 200, response.text
        saga = response.json()
        assert (saga["version"], saga["saga_id"]) == (version, saga_id)
        assert saga["context"]["items"] == newest["context"]["items"], "shown as the application shows it"
        if (saga["status"], saga["current_step"]) not in seen:
            seen.append((saga["status"], saga["current_step"]))
    assert saga == newest
    assert seen == [
        ("running", None),
        ("running", "reserve_inventory"),
        ("running", "process_payment"),
        ("compensating", "reserve_inventory"),
        ("compensating", None),
        ("compensated", None),
    ]


async def test_a_version_that_does_not_exist_yet_is_not_found_and_the_newest_is_named(shop: Shop) -> None:
    saga_id = await placed(shop)
    newest = (await shop.until(saga_id, "completed"))["version"]
    problem = check_problem(await shop.http.get(f"/api/v1/sagas/{saga_id}?at={newest + 1}"), 404, "not-found")
    assert f"no version {newest + 1} yet" in problem["detail"]
    assert f"its newest is {newest}" in problem["detail"]
    check_problem(await shop.http.get(f"/api/v1/sagas/{UNKNOWN}?at=1"), 404, "not-found")


@pytest.mark.parametrize("at", ["", "0", "-1", "1.0", "x", "%D9%A1", "2147483648", "9" * 5_000, "1&at=2", "+1", "1e1"])
async def test_a_version_that_makes_no_sense_is_refused_by_name(shop: Shop, at: str) -> None:
    problem = check_problem(await shop.http.get(f"/api/v1/sagas/{await placed(shop)}?at={at}"), 422, "validation")
    assert [error["field"] for error in problem["errors"]] == ["at"]
