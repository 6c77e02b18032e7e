"""The dashboard's views, as a browser without scripts gets them."""

import re
from typing import Any
from urllib.parse import quote

import pytest
from tests.http.conftest import BROKE, SLOW, Shop, check_problem
from tests.http.pages import Page, page_of
from tests.http.test_sagas import UNKNOWN, placed

from unwind.dashboard.pages import ASSETS, STAMP

CLOSED = {"customer_id": "customer-closed", "items": [{"product_id": "product-1", "quantity": 1, "price": 5}]}
FLAKY = {"customer_id": "customer-1", "items": [{"product_id": "product-flaky", "quantity": 1, "price": 5}]}
FIRST_PAGE = 60 * 1024
"""Bytes over the wire, with everything that the page refers to."""


async def opened(shop: Shop, path: str, status: int = 200) -> Page:
    return page_of(await shop.http.get(path), status)


async def ended(shop: Shop, body: Any = None, status: str = "completed") -> str:
    saga_id = await placed(shop, body)
    await shop.until(saga_id, status)
    return saga_id


# ------------------------------------------------------------------------------------------------------------ the frame


async def test_the_first_page_is_small_with_all_that_it_refers_to(shop: Shop) -> None:
    response = await shop.http.get("/")
    page = page_of(response)
    assert page.title.startswith("Overview")
    size = len(response.content)
    found = re.findall(r'(?:href|src)="(/assets/[^"]+)"', response.text)
    assert len(found) == 3
    for address in found:
        asset = await shop.http.get(address)
        assert asset.status_code == 200
        assert "immutable" in asset.headers["cache-control"]
        size += len(asset.content)
    assert size <= FIRST_PAGE


async def test_an_asset_that_is_not_there_is_not_found(shop: Shop) -> None:
    await opened(shop, "/assets/nope.css", 404)
    assert {"style.css", "live.js", "mark.svg"} == set(ASSETS)
    assert STAMP in (await shop.http.get("/")).text


@pytest.mark.parametrize("path", ["/", "/sagas", "/definitions", "/system", "/orders/new"])
async def test_each_page_marks_itself_in_the_navigation(shop: Shop, path: str) -> None:
    response = await shop.http.get(path)
    page_of(response)
    assert re.findall(r'href="([^"]+)" aria-current="page"', response.text) == [path]


async def test_the_api_keeps_its_own_policy(shop: Shop) -> None:
    response = await shop.http.get("/docs")
    assert "script-src" not in response.headers["content-security-policy"]
    assert response.headers["referrer-policy"] == "same-origin"


# --------------------------------------------------------------------------------------------------------- the overview


async def test_nothing_needs_a_person_where_nothing_happened(shop: Shop) -> None:
    page = await opened(shop, "/")
    assert "Nothing needs a person." in page.text
    assert "No saga is under way." in page.text


async def test_what_needs_a_person_stands_first_with_its_reason(shop: Shop) -> None:
    await ended(shop)
    saga_id = await placed(shop, CLOSED)
    await shop.until(saga_id, "blocked")
    slow = await placed(shop, SLOW)
    page = await opened(shop, "/")
    assert f"/sagas/{saga_id}" in page.links
    assert page.text.index("the undo of process_payment") < page.text.index("How many")
    assert "the account is closed and takes no refund" in page.text
    oldest = page.text[page.text.index("Longest under way") :]
    assert oldest.index(saga_id) < oldest.index(slow)
    for status, count in (("blocked", 1), ("completed", 1), ("compensated", 0)):
        assert f"{count} {status}" in page.text


# ------------------------------------------------------------------------------------------------------------- the list


async def test_the_list_keeps_its_filter_in_the_address(shop: Shop) -> None:
    saga_id, other = await ended(shop), await ended(shop, BROKE, "compensated")
    page = await opened(shop, "/sagas?status=compensated&definition=order_saga&started_from=2020-01-01T00:00")
    assert f"/sagas/{other}" in page.links
    assert f"/sagas/{saga_id}" not in page.links
    assert "1 saga fits." in page.text
    assert page.fields["started_from"] == "2020-01-01T00:00"
    assert page.fields["status"] == "compensated"
    found = await opened(shop, "/sagas?attribute=customer_id&value=customer-1")
    assert f"/sagas/{saga_id}" in found.links
    assert f"/sagas/{other}" not in found.links
    none = await opened(shop, "/sagas?started_to=2020-01-01T00:00")
    assert "No saga fits." in none.text
    assert "Count them" in none.text
    assert "0 sagas fit." in (await opened(shop, "/sagas?started_to=2020-01-01T00:00&count=all")).text


