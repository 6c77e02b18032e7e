"""No link leads nowhere, and no button is untried: those of the templates are counted, those that are pressed too."""

import re
from pathlib import Path
from urllib.parse import urldefrag

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import VIEWS, Window
from tests.browser.test_dashboard import CLOSED, NOWHERE, SLOW

from unwind.runtime.acts import ACTS

pytestmark = pytest.mark.browser

ROOT = Path(__file__).parents[2]
TEMPLATES = {
    path.name: path.read_text()
    for folder in ("src/unwind/dashboard/templates", "apps/order_saga/pages")
    for path in sorted((ROOT / folder).glob("*.html"))
}
WITH_KEYS = {"login.html"}
"""Pages whose buttons are there only where there are keys; see test_login.py."""
_VALUE = re.compile(r"\{\{.*?\}\}")
_BLOCK = re.compile(r"\{%.*?%\}")


def buttons(*names: str) -> dict[str, re.Pattern[str]]:
    """The buttons of these templates, and what the text of each looks like."""
    found = {}
    for name in names:
        for label in re.findall(r"<button[^>]*>(.*?)</button>", TEMPLATES[name]):
            parts = [re.escape(part) for part in _VALUE.split(_BLOCK.sub("", label))]
            found[f"{name}: {label}"] = re.compile(".*".join(parts))
    return found


def untried(pressed: list[str], *names: str) -> set[str]:
    return {name for name, pattern in buttons(*names).items() if not any(pattern.fullmatch(label) for label in pressed)}


def test_every_button_and_every_act_is_tried(window: Window) -> None:
    page = window.page
    window.place(SLOW)
    page.get_by_text("create_shipment: under way").wait_for()
    window.act("Pause", Reason="lunch")
    window.until("paused")
    window.act("Resume")
    window.act("Cancel", Reason="changed my mind")
    window.until("compensated")
    for mend, field in (("Skip", "Reason"), ("Resolve", "Evidence")):
        window.place(CLOSED)
        window.until("blocked")
        window.act("Retry", Reason="once more")
        window.until("blocked")
        window.act(mend, **{field: "written off"})
        window.until("compensated")
    page.get_by_role("slider").press("ArrowLeft")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("As it stood after version").wait_for()

    saga_id = window.place(CLOSED)
    window.until("blocked")
    page.goto("/sagas")
    page.get_by_label("blocked").check()
    page.get_by_label("Text").fill(saga_id[:30])
    page.get_by_role("button", name="Show").click()
    page.get_by_role("link", name="Retry all that fit").click()
    page.get_by_label("Reason").fill("all of them")
    page.get_by_role("button", name=re.compile("Retry 1 saga now")).click()
    page.locator("h1 .status.completed").wait_for()

    for _ in range(2):
        window.place(CLOSED)
        window.until("blocked")
    page.goto("/bulk/cancel?status=blocked")
    page.get_by_label("Reason").fill("enough")
    page.get_by_label("At most so many a second").fill("1")
    page.get_by_role("button", name=re.compile(r"Cancel \d sagas now")).click()
    page.get_by_role("button", name="Stop").click()
    page.locator("h1 .status.blocked").wait_for()
    assert untried(window.pressed, *(set(TEMPLATES) - WITH_KEYS)) == set()
    assert {f"{act.capitalize()} now" for act in ACTS} <= set(window.pressed)


def test_every_link_of_every_page_leads_to_a_page(window: Window) -> None:
    window.place(NOWHERE)
    window.until("compensated")
    ended = window.page.url
    stuck = f"/sagas/{window.place(CLOSED)}"
    window.until("blocked")
    pages = [*VIEWS, ended, stuck, f"{ended}?at=5", "/nowhere", "/login", "/bulk/cancel", "/sagas?status=completed"]
    pages += [f"{stuck}/acts/{act}" for act in ACTS]
    seen: dict[str, str] = {}
    for path in pages:
        window.page.goto(path)
        for link in window.page.locator("a[href]").all():
            seen.setdefault(str(link.evaluate("link => link.href")), path)
    assert len(seen) > 30
    for address, where in seen.items():
        target, part = urldefrag(address)
        answer = window.page.request.get(target, headers={"Accept": "text/html"})
        assert answer.status in {200, 404} if target.endswith("/nowhere") else answer.ok, f"{address} on {where}"
        if part:
            assert f'id="{part}"' in answer.text(), f"{address} on {where}"
    window.told.clear()  # the browser tells of the page that is not there


