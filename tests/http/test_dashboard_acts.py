"""Acts of operators from the dashboard: what they bring is shown first, then done on what was seen, or not at all."""

import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.http.conftest import SLOW, Shop
from tests.http.pages import Page, page_of
from tests.http.test_dashboard import CLOSED, HOSTILE
from tests.http.test_sagas import placed

from order_saga.roads import ROADS

ROOT = Path(__file__).parents[2]
FROM_US = {"Origin": "http://localhost"}


async def asked(shop: Shop, saga_id: str, act: str) -> Page:
    return page_of(await shop.http.get(f"/sagas/{saga_id}/acts/{act}"))


async def sent(shop: Shop, path: str, fields: dict[str, str], **headers: str) -> httpx.Response:
    return await shop.http.post(path, data=fields, headers=FROM_US | headers)


async def confirmed(shop: Shop, saga_id: str, act: str, **fields: str) -> None:
    """Press the button on the act's page."""
    page = await asked(shop, saga_id, act)
    response = await sent(shop, page.action, page.fields | fields)
    assert response.status_code == 303, response.text
    assert response.headers["location"] == f"/sagas/{saga_id}"


async def blocked(shop: Shop) -> str:
    saga_id = await placed(shop, CLOSED)
    await shop.until(saga_id, "blocked")
    return saga_id


async def acts_of(shop: Shop, saga_id: str) -> Any:
    return (await shop.history(saga_id))["acts"]