async def test_the_list_comes_page_by_page_and_each_saga_once(shop: Shop) -> None:
    placed_ids = {await placed(shop) for _ in range(53)}
    seen: list[str] = []
    path = "/sagas?definition=order_saga"
    assert len((await shop.http.get(path)).content) <= FIRST_PAGE / 2  # the rest is for what it refers to
    for _ in range(2):
        page = await opened(shop, path)
        seen += [link.removeprefix("/sagas/") for link in page.links if link.startswith("/sagas/")]
        path = next((link for link in page.links if "before=" in link), "")
    assert not path
    assert len(seen) == 53
    assert set(seen) == placed_ids
    assert "/sagas?definition=order_saga" in page.links


async def test_a_saga_is_found_by_its_id(shop: Shop) -> None:
    saga_id = await placed(shop)
    response = await shop.http.get(f"/sagas?text={saga_id}&definition=")
    assert (response.status_code, response.headers["location"]) == (303, f"/sagas/{saga_id}")
    page = await opened(shop, "/sagas?text=%3Cb%3Enope")
    assert "No saga fits." in page.text
    assert page.fields["text"] == "<b>nope"
    assert f"/sagas/{saga_id}" in (await opened(shop, f"/sagas?text={saga_id}&definition=order_saga")).links


async def test_sagas_are_found_by_what_their_order_or_an_attribute_begins_with(shop: Shop) -> None:
    order = (await shop.order()).json()
    other = await placed(shop, BROKE)
    for text, found in (
        (order["order_id"], True),
        (order["order_id"][:30], True),
        ("customer-1", True),
        ("ustomer", False),
    ):
        page = await opened(shop, f"/sagas?text={text}")
        assert (f"/sagas/{order['saga_id']}" in page.links) is found
        assert f"/sagas/{other}" not in page.links
    both = await opened(
        shop, "/sagas?text=customer-&status=running&status=completed&status=compensated&status=compensating"
    )
    assert {f"/sagas/{order['saga_id']}", f"/sagas/{other}"} <= set(both.links)
    assert "2 sagas fit." in both.text


@pytest.mark.parametrize(
    "query",
    [
        "status=odd",
        "started_from=yesterday",
        "started_to=0001-13-01",
        "before=x",
        "before=99999999999999999999999.a",
        "attribute=nope&value=1",
        "attribute=total&value=many",
        "definition=%00",
        "text=%00",
        "text=" + "x" * 300,
        "definition=" + "x" * 300,
    ],
)
async def test_a_filter_that_makes_no_sense_is_told_by_its_name(shop: Shop, query: str) -> None:
    page = await opened(shop, f"/sagas?{query}", 422)
    assert f"{query.split('=', maxsplit=1)[0].replace('attribute', '')}" in page.text
    assert page.headings == ["This cannot be accepted"]


@pytest.mark.parametrize("path", ["/sagas", "/live/sagas", "/bulk/cancel"])
@pytest.mark.parametrize("name", ["attribute.customer_id", "Status", "limit", "since" * 50])
async def test_a_condition_that_there_is_not_is_refused_by_its_name(shop: Shop, path: str, name: str) -> None:
    page = await opened(shop, f"{path}?{name}=1", 422)
    assert f"{name[:70]}" in page.text
    assert "there is no such condition; there are status, definition" in page.text


async def test_nothing_is_begun_for_a_condition_that_there_is_not(shop: Shop) -> None:
    answer = await shop.http.post(
        "/bulk/cancel?attribute.customer_id=1", data={"reason": "x"}, headers={"Origin": "http://localhost"}
    )
    assert "there is no such condition" in page_of(answer, 422).text


# ------------------------------------------------------------------------------------------------------------- one saga


async def test_a_completed_saga_is_told_drawn_and_has_no_acts_left(shop: Shop) -> None:
    saga_id = await ended(shop)
    page = await opened(shop, f"/sagas/{saga_id}")
    assert "Completed" in page.text
    for step in ("reserve_inventory", "process_payment", "create_shipment", "complete_order"):
        assert f"{step}: done" in page.text
    assert "data-live" not in page.main
    assert not [link for link in page.links if "/acts/" in link]
    assert "inventory.reserve to inventory" in page.text
    assert '"customer_id": "customer-1"' in page.text
    assert '"price": 100.00' in page.text
    assert "now" not in re.findall(r'class="(now)"', (await shop.http.get(f"/sagas/{saga_id}")).text)


async def test_a_compensated_saga_shows_its_undoing_as_a_lane_of_its_own(shop: Shop) -> None:
    saga_id = await ended(shop, BROKE, "compensated")
    page = await opened(shop, f"/sagas/{saga_id}")
    lane = page.text[page.text.index("Compensation, in reverse") :]
    assert "reserve_inventory: undone" in lane
    assert "process_payment: refused" in page.text
    assert "turned round process_payment" in page.text


