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


@pytest.mark.parametrize("what", ["plan"])
@pytest.mark.parametrize("saga_id", [UNKNOWN, "nope", "%00", "x" * 3_000, "order_saga"])
async def test_an_unknown_saga_is_not_found(shop: Shop, what: str, saga_id: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/sagas/{saga_id}/{what}"), 404, "not-found")


@pytest.mark.parametrize("what", ["plan"])
async def test_a_parameter_that_is_not_documented_is_refused(shop: Shop, what: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/sagas/{UNKNOWN}/{what}?at=1"), 422, "validation")
