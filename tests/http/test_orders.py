"""Orders over HTTP: what is answered, to the letter, and what comes of it."""

import asyncio
import re
from typing import Any
from uuid import UUID

import pytest
from tests.http.conftest import BROKE, ORDER, Shop, check_problem

STEPS = ["reserve_inventory", "process_payment", "create_shipment", "complete_order"]
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


async def test_an_order_is_accepted_and_carried_through(shop: Shop) -> None:
    response = await shop.order()
    accepted = response.json()
    assert response.status_code == 202
    assert list(accepted) == ["saga_id", "order_id", "status", "message"]
    assert (accepted["status"], accepted["message"]) == ("pending", "Order creation started")
    assert UUID(accepted["order_id"]).version == 7
    assert response.headers["location"] == f"/api/v1/sagas/{accepted['saga_id']}"

    saga = await shop.until(accepted["saga_id"], "completed")
    assert saga["saga_id"] == accepted["saga_id"]
    assert saga["current_step"] is None
    assert saga["definition"] == "order_saga"
    assert saga["context"]["order_id"] == accepted["order_id"]
    assert saga["context"]["customer_id"] == "customer-1"
    assert saga["context"]["items"] == ORDER["items"]

    history = await shop.history(accepted["saga_id"])
    assert history["saga_id"] == accepted["saga_id"]
    assert [(entry["step_name"], entry["status"], entry["retry_attempt"]) for entry in history["history"]] == [
        (step, "completed", 0) for step in STEPS
    ]
    for entry in history["history"]:
        assert INSTANT.fullmatch(entry["started_at"])
        assert INSTANT.fullmatch(entry["completed_at"])
        assert entry["error"] is None


async def test_an_order_that_cannot_be_paid_is_completely_undone(shop: Shop) -> None:
    accepted = (await shop.order(BROKE)).json()
    await shop.until(accepted["saga_id"], "compensated")
    history = (await shop.history(accepted["saga_id"]))["history"]
    assert [(entry["step_name"], entry["direction"], entry["status"]) for entry in history] == [
        ("reserve_inventory", "do", "completed"),
        ("process_payment", "do", "failed"),
        ("reserve_inventory", "undo", "compensated"),
    ]
    assert "insufficient" in history[1]["error"]
    assert history[1]["refused"]
    order = (await shop.http.get(f"/api/v1/orders/{accepted['order_id']}")).json()
    assert order["status"] == "cancelled"


async def test_an_order_is_shown_as_its_own_events_tell(shop: Shop) -> None:
    accepted = (await shop.order()).json()
    await shop.until(accepted["saga_id"], "completed")
    order = (await shop.http.get(f"/api/v1/orders/{accepted['order_id']}")).json()
    assert order["order_id"] == accepted["order_id"]
    assert order["customer_id"] == "customer-1"
    assert order["status"] == "completed"
    assert order["items"] == ORDER["items"]
    assert order["total"] == 200
    assert order["reservation_id"]
    assert order["payment_id"]
    assert order["shipment_id"]
    saga = (await shop.http.get(f"/api/v1/sagas/{order['saga_id']}")).json()
    assert saga["saga_id"] == accepted["saga_id"]
    assert order["created_at"] == saga["started_at"] < order["ended_at"] == saga["ended_at"]


@pytest.mark.parametrize("order_id", ["00000000-0000-7000-8000-000000000000", "nope", "order-1", "%00", "a" * 5_000])
async def test_an_unknown_order_is_not_found(shop: Shop, order_id: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/orders/{order_id}"), 404, "not-found")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"100", b"100.00"),
        (b"100.0", b"100.00"),
        (b"1e2", b"100.00"),
        (b"0.01", b"0.01"),
        (b"19.990", b"19.99"),
        (b"0.1e1", b"1.00"),
        (b"1234567890123.45", b"1234567890123.45"),
        (b"9007199254740.93", b"9007199254740.93"),
    ],
)
async def test_a_price_never_passes_through_a_float(shop: Shop, written: bytes, shown: bytes) -> None:
    body = b'{"customer_id":"c","items":[{"product_id":"p","quantity":1,"price":%s}]}' % written
    saga_id = (await shop.order(body)).json()["saga_id"]
    assert b'"price":%s' % shown in (await shop.http.get(f"/api/v1/sagas/{saga_id}")).content


async def test_names_keep_every_printable_character(shop: Shop) -> None:
    names = ["Ærøskøbing 東京 🛒", "x" * 128, "'; drop table sagas; --", "<script>alert(1)</script>", "{{7*7}}"]
    for name in names:
        saga_id = (await shop.order({**ORDER, "customer_id": name})).json()["saga_id"]
        assert (await shop.saga(saga_id))["context"]["customer_id"] == name


# -------------------------------------------------------------------------------------------------------- idempotency


async def test_a_repeated_key_with_the_same_order_is_answered_as_the_first_time(shop: Shop) -> None:
    first = await shop.order(Idempotency_Key="k1")
    again = await shop.order(Idempotency_Key="k1")
    await shop.until(first.json()["saga_id"], "completed")
    late = await shop.order(
        b'{"items":[{"price":1e2,"quantity":2,"product_id":"product-1"}],"customer_id":"customer-1"}',
        Idempotency_Key="k1",
    )
    for response in (again, late):
        assert response.status_code == 202
        assert response.json() == first.json()
        assert response.headers["location"] == first.headers["location"]
    assert await shop.stored() == 1


