"""Sagas found by what their definition says they can be found by, and counted."""

from typing import Any
from urllib.parse import quote

import pytest
from tests.http.conftest import BROKE, ITEM, ORDER, Shop, check_problem

from order_saga.application.order_saga import order_saga


async def asked(shop: Shop, query: str, what: str = "") -> Any:
    response = await shop.http.get(f"/api/v1/sagas{what}?{query}")
    assert response.status_code == 200, response.text
    return response.json()


async def listed(shop: Shop, query: str) -> list[str]:
    return [saga["saga_id"] for saga in (await asked(shop, query))["sagas"]]


async def placed(shop: Shop, *orders: Any) -> list[str]:
    return [(await shop.order(order)).json()["saga_id"] for order in orders]


async def test_orders_are_found_by_their_customer_total_and_id(shop: Shop) -> None:
    one, other, broke = await placed(shop, ORDER, {**ORDER, "items": [ITEM, ITEM]}, BROKE)
    assert await listed(shop, "attribute.customer_id=customer-1") == [other, one]
    assert await listed(shop, "attribute.customer_id=customer-456") == [broke]
    assert await listed(shop, "attribute.customer_id=customer-1&attribute.total=20000") == [one]
    order_id = (await shop.saga(other))["context"]["order_id"]
    assert await listed(shop, f"attribute.order_id={order_id}") == [other]
    assert await listed(shop, "attribute.customer_id=nobody") == []
    await shop.until(broke, "compensated")
    assert await listed(shop, "attribute.customer_id=customer-456&status=compensated") == [broke]
    assert await listed(shop, "attribute.customer_id=customer-456&status=running") == []


async def test_orders_are_found_and_counted_by_what_they_begin_with(shop: Shop) -> None:
    one, other, broke = await placed(shop, ORDER, {**ORDER, "items": [ITEM, ITEM]}, BROKE)
    order_id = (await shop.saga(other))["context"]["order_id"]
    assert await listed(shop, f"text={order_id}") == await listed(shop, f"text={other}") == [other]
    assert await listed(shop, "text=customer-1") == [other, one]
    assert await listed(shop, "text=customer-&attribute.total=20000") == [one]
    assert await listed(shop, "text=ustomer") == []
    assert (await asked(shop, "text=customer-", "/count"))["count"] == 3
    body = {"action": "cancel", "filter": {"text": "customer-4"}, "dry_run": True}
    assert (await shop.http.post("/api/v1/sagas/bulk", json=body)).json()["matched"]["count"] == 1
    for wrong in ("text=", "text=%00", f"text={'x' * 300}", "text=a&text=b"):
        check_problem(await shop.http.get(f"/api/v1/sagas?{wrong}"), 422, "validation")
    await shop.until(broke, "compensated")


async def test_a_page_of_one_customer_s_orders_goes_on_where_it_ended(shop: Shop) -> None:
    placed_ids = await placed(shop, *[ORDER, BROKE] * 3)
    seen: list[str] = []
    cursor = ""
    while True:
        page = await asked(shop, f"attribute.customer_id=customer-1&limit=2{cursor}")
        seen += [saga["saga_id"] for saga in page["sagas"]]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == placed_ids[::2][::-1]


@pytest.mark.parametrize("name", ["customer-ü", "a=b&c", "a,b", " x ", "1"])
async def test_values_of_any_kind_of_text_are_found(shop: Shop, name: str) -> None:
    [saga_id] = await placed(shop, {**ORDER, "customer_id": name})
    assert await listed(shop, f"attribute.customer_id={quote(name)}") == [saga_id]


async def test_orders_are_counted_and_added_up(shop: Shop) -> None:
    one, other, broke = await placed(shop, ORDER, {**ORDER, "items": [ITEM, ITEM]}, BROKE)
    for saga_id in (one, other):
        await shop.until(saga_id, "completed")
    await shop.until(broke, "compensated")
    total = {"definition": "order_saga", "attribute": "total"}
    assert await asked(shop, "", "/count") == {
        "count": 3,
        "by_status": {"compensated": 1, "completed": 2},
        "amounts": [{**total, "sum": 20_000 + 40_000 + 100_000_000}],
    }
    assert await asked(shop, "attribute.customer_id=customer-1&status=completed,blocked", "/count") == {
        "count": 2,
        "by_status": {"completed": 2},
        "amounts": [{**total, "sum": 60_000}],
    }
    nothing = {"count": 0, "by_status": {}, "amounts": []}
    for query in ("started_to=2020-01-01T00:00:00Z", "definition=trip", "attribute.customer_id=nobody"):
        assert await asked(shop, query, "/count") == nothing


@pytest.mark.parametrize("what", ["", "/count"])
@pytest.mark.parametrize(
    ("query", "field", "reason"),
    [
        ("attribute.colour=red", "attribute.colour", "there are customer_id, order_id, total"),
        ("attribute.=x", "attribute.", "there are customer_id, order_id, total"),
        ("attribute.total=many", "attribute.total", "give a whole number"),
        ("attribute.total=007", "attribute.total", "give a whole number"),
        ("attribute.customer_id=" + "x" * 256, "attribute.customer_id", "give a text"),
        ("attribute.total=1&attribute.total=2", "attribute.total", "give it once"),
        ("customer_id=x", "customer_id", "there is no such query parameter; allowed are attribute.*"),
    ],
)
async def test_what_nothing_can_be_found_by_is_refused_by_name(
    shop: Shop, what: str, query: str, field: str, reason: str
) -> None:
    problem = check_problem(await shop.http.get(f"/api/v1/sagas{what}?{query}"), 422, "validation")
    [error] = problem["errors"]
    assert error["field"] == field
    assert reason in error["reason"]


@pytest.mark.parametrize("query", ["limit=5", "cursor=x"])
async def test_a_count_has_no_pages(shop: Shop, query: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/sagas/count?{query}"), 422, "validation")


async def test_other_routes_take_no_attributes(shop: Shop) -> None:
    [saga_id] = await placed(shop, ORDER)
    check_problem(await shop.http.get(f"/api/v1/sagas/{saga_id}?attribute.customer_id=x"), 422, "validation")


async def test_each_attribute_is_documented_with_its_kind(shop: Shop) -> None:
    document = (await shop.http.get("/schema/openapi.json")).json()
    for path in ("/api/v1/sagas", "/api/v1/sagas/count"):
        found = {each["name"]: each["schema"]["type"] for each in document["paths"][path]["get"]["parameters"]}
        named = {name: kind for name, kind in found.items() if name.startswith("attribute")}
        assert named == {
            "attribute.customer_id": "string",
            "attribute.order_id": "string",
            "attribute.total": "integer",
        }
    assert list(order_saga.attributes) == ["customer_id", "order_id", "total"]
