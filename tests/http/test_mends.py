"""A way out of what is blocked, over HTTP: retry, resolve, skip; kept in the history, and refused where unsafe."""

from typing import Any

import pytest
from tests.http.conftest import ORDER, Shop, check_problem

CLOSED = {"customer_id": "customer-closed", "items": ORDER["items"]}
EVIDENCE = {"evidence": "a cheque was sent", "reference": "ticket 7"}
MENDS: list[tuple[str, Any]] = [("retry", {}), ("resolve", EVIDENCE), ("skip", {"reason": "so be it"})]


async def blocked(shop: Shop) -> Any:
    """A saga whose refund is refused."""
    saga_id = (await shop.order(CLOSED)).json()["saga_id"]
    return await shop.until(saga_id, "blocked")


async def act(shop: Shop, saga: Any, what: str, body: Any = None) -> Any:
    return await shop.http.post(f"/api/v1/sagas/{saga['saga_id']}/{what}", json=body)


async def test_a_blocked_saga_says_which_step_needs_a_person_and_why(shop: Shop) -> None:
    saga = await blocked(shop)
    assert (saga["blocked"]["step"], saga["blocked"]["direction"]) == ("process_payment", "undo")
    assert saga["blocked"]["reason"] == "the account is closed and takes no refund"


async def test_a_refund_made_by_hand_ends_the_saga_and_the_evidence_is_kept(shop: Shop) -> None:
    saga = await blocked(shop)
    response = await act(shop, saga, "resolve", EVIDENCE)
    assert (response.status_code, response.json()["saga_id"]) == (202, saga["saga_id"])
    ended = await shop.until(saga["saga_id"], "compensated")
    assert ended["left_undone"] == []
    story = await shop.history(saga["saga_id"])
    [resolved] = [each for each in story["acts"] if each["act"] == "resolved"]
    assert (resolved["step"], resolved["actor"]) == ("process_payment", "anonymous")
    assert (resolved["reason"], resolved["reference"]) == ("a cheque was sent", "ticket 7")
    undone = [(each["step_name"], each["status"]) for each in story["history"] if each["direction"] == "undo"]
    assert undone == [("process_payment", "compensated"), ("reserve_inventory", "compensated")]
    assert [each["step_name"] for each in story["history"] if "by_hand" in each] == ["process_payment"]


async def test_a_refund_left_out_is_named_for_good_and_the_rest_is_undone(shop: Shop) -> None:
    saga = await blocked(shop)
    assert (await act(shop, saga, "skip", {"reason": "a cent"})).status_code == 202
    ended = await shop.until(saga["saga_id"], "compensated")
    assert ended["left_undone"] == ["process_payment"]
    story = await shop.history(saga["saga_id"])
    undone = [(each["step_name"], each["status"]) for each in story["history"] if each["direction"] == "undo"]
    assert undone == [("process_payment", "skipped"), ("reserve_inventory", "compensated")]
    assert story["acts"][-1]["act"] == "skipped"


async def test_a_retry_is_a_fresh_attempt_of_which_the_history_tells(shop: Shop) -> None:
    saga = await blocked(shop)
    order = saga["context"]["order_id"]
    command = {"type": "payment.refund", "order_id": order}
    assert (await act(shop, saga, "retry", {"reason": "open again", "command": command})).status_code == 202
    again = await shop.until(saga["saga_id"], "blocked")
    assert again["version"] > saga["version"]
    story = await shop.history(saga["saga_id"])
    attempts = [each["attempt"] for each in story["history"] if each["direction"] == "undo"]
    assert attempts == [1, 2]
    [retried] = [each for each in story["acts"] if each["act"] == "retried"]
    assert retried["reason"] == "open again"
    assert retried["command"] == retried["replaced"] == command