async def test_a_blocked_saga_shows_what_is_held_back_and_what_may_be_done(shop: Shop) -> None:
    saga_id = await placed(shop, CLOSED)
    await shop.until(saga_id, "blocked")
    response = await shop.http.get(f"/sagas/{saga_id}")
    page = page_of(response)
    assert page.main["data-live"] == f"/live/sagas/{saga_id}"
    assert "process_payment: needs a person" in page.text
    assert "Still to be undone" in page.text
    assert "Left to do" not in page.text, "it is being undone"
    assert "reserve_inventory: to come" in page.text
    assert 'class="now"' in response.text
    acts = {link.rpartition("/")[2] for link in page.links if "/acts/" in link}
    assert acts == {"pause", "resume", "retry", "resolve", "skip"}, "it is being undone already"
    assert "Still to be undone" in page.text


async def test_a_saga_is_shown_as_it_stood_after_each_of_its_versions(shop: Shop) -> None:
    saga_id = await ended(shop, BROKE, "compensated")
    newest = (await shop.saga(saga_id))["version"]
    for version in range(1, newest + 1):
        page = await opened(shop, f"/sagas/{saga_id}?at={version}")
        assert f"As it stood after version {version} of {newest}." in page.text
        assert page.fields["at"] == str(version)
        assert "data-live" not in page.main
        assert not [link for link in page.links if "/acts/" in link]
    assert "reserve_inventory: under way" in (await opened(shop, f"/sagas/{saga_id}?at=3")).text
    for wrong, status in (("0", 404), (str(newest + 1), 404), ("x", 422), ("9" * 5_000, 422), ("-1", 422)):
        await opened(shop, f"/sagas/{saga_id}?at={wrong}", status)


async def test_each_version_says_what_it_changed(shop: Shop) -> None:
    saga_id = await ended(shop)
    first = await opened(shop, f"/sagas/{saga_id}?at=1")
    assert "What version 1 changed: saga started" in first.text
    assert '+ "customer_id": "customer-1",' in first.text
    log = range(2, (await shop.saga(saga_id))["version"] + 1)
    changes = {version: await opened(shop, f"/sagas/{saga_id}?at={version}") for version in log}
    [reserved] = [page for page in changes.values() if "changed: step done: reserve_inventory" in page.text]
    assert '- "reservation_id": null,' in reserved.text
    assert '+ "reservation_id": "' in reserved.text
    assert '- "status": "outstanding",' in reserved.text
    [began] = [page for page in changes.values() if "changed: step started: process_payment" in page.text]
    assert "Nothing in the context." in began.text
    assert re.search(r'\+ "command": "payment\.\w+ to payment"', began.text)


async def test_a_saga_leads_to_its_order_and_back(shop: Shop) -> None:
    order = (await shop.order()).json()
    await shop.until(order["saga_id"], "completed")
    address = f"/orders/{order['order_id']}"
    assert address in (await opened(shop, f"/sagas/{order['saga_id']}")).links
    page = await opened(shop, address)
    assert "completed" in page.text
    assert "Total 200.00" in page.text
    assert f"/sagas/{order['saga_id']}" in page.links
    await opened(shop, "/orders/nope", 404)


async def test_retries_are_ticks_and_rows_of_the_table(shop: Shop) -> None:
    saga_id = await ended(shop, FLAKY)
    response = await shop.http.get(f"/sagas/{saga_id}")
    assert "reserve_inventory: done, 3 attempts" in page_of(response).text
    assert response.text.count('class="tick"') == 3


async def test_attempts_are_told_to_the_millisecond_in_a_table_that_the_keyboard_scrolls(shop: Shop) -> None:
    saga_id = await ended(shop)
    text = (await shop.http.get(f"/sagas/{saga_id}")).text
    entry = (await shop.history(saga_id))["history"][0]
    assert f"<td>{entry['started_at'][:23].replace('T', ' ')}</td>" in text
    assert '<div class="wide" tabindex="0" role="group" aria-label="Attempts">' in text


async def test_a_message_and_the_context_have_pages_of_their_own(shop: Shop) -> None:
    saga_id = await ended(shop)
    assert '"order_id"' in (await opened(shop, f"/sagas/{saga_id}/context")).text
    found = re.findall(r'id="message-(\d+)"', (await shop.http.get(f"/sagas/{saga_id}")).text)
    page = await opened(shop, f"/sagas/{saga_id}/messages/{found[0]}")
    assert page.headings == ["reserve_inventory: inventory.reserve to inventory"]
    await opened(shop, f"/sagas/{saga_id}/messages/1", 404)


