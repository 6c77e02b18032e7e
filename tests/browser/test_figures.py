"""Figures, the system and dead letters in a real browser: read, unfolded, put back and thrown away."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from playwright.sync_api import expect
from tests.browser.conftest import Window
from tests.cli.conftest import Server, serving
from tests.servers import nats
from tests.servers.nats import Nats

from unwind.buses.envelope import encode_batch
from unwind.ports import Message

pytestmark = pytest.mark.browser

NOWHERE = "Nobody delivers there: refunded"
GOOD = "All goes well"
PHONE = {"viewport": {"width": 360, "height": 740}}
DARK = {"color_scheme": "dark"}
SCREENSHOTS = Path(__file__).parents[2] / "docs" / "screenshots"
UNKNOWN = Message(
    id="0199aaaa-order/give_a_present/do",
    name="inventory.give_a_present",
    payload=msgspec.Raw('{"for":"Ада <b>& friends</b> 🎁"}'.encode()),
    saga_id="0199aaaa-order",
    step="give_a_present",
)


@pytest.fixture
def bus(tmp_path: Path) -> Iterator[Nats]:
    with nats.running(tmp_path) as running:
        yield running


@pytest.fixture
def server(tmp_path: Path, bus: Nats) -> Iterator[Server]:
    with serving(tmp_path, NATS_URL=bus.url) as started:
        yield started


def dead(window: Window, bus: Nats) -> None:
    """A command that the inventory cannot handle is sent, in NATS's own words; it is a letter then, and shown."""
    data = encode_batch([UNKNOWN])
    with socket.create_connection(("127.0.0.1", bus.port)) as link:
        link.sendall(b'CONNECT {"verbose":false}\r\n')
        link.sendall(b"PUB unwind.commands.inventory %d\r\n%s\r\nPING\r\n" % (len(data), data))
        heard = b""
        while b"PONG" not in heard:
            heard += link.recv(4_096)
    until_there(window, "Redrive…")


def until_there(window: Window, link: str) -> None:
    """Load the dead letters until there is such a link; the last time it must be there."""
    found = window.page.get_by_role("link", name=link, exact=True)
    for _ in range(40):
        window.page.goto("/dead-letters")
        if found.count():
            return
    expect(found).to_be_visible()


def test_figures_are_read_as_pictures_and_as_a_table(window: Window) -> None:
    window.place(GOOD)
    window.until("completed")
    window.place(NOWHERE)
    window.until("compensated")
    window.page.goto("/")
    chart = window.page.get_by_role("img", name="Sagas per minute")
    expect(chart).to_be_visible()
    assert "Within 1 hour 2 sagas began, 1 was completed and 1 undone." in (
        window.page.locator("#throughput-told").inner_text()
    )
    assert chart.locator("rect.done").count() == 1
    window.page.get_by_text("The same as a table").click()
    expect(window.page.locator("#figures-table")).to_contain_text("50 %")
    window.page.get_by_role("link", name="7 days").click()
    expect(window.page.get_by_role("img", name="Sagas per 3 hours")).to_be_visible()
    expect(window.page.get_by_role("link", name="7 days")).to_have_attribute("aria-current", "true")


def test_the_table_stays_unfolded_when_news_come(window: Window) -> None:
    other = Window(window.context)
    window.page.goto("/?range=24h")
    expect(window.page.locator("#live")).to_have_text("Live")
    window.page.get_by_text("The same as a table").click()
    saga_id = other.place("The carrier takes its time")
    window.page.get_by_role("link", name=saga_id).wait_for()
    expect(window.page.locator("#figures-table table")).to_be_visible()
    expect(window.page.get_by_role("img", name="Sagas per 30 minutes")).to_be_visible()
    assert other.told == []


def test_a_dead_letter_is_found_put_back_and_thrown_away(window: Window, bus: Nats) -> None:
    dead(window, bus)
    window.page.goto("/")
    window.page.get_by_role("link", name="Look at it").click()
    window.page.get_by_text("What it says").click()
    expect(window.page.locator("article pre")).to_contain_text("<b>& friends</b> 🎁")
    window.page.get_by_role("link", name="Redrive…").click()
    window.page.get_by_label("Reason").fill("the inventory has learnt it")
    window.page.get_by_role("button", name="Redrive now").click()
    expect(window.page.get_by_role("status").filter(has_text="Done with 1.")).to_be_visible()
    # The inventory has not learnt it.
    until_there(window, "Discard…")
    window.page.get_by_role("link", name="Discard…").click()
    expect(window.page.get_by_text("They are gone for good.")).to_be_visible()
    window.page.get_by_role("button", name="Discard now").click()
    expect(window.page.get_by_text("There are none.")).to_be_visible()


def test_the_system_tells_who_works_and_what_waits(window: Window) -> None:
    window.page.goto("/system")
    workers = window.page.get_by_role("region", name="Workers")
    expect(workers.get_by_text("this one")).to_be_visible()
    expect(workers.get_by_text("there", exact=True)).to_be_visible()
    expect(window.page.get_by_role("cell", name="commands.inventory")).to_be_visible()
    expect(window.page.get_by_text("sweeper lag")).to_be_visible()


def test_an_open_system_page_hears_of_a_dead_letter(window: Window, bus: Nats) -> None:
    window.page.goto("/system")
    expect(window.page.locator("#live")).to_have_text("Live")
    dead(Window(window.context), bus)
    expect(window.page.get_by_role("region", name="Dead letters")).to_contain_text("1 could never be handled.")


@pytest.mark.parametrize("window", [PHONE], indirect=True)
def test_none_of_it_is_wider_than_a_phone(window: Window, bus: Nats) -> None:
    window.place(NOWHERE)
    window.until("compensated")
    dead(window, bus)
    paths = ["/", "/?range=24h", "/?range=7d", "/definitions", "/system", "/dead-letters"]
    for path in (*paths, "/dead-letters/redrive?id=1", "/dead-letters/discard?id=1"):
        window.page.goto(path)
        assert window.page.evaluate("document.documentElement.scrollWidth") <= 360, path


@pytest.mark.parametrize("window", [{}, DARK], indirect=True, ids=["light", "dark"])
def test_dead_letters_are_drawn(window: Window, bus: Nats, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder = SCREENSHOTS if os.environ.get("SCREENSHOTS") else tmp_path
    dead(window, bus)
    file = folder / f"dead-letters-{request.node.callspec.id}.png"
    window.page.screenshot(path=file, full_page=True)
    assert file.stat().st_size > 5_000