@pytest.mark.parametrize(
    ("command", "field"),
    [
        ({"type": "payment.refund"}, "command"),
        ({"type": "payment.refund", "order_id": 5}, "command.order_id"),
        ({"type": "payment.refund", "order_id": "o", "more": 1}, "command"),
        ({"type": "shipment.cancel", "order_id": "o"}, "command.type"),
        ("refund", "command"),
    ],
)
async def test_a_command_that_does_not_fit_is_refused_with_its_place(shop: Shop, command: Any, field: str) -> None:
    saga = await blocked(shop)
    problem = check_problem(await act(shop, saga, "retry", {"command": command}), 422, "validation")
    assert problem["errors"][0]["field"] == field
    assert (await shop.saga(saga["saga_id"]))["version"] == saga["version"]


async def test_a_cancel_of_what_is_being_undone_already_tells_its_status_and_that_nothing_changed(shop: Shop) -> None:
    saga = await blocked(shop)
    told = await shop.http.post(f"/api/v1/sagas/{saga['saga_id']}/cancel", json={"reason": "again"})
    assert (told.status_code, told.json()["status"]) == (202, "blocked")
    assert told.json()["message"] == "The saga is being undone already: nothing changed"
    assert await shop.saga(saga["saga_id"]) == saga
    [cancel] = [
        may
        for may in (await shop.http.get(f"/api/v1/sagas/{saga['saga_id']}/explain")).json()["may"]
        if may["act"] == "cancel"
    ]
    assert (cancel["possible"], cancel["consequence"]) == (False, "Refused: it is being undone already.")
    plan = (await shop.http.get(f"/api/v1/sagas/{saga['saga_id']}/plan")).json()
    assert (plan["cancel_possible"], plan["cancel_refused_because"]) == (False, "it is being undone already")
    assert plan["undo"]


@pytest.mark.parametrize(("what", "body"), [*MENDS, ("cancel", {}), ("pause", {}), ("resume", {})])
async def test_an_act_on_a_saga_that_has_moved_on_is_refused(shop: Shop, what: str, body: Any) -> None:
    saga = await blocked(shop)
    stale = body | {"expected_version": saga["version"] - 1}
    problem = check_problem(await act(shop, saga, what, stale), 409, "saga-state")
    assert problem["state"] == "blocked"
    assert f"version {saga['version']}" in problem["detail"]
    assert (await act(shop, saga, what, body | {"expected_version": saga["version"]})).status_code == 202


@pytest.mark.parametrize(("what", "body"), MENDS)
async def test_what_needs_no_person_is_not_mended(shop: Shop, what: str, body: Any) -> None:
    saga = await shop.until((await shop.order()).json()["saga_id"], "completed")
    assert check_problem(await act(shop, saga, what, body), 409, "saga-state")["state"] == "completed"
    unknown = {"saga_id": "00000000-0000-7000-8000-000000000000"}
    check_problem(await act(shop, unknown, what, body), 404, "not-found")


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("resolve", {}, "evidence"),
        ("resolve", {"evidence": ""}, "evidence"),
        ("resolve", {"evidence": "x", "reference": "\x00"}, "reference"),
        ("skip", {}, "reason"),
        ("skip", {"reason": "x" * 1001}, "reason"),
        ("retry", {"expected_version": -1}, "expected_version"),
        ("retry", {"step": 5}, "step"),
        ("cancel", {"expected_version": "5"}, "expected_version"),
    ],
)
async def test_an_act_without_its_reasons_is_refused_by_name(shop: Shop, what: str, body: Any, field: str) -> None:
    saga = await blocked(shop)
    problem = check_problem(await act(shop, saga, what, body), 422, "validation")
    assert [each["field"] for each in problem["errors"]] == [field]


async def test_a_paused_and_blocked_saga_is_resumed_first(shop: Shop) -> None:
    saga = await blocked(shop)
    assert (await act(shop, saga, "pause")).status_code == 202
    problem = check_problem(await act(shop, saga, "resolve", EVIDENCE), 409, "saga-state")
    assert "resume it first" in problem["detail"]
    assert (await act(shop, saga, "resume")).status_code == 202
    await shop.until(saga["saga_id"], "blocked")
    assert (await act(shop, saga, "resolve", EVIDENCE)).status_code == 202
    await shop.until(saga["saga_id"], "compensated")