def test_a_list_is_filtered_by_its_form_and_paged_by_its_links(window: Window) -> None:
    page = window.page
    saga_id = window.place(NOWHERE)
    window.until("compensated")
    for _ in range(51):
        answer = page.request.post(
            "/api/v1/orders",
            data={"customer_id": "customer-7", "items": [{"product_id": "p", "quantity": 1, "price": 5}]},
        )
        assert answer.status == 202
    page.goto("/sagas")
    page.get_by_role("link", name="Older ones").click()
    page.get_by_role("link", name=saga_id).wait_for()
    page.get_by_role("link", name="The newest").click()
    page.get_by_role("link", name="Count them").click()
    page.get_by_text("52 sagas fit.").wait_for()
    page.get_by_label("Attribute").select_option("customer_id")
    page.get_by_label("is", exact=True).fill("customer-nowhere")
    page.get_by_label("Begun from").fill("2020-01-01T00:00")
    page.get_by_label("Definition").select_option("order_saga")
    page.get_by_role("button", name="Show").click()
    page.get_by_text("1 saga fits.").wait_for()
    assert "started_from=2020-01-01T00%3A00" in page.url
    assert "attribute=customer_id&value=customer-nowhere" in page.url
    page.reload()
    expect(page.get_by_label("is", exact=True)).to_have_value("customer-nowhere")
    page.get_by_role("link", name="All", exact=True).click()
    page.get_by_label("Text").fill("customer-nowh")
    page.get_by_label("Text").press("Enter")
    page.get_by_text("1 saga fits.").wait_for()
    page.get_by_label("Text").fill(saga_id)
    page.get_by_label("Text").press("Enter")
    page.wait_for_url(f"**/sagas/{saga_id}")


def test_a_retry_may_send_another_command_whose_consequence_is_shown(window: Window) -> None:
    page = window.page
    window.place(CLOSED)
    window.until("blocked")
    page.get_by_role("link", name="Retry…").click()
    expect(page.locator(".consequence")).to_contain_text("process_payment")
    page.get_by_text("What process_payment sends now").click()
    sent = page.locator("details pre").inner_text()
    page.get_by_label("Another command").fill("{")
    page.get_by_role("button", name="Retry now").click()
    expect(page.get_by_role("alert")).to_contain_text("command")
    expect(page.get_by_label("Another command")).to_have_value("{")
    page.get_by_label("Another command").fill(sent)
    page.get_by_role("button", name="Retry now").click()
    page.wait_for_url(re.compile(r"/sagas/[^/]+$"))
    page.get_by_text("in place of the one before").first.wait_for()
    window.told.clear()  # the browser tells of the refusal


def test_what_a_version_changed_is_walked_through_by_links(window: Window) -> None:
    page = window.page
    window.place(NOWHERE)
    window.until("compensated")
    page.get_by_role("link", name=re.compile("Before: ")).click()
    page.get_by_role("link", name=re.compile("Before: ")).click()
    changed = page.locator("#change")
    expect(changed).to_have_attribute("open", "")
    expect(changed.locator("ins, del").first).to_be_visible()
    page.get_by_role("link", name=re.compile("After: ")).click()
    page.get_by_role("link", name="As it is now").click()
    page.get_by_role("link", name=re.compile("Order ")).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("cancelled")
    page.get_by_role("link", name="Its saga").click()
    window.until("compensated")