async def test_cancel_shows_what_it_would_undo_and_does_it(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    await reached(shop, saga_id, "create_shipment")
    page = await asked(shop, saga_id, "cancel")
    assert "Undoes, in this order: create_shipment, process_payment, reserve_inventory" in page.text
    assert "payment.refund to payment" in page.text
    await confirmed(shop, saga_id, "cancel", reason="the customer\r\ncalled")
    await shop.until(saga_id, "compensated")
    [act] = await acts_of(shop, saga_id)
    assert (act["act"], act["actor"], act["reason"]) == ("cancelled", "anonymous", "the customer called")


async def test_a_cancel_is_not_offered_where_everything_is_being_undone_already(shop: Shop) -> None:
    saga_id = await blocked(shop)
    assert f"/sagas/{saga_id}/acts/cancel" not in page_of(await shop.http.get(f"/sagas/{saga_id}")).links
    assert "Refused: it is being undone already." in (await asked(shop, saga_id, "cancel")).text
    version = str((await shop.saga(saga_id))["version"])
    page = page_of(await sent(shop, f"/sagas/{saga_id}/acts/cancel", {"version": version}), 409)
    assert "is being undone already; nothing changed" in page.text


async def reached(shop: Shop, saga_id: str, step: str) -> None:
    while (await shop.saga(saga_id))["current_step"] != step:
        pass


async def test_pause_and_resume(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    await reached(shop, saga_id, "create_shipment")
    await confirmed(shop, saga_id, "pause", reason="wait")
    assert (await shop.saga(saga_id))["status"] == "paused"
    assert "Paused for" in (await asked(shop, saga_id, "resume")).text
    await confirmed(shop, saga_id, "resume")
    assert [act["act"] for act in await acts_of(shop, saga_id)] == ["paused", "resumed"]
    await shop.until(saga_id, "completed")


async def test_a_blocked_saga_is_resolved_from_the_page(shop: Shop) -> None:
    saga_id = await blocked(shop)
    page = await asked(shop, saga_id, "resolve")
    assert "Takes the undo of process_payment as done by hand" in page.text
    await confirmed(shop, saga_id, "resolve", evidence="refunded by bank transfer", reference="TICKET-7 <b>")
    await shop.until(saga_id, "compensated")
    shown = await shop.http.get(f"/sagas/{saga_id}")
    assert "resolved process_payment by anonymous: refunded by bank transfer (TICKET-7 <b>)" in page_of(shown).text


async def test_a_blocked_saga_is_skipped_and_says_so_for_good(shop: Shop) -> None:
    saga_id = await blocked(shop)
    await confirmed(shop, saga_id, "skip", reason="written off")
    await shop.until(saga_id, "compensated")
    page = page_of(await shop.http.get(f"/sagas/{saga_id}"))
    assert "Left as they are, for good: process_payment." in page.text


async def test_a_blocked_saga_is_retried_with_another_command(shop: Shop) -> None:
    saga_id = await blocked(shop)
    page = await asked(shop, saga_id, "retry")
    assert "order_id" in page.text
    response = await sent(shop, page.action, page.fields | {"command": '{"order_id": 5}'})
    assert "order_id" in page_of(response, 422).text
    response = await sent(shop, page.action, page.fields | {"command": "{"})
    page_of(response, 422)
    await confirmed(shop, saga_id, "retry", reason="again")
    assert [act["act"] for act in await acts_of(shop, saga_id)][:3] == ["turned_round", "blocked", "retried"]


async def test_an_act_on_what_has_moved_on_is_refused_and_says_so(shop: Shop) -> None:
    saga_id = await blocked(shop)
    page = await asked(shop, saga_id, "skip")
    await confirmed(shop, saga_id, "resume")
    before = await acts_of(shop, saga_id)
    response = await sent(shop, page.action, page.fields | {"reason": "too late"})
    again = page_of(response, 409)
    assert "has moved on" in again.text
    assert again.fields["version"] != page.fields["version"]
    assert "skipped" not in {act["act"] for act in before}
    assert (await shop.saga(saga_id))["left_undone"] == []


async def test_an_ended_saga_has_no_button_and_refuses_the_form(shop: Shop) -> None:
    saga_id = await placed(shop)
    await shop.until(saga_id, "completed")
    page = await asked(shop, saga_id, "cancel")
    assert page.action == ""
    assert "Refused: it has ended: it is completed." in page.text
    page_of(await sent(shop, f"/sagas/{saga_id}/acts/cancel", {"version": "1"}), 409)


@pytest.mark.parametrize(
    ("act", "fields", "told"),
    [
        ("skip", {"reason": " "}, "reason"),
        ("resolve", {"evidence": ""}, "evidence"),
        ("skip", {"reason": "x" * 1_001}, "reason"),
        ("resolve", {"evidence": "\x00"}, "evidence"),
        ("resume", {"version": ""}, "version"),
        ("resume", {"version": "9" * 30}, "version"),
        ("resume", {"version": "-1"}, "version"),
    ],
)
async def test_what_cannot_be_accepted_is_asked_for_again(
    shop: Shop, act: str, fields: dict[str, str], told: str
) -> None:
    saga_id = await blocked(shop)
    page = await asked(shop, saga_id, act)
    response = await sent(shop, page.action, page.fields | fields)
    assert told in page_of(response, 422).text
    assert (await shop.saga(saga_id))["status"] == "blocked"


async def test_what_was_typed_is_kept_and_only_text(shop: Shop) -> None:
    saga_id = await blocked(shop)
    page = await asked(shop, saga_id, "resolve")
    response = await sent(shop, page.action, page.fields | {"evidence": "", "reference": HOSTILE})
    assert page_of(response, 422).fields["reference"] == HOSTILE


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://elsewhere"},
        {"Origin": "http://shop.elsewhere"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://localhost", "Sec-Fetch-Site": "cross-site"},
    ],
)
@pytest.mark.parametrize("path", ["/sagas/{}/acts/cancel", "/orders/new"])
async def test_a_form_of_another_site_does_nothing(shop: Shop, path: str, headers: dict[str, str]) -> None:
    saga_id = await placed(shop, SLOW)
    version = str((await shop.saga(saga_id))["version"])
    fields = {"version": version, "road": "happy"}
    response = await shop.http.post(path.format(saga_id), data=fields, headers=headers)
    assert "nothing was done" in page_of(response, 403).text
    assert await shop.stored() == 1
    assert await acts_of(shop, saga_id) == []


async def test_what_is_no_form_is_refused(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    path = f"/sagas/{saga_id}/acts/pause"
    page_of(await shop.http.post(path, json={"version": 1}, headers=FROM_US), 422)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    for body in (b"version=\xff", b"version=%ff", b"&".join(b"a=1" for _ in range(100)), b""):
        page_of(await shop.http.post(path, content=body, headers=FROM_US | kind), 422)
    page_of(await shop.http.post(path, content=b"a=" + b"x" * 300_000, headers=FROM_US | kind), 413)
    assert await acts_of(shop, saga_id) == []


async def test_there_is_no_other_act(shop: Shop) -> None:
    saga_id = await placed(shop)
    page_of(await shop.http.get(f"/sagas/{saga_id}/acts/delete"), 404)
    page_of(await sent(shop, f"/sagas/{saga_id}/acts/delete", {"version": "1"}), 404)


# ----------------------------------------------------------------------------------------------------- placing an order


def test_every_scripted_failure_is_on_a_road() -> None:
    scripted_names = re.findall(r"^\| `([\w-]+)`", (ROOT / "docs" / "scripted-failures.md").read_text(), re.MULTILINE)
    assert len(scripted_names) >= 10
    assert set(scripted_names) <= {name for road in ROADS for name in (road.customer_id, road.product_id)}


async def test_each_road_of_the_form_goes_as_it_says(shop: Shop) -> None:
    page = page_of(await shop.http.get("/orders/new"))
    assert page.fields["road"] == "happy"
    ends = {
        "happy": "completed",
        "nowhere": "compensated",
        "closed": "blocked",
        "broke": "compensated",
        "poor": "compensated",
        "stock": "compensated",
        "scarce": "compensated",
        "undeliverable": "compensated",
    }
    for road, end in ends.items():
        response = await sent(shop, page.action, page.fields | {"road": road})
        assert response.status_code == 303
        await shop.until(response.headers["location"].removeprefix("/sagas/"), end)


async def test_an_order_may_be_typed(shop: Shop) -> None:
    typed = {"road": "own", "customer_id": "Пётр 🛒", "product_id": "книга", "quantity": "3", "price": "1.50"}
    response = await sent(shop, "/orders/new", typed)
    saga = await shop.until(response.headers["location"].removeprefix("/sagas/"), "completed")
    assert (saga["context"]["customer_id"], saga["context"]["total"]) == ("Пётр 🛒", 4.5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("quantity", "many"),
        ("quantity", "0"),
        ("quantity", "²"),
        ("quantity", "9" * 5_000),
        ("price", "free"),
        ("price", "-1"),
        ("price", "NaN"),
        ("price", "0.001"),
        ("price", "1e9999999"),
        ("customer_id", ""),
        ("product_id", "x" * 201),
    ],
)
async def test_an_order_that_cannot_be_accepted_is_asked_for_again(shop: Shop, field: str, value: str) -> None:
    typed = {"road": "own", "customer_id": "customer-1", "product_id": "product-1", "quantity": "1", "price": "1"}
    response = await sent(shop, "/orders/new", typed | {field: value})
    page = page_of(response, 422)
    assert "Nothing was ordered." in page.text
    assert field in page.text
    assert page.fields[field] == value
    assert await shop.stored() == 0
