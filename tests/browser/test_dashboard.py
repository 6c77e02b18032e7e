"""The dashboard as a person has it: in a real browser, live, by keyboard, on a phone, without scripts."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect
from tests.browser.conftest import VIEWS, Window
from tests.cli.conftest import Server, serving

pytestmark = pytest.mark.browser

NOWHERE = "Nobody delivers there: refunded"
BANK = "undone while you watch"
CLOSED = "and the refund is refused"
SLOW = "The carrier takes its time"
PLAIN = {"java_script_enabled": False}
PHONE = {"viewport": {"width": 360, "height": 740}}
DARK = {"color_scheme": "dark"}
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"


def test_a_compensation_is_watched_from_the_form_to_its_end(window: Window) -> None:
    window.place(BANK)
    window.until("compensating")
    expect(window.page.locator("#live")).to_have_text("Live")
    expect(window.page.locator("svg.timeline")).to_contain_text("create_shipment: refused")
    window.until("compensated")
    expect(window.page.locator("#live")).to_have_text("Ended: nothing more will change")
    for step in ("process_payment", "reserve_inventory"):
        expect(window.page.locator("svg.timeline")).to_contain_text(f"{step}: undone")
    window.page.goto("/")
    expect(window.page.get_by_text("Nothing needs a person.")).to_be_visible()


def test_what_has_ended_before_it_is_looked_at_says_so(window: Window) -> None:
    saga_id = window.place(NOWHERE)
    window.until("compensated")
    window.page.goto(f"/sagas/{saga_id}")
    expect(window.page.locator("#live")).to_have_text("Ended: nothing more will change")


def test_a_blocked_saga_is_found_and_resolved_from_the_page(window: Window) -> None:
    saga_id = window.place(CLOSED)
    window.until("blocked")
    window.page.goto("/")
    window.page.get_by_role("region", name="Needs attention").get_by_role("link", name=saga_id).click()
    window.act("Resolve", Evidence="refunded by bank transfer", Reference="TICKET-7")
    window.until("compensated")
    expect(window.page.get_by_text("refunded by bank transfer (TICKET-7)")).to_be_visible()


def test_what_is_unfolded_stays_so_when_news_come(window: Window) -> None:
    window.place(SLOW)
    window.page.get_by_text("create_shipment: under way").wait_for()
    window.page.locator("#context summary").click()
    window.until("completed")
    expect(window.page.locator("#context pre")).to_be_visible()


def test_the_list_and_the_overview_are_live(window: Window) -> None:
    other = Window(window.context)
    for page in ("/", "/sagas"):
        window.page.goto(page)
        expect(window.page.locator("#live")).to_have_text("Live")
        saga_id = other.place(SLOW)
        window.page.get_by_role("link", name=saga_id).wait_for()
    assert other.told == []


@pytest.mark.parametrize("window", [PLAIN], indirect=True)
def test_all_of_it_works_without_scripts(window: Window) -> None:
    window.place(CLOSED)
    for _ in range(20):
        window.page.reload()
        if window.page.locator("h1 .status.blocked").count():
            break
    window.act("Skip", Reason="written off")
    window.page.reload()
    expect(window.page.get_by_text("skipped process_payment by anonymous: written off")).to_be_visible()


@pytest.mark.parametrize("window", [PHONE], indirect=True)
def test_nothing_is_wider_than_a_phone(window: Window) -> None:
    saga = f"/sagas/{window.place(CLOSED)}"
    window.until("blocked")
    for path in (
        *VIEWS,
        saga,
        f"{saga}/acts/retry",
        f"{saga}/acts/resolve",
        f"{saga}/acts/cancel",
        f"{saga}/context",
        f"{saga}?at=5",
        "/bulk/cancel",
        "/login",
    ):
        window.page.goto(path)
        assert window.page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_it_can_be_used_by_keyboard(window: Window) -> None:
    window.page.goto("/")
    window.page.keyboard.press("Tab")
    expect(window.page.get_by_role("link", name="Skip to the content")).to_be_focused()
    window.page.keyboard.press("Enter")
    expect(window.page.locator("main")).to_be_focused()
    window.page.goto("/orders/new")
    window.page.get_by_label("All goes well").focus()
    window.page.keyboard.press("ArrowDown")
    expect(window.page.get_by_label(NOWHERE)).to_be_checked()
    window.page.keyboard.press("Enter")
    window.page.wait_for_url("**/sagas/*")


def test_a_lost_stream_is_told_and_the_process_stops_at_once(window: Window, server: Server) -> None:
    window.place(CLOSED)
    window.until("blocked")
    expect(window.page.locator("#live")).to_have_text("Live")
    code, errors = server.stop()
    assert code == 0, errors
    assert "Cancel" not in errors
    expect(window.page.locator("#live")).to_have_text("Not live: the connection is lost, trying again")
    window.told.clear()  # the browser tells of the refused connection


def test_a_lost_stream_is_found_again_with_what_has_come_meanwhile(
    window: Window, server: Server, tmp_path: Path
) -> None:
    window.place(SLOW)
    window.page.get_by_text("create_shipment: under way").wait_for()
    server.stop()
    expect(window.page.locator("#live")).to_have_text("Not live: the connection is lost, trying again")
    with serving(tmp_path, SERVER_PORT=server.url.rpartition(":")[2]):
        expect(window.page.locator("#live")).to_have_text("Ended: nothing more will change", timeout=20_000)
        expect(window.page.locator("h1 .status")).to_have_text("completed")
    window.told.clear()  # the browser tells of the refused connection


@pytest.mark.parametrize("window", [{}, DARK], indirect=True, ids=["light", "dark"])
def test_each_view_is_drawn(window: Window, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = SCREENSHOTS if os.environ.get("SCREENSHOTS") else tmp_path
    window.place(NOWHERE)
    window.until("compensated")
    saga = f"/sagas/{window.place(CLOSED)}"
    window.until("blocked")
    bulk = "/bulk/retry?status=blocked"
    names = {
        "/": "overview",
        "/orders/new": "place-an-order",
        saga: "saga",
        f"{saga}/acts/resolve": "resolve",
        f"{saga}?at=9": "saga-at-a-version",
        bulk: "bulk",
        "/nowhere": "not-found",
    }
    for path in (*VIEWS, *(each for each in names if each not in VIEWS)):
        window.page.goto(path)
        name = names.get(path, path.strip("/"))
        scheme = request.node.callspec.id
        window.page.screenshot(path=folder / f"{name}-{scheme}.png", full_page=True)
        assert (folder / f"{name}-{scheme}.png").stat().st_size > 5_000
    window.told.clear()  # the browser tells of the page that is not there
