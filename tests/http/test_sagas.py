"""Looking at sagas over HTTP, and acting on them."""

from base64 import urlsafe_b64encode
from typing import Any

import pytest
from tests.http.conftest import BROKE, SLOW, Shop, check_problem

UNKNOWN = "00000000-0000-7000-8000-000000000000"
ACTS = ("cancel", "resume", "pause")


def cursor(place: bytes) -> str:
    return f"cursor={urlsafe_b64encode(place).decode()}"


async def placed(shop: Shop, body: Any = None) -> str:
    saga_id: str = (await shop.order(body)).json()["saga_id"]
    return saga_id


async def act(shop: Shop, saga_id: str, what: str, **request: Any) -> Any:
    return await shop.http.post(f"/api/v1/sagas/{saga_id}/{what}", **request)


async def listed(shop: Shop, query: str = "") -> list[str]:
    response = await shop.http.get(f"/api/v1/sagas?{query}")
    assert response.status_code == 200, response.text
    return [saga["saga_id"] for saga in response.json()["sagas"]]


# --------------------------------------------------------------------------------------------------------------- acts


async def test_a_cancelled_saga_is_undone_and_says_who_wanted_it_and_why(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    response = await act(shop, saga_id, "cancel", json={"reason": "the customer called"})
    assert response.status_code == 202
    assert response.json()["saga_id"] == saga_id
    assert response.json()["status"] == "compensating"
    assert response.json()["message"]
    await shop.until(saga_id, "compensated")
    story = await shop.history(saga_id)
    assert [(act["act"], act["actor"], act["reason"]) for act in story["acts"]] == [
        ("cancelled", "anonymous", "the customer called")
    ]
    assert {entry["status"] for entry in story["history"] if entry["direction"] == "undo"} == {"compensated"}


async def test_a_paused_saga_shows_it_and_a_resumed_one_goes_on(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    assert (await act(shop, saga_id, "pause")).json()["status"] == "paused"
    saga = await shop.saga(saga_id)
    assert (saga["status"], saga["paused"]) == ("paused", True)
    assert await listed(shop, "status=paused") == [saga_id]
    response = await act(shop, saga_id, "resume")
    assert (response.status_code, response.json()["status"]) == (202, "resumed")
    await shop.until(saga_id, "completed")
    assert [act["act"] for act in (await shop.history(saga_id))["acts"]] == ["paused", "resumed"]


@pytest.mark.parametrize("what", ACTS)
@pytest.mark.parametrize(("body", "end"), [(None, "completed"), (BROKE, "compensated")])
async def test_an_ended_saga_refuses_every_act_and_says_how_it_ended(
    shop: Shop, what: str, body: Any, end: str
) -> None:
    saga_id = await placed(shop, body)
    before = await shop.until(saga_id, end)
    problem = check_problem(await act(shop, saga_id, what), 409, "saga-state")
    assert problem["state"] == end
    assert await shop.saga(saga_id) == before


@pytest.mark.parametrize("what", ACTS)
@pytest.mark.parametrize("saga_id", [UNKNOWN, "nope", "%00", "%F0%9F%9B%92", "x" * 3_000])
async def test_an_act_on_an_unknown_saga_is_not_found(shop: Shop, what: str, saga_id: str) -> None:
    check_problem(await act(shop, saga_id, what), 404, "not-found")


@pytest.mark.parametrize("what", ACTS)
@pytest.mark.parametrize(
    ("body", "status", "name"),
    [
        (b"{", 400, "malformed"),
        (b'{"reason":1}', 422, "validation"),
        (b'{"reason":"a\\u0000"}', 422, "validation"),
        (b'{"reason":"%s"}' % (b"x" * 1_001), 422, "validation"),
        (b'{"actor":"root"}', 422, "validation"),
        (b" " * 262_145, 413, "too-large"),
    ],
)
async def test_an_act_with_a_bad_body_does_nothing(shop: Shop, what: str, body: bytes, status: int, name: str) -> None:
    saga_id = await placed(shop, SLOW)
    response = await act(shop, saga_id, what, content=body, headers={"Content-Type": "application/json"})
    check_problem(response, status, name)
    assert (await shop.history(saga_id))["acts"] == []


async def test_an_act_with_a_body_that_is_not_json_says_so(shop: Shop) -> None:
    response = await act(shop, UNKNOWN, "cancel", content=b"{}", headers={"Content-Type": "text/plain"})
    check_problem(response, 415, "unsupported-media-type")


@pytest.mark.parametrize("request_", [{}, {"content": b""}, {"json": {}}, {"headers": {"Content-Type": "text/plain"}}])
async def test_an_act_needs_no_body(shop: Shop, request_: dict[str, Any]) -> None:
    assert (await act(shop, await placed(shop, SLOW), "pause", **request_)).status_code == 202


# --------------------------------------------------------------------------------------------------------------- look


@pytest.mark.parametrize("saga_id", [UNKNOWN, "nope", "%00", "%ff", "x" * 3_000, "'%20or%201=1", "order_saga"])
async def test_an_unknown_saga_is_not_found(shop: Shop, saga_id: str) -> None:
    check_problem(await shop.http.get(f"/api/v1/sagas/{saga_id}"), 404, "not-found")
    check_problem(await shop.http.get(f"/api/v1/sagas/{saga_id}/history"), 404, "not-found")


async def test_an_orders_own_stream_is_not_a_saga(shop: Shop) -> None:
    order_id = (await shop.order()).json()["order_id"]
    for path in ("", "/history"):
        check_problem(await shop.http.get(f"/api/v1/sagas/order-{order_id}{path}"), 404, "not-found")


async def test_the_list_is_newest_first_and_filters_by_all_that_is_given(shop: Shop) -> None:
    broke, paid = await placed(shop, BROKE), await placed(shop)
    await shop.until(broke, "compensated")
    await shop.until(paid, "completed")
    assert await listed(shop) == [paid, broke]
    assert await listed(shop, "status=completed") == [paid]
    assert await listed(shop, "status=completed,compensated") == [paid, broke]
    assert await listed(shop, "status=completed&status=compensated") == [paid, broke]
    assert await listed(shop, "status=running") == []
    assert await listed(shop, "definition=order_saga&status=compensated") == [broke]
    assert await listed(shop, "definition=other") == []
    began = (await shop.saga(paid))["started_at"]
    assert await listed(shop, f"started_from={began}") == [paid]
    assert await listed(shop, f"started_to={began}") == [broke]
    assert await listed(shop, f"started_from={began[:-1]}%2B00:00") == [paid]
    assert await listed(shop, "started_from=0001-01-01T00:00:00Z&started_to=9999-12-31T23:59:59Z") == [paid, broke]


async def test_pages_follow_by_cursor_without_loss_or_repetition(shop: Shop) -> None:
    sagas = [await placed(shop) for _ in range(5)]
    seen: list[str] = []
    query, pages = "limit=2", 0
    while True:
        page = (await shop.http.get(f"/api/v1/sagas?{query}")).json()
        seen += [saga["saga_id"] for saga in page["sagas"]]
        pages += 1
        if page["next_cursor"] is None:
            break
        query = f"limit=2&cursor={page['next_cursor']}"
    assert seen == sagas[::-1]
    assert pages == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=-1", "limit"),
        ("limit=1.0", "limit"),
        ("limit=", "limit"),
        ("limit=1e1", "limit"),
        ("limit=%D9%A1", "limit"),
        (f"limit={'9' * 5_000}", "limit"),
        ("limit=1&limit=2", "limit"),
        ("status=done", "status"),
        ("status=", "status"),
        ("status=running,,", "status"),
        ("status=Running", "status"),
        ("definition=", "definition"),
        ("definition=a%00", "definition"),
        (f"definition={'x' * 256}", "definition"),
        ("started_from=yesterday", "started_from"),
        ("started_from=2026-01-01", "started_from"),
        ("started_from=2026-01-01T00:00:00", "started_from"),
        ("started_to=2026-13-01T00:00:00Z", "started_to"),
        ("started_to=2026-01-01T00:00:00+01:00", "started_to"),
        ("started_to=1e400000", "started_to"),
        ("cursor=", "cursor"),
        ("cursor=@@", "cursor"),
        ("cursor=%C3%A9", "cursor"),
        ("cursor=bm90aGluZw", "cursor"),
        (cursor(b"[1]"), "cursor"),
        (cursor(b'[99999999999999999999999,"x"]'), "cursor"),
        (cursor(b'[1,"a\\u0000"]'), "cursor"),
        (cursor(b'[1.5,"x"]'), "cursor"),
        ("sort=started_at", "sort"),
        ("Limit=1", "Limit"),
        ("limit=1&%00=1", "\0"),
    ],
)
async def test_a_bad_parameter_is_refused_by_name(shop: Shop, query: str, field: str) -> None:
    problem = check_problem(await shop.http.get(f"/api/v1/sagas?{query}"), 422, "validation")
    assert [error["field"] for error in problem["errors"]] == [field]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"sagas/{UNKNOWN}"),
        ("GET", f"sagas/{UNKNOWN}/history"),
        ("POST", f"sagas/{UNKNOWN}/cancel"),
        ("POST", "orders"),
    ],
)
async def test_no_route_of_the_api_takes_parameters_that_it_does_not_document(
    shop: Shop, method: str, path: str
) -> None:
    check_problem(await shop.http.request(method, f"/api/v1/{path}?verbose=1"), 422, "validation")
