"""Logging in and out in a browser: on to the page that was wanted, and back after a session has ended."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from tests.browser.conftest import Window
from tests.browser.test_every_control import untried
from tests.cli.conftest import Server, run, serving

pytestmark = pytest.mark.browser

WANTED = "/sagas?status=blocked"


@pytest.fixture
def key(tmp_path: Path) -> str:
    made = run("keys", "create", "--name", "ada", "--scope", "operate", UNWIND_DATA_DIR=str(tmp_path / "data"))
    assert made.returncode == 0, made.stderr
    return str(re.findall(r"unwind_\S+", made.stdout)[0])


@pytest.fixture
def locked(tmp_path: Path, key: str) -> Iterator[Server]:
    with serving(tmp_path) as started:
        yield started


def test_one_logs_in_comes_where_one_wanted_to_and_logs_out(browser: Browser, locked: Server, key: str) -> None:
    window = Window(browser.new_context(base_url=locked.url))
    page = window.page
    page.goto(WANTED)
    expect(page.get_by_role("heading", level=1)).to_have_text("You are not logged in")
    page.get_by_role("main").get_by_role("link", name="Log in").click()
    page.get_by_label("API key").fill("nonsense")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_contain_text("no API key that may be used")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"**{WANTED}")
    expect(page.locator("#live")).to_have_text("Live")

    # Another window of the same browser ends the session; a page that is open says so, and leads back.
    other = Window(window.context)
    other.page.goto("/login")
    expect(other.page.get_by_role("main")).to_contain_text("You act as ada")
    other.page.get_by_role("button", name="Log out").click()
    other.page.get_by_text("Log in", exact=True).first.wait_for()
    page.reload()
    page.get_by_role("main").get_by_role("link", name="Log in").click()
    page.get_by_label("API key").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**{WANTED}")
    assert untried(window.pressed + other.pressed, "login.html") == set()
    window.context.close()


def test_an_open_page_says_that_its_session_has_ended(browser: Browser, locked: Server, key: str) -> None:
    window = Window(browser.new_context(base_url=locked.url))
    page = window.page
    page.goto(f"/login?next={WANTED}")
    page.get_by_label("API key").fill(key)
    page.get_by_role("button", name="Log in").click()
    page.wait_for_url(f"**{WANTED}")
    expect(page.locator("#live")).to_have_text("Live")
    window.context.clear_cookies()
    window.context.set_offline(True)
    window.context.set_offline(False)
    page.evaluate("() => { const source = new Event('visibilitychange'); document.dispatchEvent(source); }")
    expect(page.locator("#live")).to_contain_text("your session has ended", timeout=25_000)
    window.context.close()