async def test_a_repeated_key_with_another_order_is_refused(shop: Shop) -> None:
    await shop.order(Idempotency_Key="k1")
    response = await shop.order({**ORDER, "customer_id": "customer-2"}, Idempotency_Key="k1")
    problem = check_problem(response, 422, "idempotency-key-reused")
    assert problem["errors"][0]["field"] == "Idempotency-Key"
    check_problem(await shop.order({**ORDER, "items": []}, Idempotency_Key="k1"), 422, "validation")
    assert await shop.stored() == 1


async def test_many_concurrent_posts_of_one_key_make_one_order(shop: Shop) -> None:
    responses = await asyncio.gather(*(shop.order(Idempotency_Key="k1") for _ in range(20)))
    assert {response.status_code for response in responses} == {202}
    assert len({response.text for response in responses}) == 1
    assert await shop.stored() == 1


async def test_concurrent_posts_of_one_key_with_different_orders_accept_one_of_them(shop: Shop) -> None:
    orders: list[Any] = [{**ORDER, "customer_id": f"customer-{number}"} for number in range(10)]
    responses = await asyncio.gather(*(shop.order(order, Idempotency_Key="k1") for order in orders))
    statuses = sorted(response.status_code for response in responses)
    assert statuses == [202] + [422] * 9
    assert await shop.stored() == 1


async def test_different_keys_and_no_key_make_different_orders(shop: Shop) -> None:
    responses = [
        await shop.order(),
        await shop.order(),
        await shop.order(Idempotency_Key="a"),
        await shop.order(Idempotency_Key="b"),
    ]
    assert len({response.json()["saga_id"] for response in responses}) == 4


@pytest.mark.parametrize("key", ["", " ", "a b", "ä", "x" * 256, "\t"])
async def test_a_key_that_is_not_visible_ascii_is_refused(shop: Shop, key: str) -> None:
    response = await shop.http.post("/api/v1/orders", json=ORDER, headers={b"Idempotency-Key": key.encode()})
    assert check_problem(response, 422, "validation")["errors"][0]["field"] == "Idempotency-Key"
    assert await shop.stored() == 0


async def test_two_keys_at_once_are_refused(shop: Shop) -> None:
    headers = [("Content-Type", "application/json"), ("Idempotency-Key", "a"), ("Idempotency-Key", "b")]
    response = await shop.http.post("/api/v1/orders", json=ORDER, headers=headers)
    check_problem(response, 422, "validation")


@pytest.mark.parametrize("key", ["!", "~" * 255, "a/b?c#d%00", "../../x"])
async def test_any_visible_ascii_is_a_key(shop: Shop, key: str) -> None:
    assert (await shop.order(Idempotency_Key=key)).status_code == 202


@pytest.mark.parametrize(
    "traceparent", ["", "x", "00-" + "0" * 32 + "-1234567890abcdef-01", "ff-" + "1" * 32 + "-1234567890abcdef-01"]
)
async def test_a_trace_that_is_not_valid_is_ignored(shop: Shop, traceparent: str) -> None:
    assert (await shop.order(traceparent=traceparent)).status_code == 202


async def test_an_order_may_begin_at_a_later_time(shop: Shop) -> None:
    placed = await shop.order(ORDER | {"begin_at": "2999-01-01T00:00:00Z"})
    assert (placed.status_code, placed.json()["message"]) == (202, "Order creation scheduled")
    saga_id = placed.json()["saga_id"]
    saga = await shop.saga(saga_id)
    assert (saga["status"], saga["current_step"]) == ("pending", None)
    assert (await shop.history(saga_id))["history"] == []
    told = (await shop.http.get(f"/api/v1/sagas/{saga_id}/explain")).json()
    assert told["headline"].startswith("Scheduled: it begins in ")
    assert (told["waits_for"]["what"], told["next_at"]) == ("time", "2999-01-01T00:00:00.000000Z")
    pending = (await shop.http.get("/api/v1/sagas?status=pending")).json()["sagas"]
    assert [each["saga_id"] for each in pending] == [saga_id]
    assert (await shop.http.post(f"/api/v1/sagas/{saga_id}/cancel")).status_code == 202
    await shop.until(saga_id, "compensated")


async def test_an_order_for_a_time_that_has_passed_begins_at_once(shop: Shop) -> None:
    placed = await shop.order(ORDER | {"begin_at": "2001-01-01T00:00:00Z"})
    assert placed.json()["message"] == "Order creation started"
    await shop.until(placed.json()["saga_id"], "completed")


@pytest.mark.parametrize(
    "instant", ["tomorrow", "2027-01-01T00:00:00", "3000-01-01T00:00:00Z", "1969-01-01T00:00:00Z", 5]
)
async def test_a_time_that_is_none_is_refused(shop: Shop, instant: object) -> None:
    problem = check_problem(await shop.order(ORDER | {"begin_at": instant}), 422, "validation")
    assert problem["errors"][0]["field"] == "begin_at"


async def test_the_same_key_with_another_time_is_another_request(shop: Shop) -> None:
    later = ORDER | {"begin_at": "2999-01-01T00:00:00Z"}
    headers = {"Idempotency-Key": "pre-order-1"}
    same = ORDER | {"begin_at": "2999-01-01T02:00:00+02:00"}
    answers = [await shop.http.post("/api/v1/orders", json=body, headers=headers) for body in (later, same, ORDER)]
    assert [answer.status_code for answer in answers] == [202, 202, 422]