@pytest.mark.parametrize("saga_id", [UNKNOWN, "nope", "%00", "%F0%9F%9B%92", "x" * 3_000, "%3Cscript%3E"])
@pytest.mark.parametrize("rest", ["", "/acts/cancel", "/context", "/messages/1"])
async def test_an_unknown_saga_is_said_to_be_none(shop: Shop, saga_id: str, rest: str) -> None:
    page = await opened(shop, f"/sagas/{saga_id}{rest}", 404)
    assert page.headings == ["There is no such thing"]
    assert "/sagas" in page.links


@pytest.mark.parametrize("path", ["/nothing", "/definitions/foo", "/sagas/a/b/c", "/api"])
async def test_a_browser_gets_a_page_where_nothing_is_and_a_program_a_problem(shop: Shop, path: str) -> None:
    page = page_of(await shop.http.get(path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}), 404)
    assert page.headings == ["There is no such thing"]
    check_problem(await shop.http.get(path), 404, "not-found")


async def test_the_api_answers_a_browser_as_everybody(shop: Shop) -> None:
    check_problem(await shop.http.get("/api/v1/nothing", headers={"Accept": "text/html"}), 404, "not-found")


async def test_another_stream_is_no_saga(shop: Shop) -> None:
    order_id = (await shop.order()).json()["order_id"]
    await opened(shop, f"/sagas/{quote('order-' + order_id)}", 404)


# ------------------------------------------------------------------------------------------------------------ bad input

HOSTILE = "<script>alert(1)</script><b onclick=x>"


async def test_markup_in_an_order_is_text(shop: Shop) -> None:
    body = {"customer_id": HOSTILE, "items": [{"product_id": "</pre><img src=x>", "quantity": 1, "price": 5}]}
    saga_id = await ended(shop, body)
    response = await shop.http.get(f"/sagas/{saga_id}")
    page_of(response)
    assert "<script>alert" not in response.text
    assert "&lt;script&gt;alert(1)" in response.text
    for found in (f"attribute=customer_id&value={quote(HOSTILE)}", f"text={quote(HOSTILE)}"):
        listed = await opened(shop, f"/sagas?{found}")
        assert HOSTILE in listed.fields.values()
        assert f"/sagas/{saga_id}" in listed.links
        assert HOSTILE in (await opened(shop, f"/bulk/cancel?{found}")).text
    for version in range(1, (await shop.saga(saga_id))["version"] + 1):
        assert "<script>alert" not in (await shop.http.get(f"/sagas/{saga_id}?at={version}")).text
    order_id = (await shop.saga(saga_id))["context"]["order_id"]
    assert HOSTILE in (await opened(shop, f"/orders/{order_id}")).text


async def test_names_in_cyrillic_and_emoji_read_well(shop: Shop) -> None:
    name = "Пётр 🛒 Œuvre"
    saga_id = await ended(shop, {"customer_id": name, "items": [{"product_id": name, "quantity": 1, "price": 5}]})
    assert f'"customer_id": "{name}"' in (await opened(shop, f"/sagas/{saga_id}")).text
    found = await opened(shop, f"/sagas?text={quote('Пётр')}")
    assert found.fields["text"] == "Пётр"
    assert f"/sagas/{saga_id}" in found.links


async def test_a_context_of_200_kib_is_cut_and_there_in_whole(shop: Shop) -> None:
    items = [{"product_id": f"product-{number:0180}", "quantity": 1, "price": 1} for number in range(900)]
    saga_id = await ended(shop, {"customer_id": "customer-1", "items": items})
    response = await shop.http.get(f"/sagas/{saga_id}")
    page_of(response)
    assert len(response.content) <= FIRST_PAGE
    assert f"/sagas/{saga_id}/context" in response.text
    whole = await opened(shop, f"/sagas/{saga_id}/context")
    assert f"product-{899:0180}" in whole.text
    first = await shop.http.get(f"/sagas/{saga_id}?at=1")
    assert "more lines" in page_of(first).text
    assert len(first.content) <= 2 * FIRST_PAGE


# ------------------------------------------------------------------------------------------- definitions and the system


async def test_the_definitions_are_drawn_and_told(shop: Shop) -> None:
    page = await opened(shop, "/definitions")
    assert page.tags["svg"] == 1
    for word in ("order_saga", "reserve_inventory", "pivot", "deadline 5 minutes"):
        assert word in page.text


async def test_the_system_tells_of_participants_and_versions(shop: Shop) -> None:
    await ended(shop)
    page = await opened(shop, "/system")
    for word in ("inventory", "payment", "shipment", "answers", "order_saga 1 ", "Dead letters"):
        assert word in page.text
