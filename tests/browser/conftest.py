"""A Chromium, and the order application that it looks at: a real process on files of its own."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from tests.cli.conftest import Server, serving

VIEWS = ("/", "/sagas", "/definitions", "/system", "/orders/new")
PRESSED = """
addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (button) unwindPressed(button.textContent);
}, true);
"""
NAMES = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    found = os.environ.get("CHROMIUM") or next((path for name in NAMES if (path := shutil.which(name))), None)
    with sync_playwright() as playwright:
        # Root has no sandbox there; the pages are our own.
        opened = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with serving(tmp_path) as started:
        yield started


class Window:
    """A window of the browser. Whatever its console tells is a fault."""

    def __init__(self, context: BrowserContext) -> None:
        self.context = context
        self.page: Page = context.new_page()
        self.pressed: list[str] = []
        """The text of each button that was pressed, whichever way."""
        self.page.expose_function("unwindPressed", self._note)
        self.page.add_init_script(PRESSED)
        self.told: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))

    def _note(self, label: str) -> None:
        self.pressed.append(label)

    def place(self, road: str) -> str:
        """Place an order from the form; gives the id of its saga, whose page is shown then."""
        self.page.goto("/orders/new")
        self.page.get_by_label(road).check()
        self.page.get_by_role("button", name="Place the order").click()
        self.page.wait_for_url("**/sagas/*")
        return self.page.url.rpartition("/")[2]

    def until(self, status: str) -> None:
        """Wait until the page shows it, without anybody loading it again."""
        self.page.locator(f"h1 .status.{status}").wait_for()

    def act(self, name: str, **fields: str) -> None:
        """Follow the button of an act, fill in its form, confirm."""
        self.page.get_by_role("link", name=f"{name}…").click()
        for label, text in fields.items():
            self.page.get_by_label(label, exact=False).fill(text)
        self.page.get_by_role("button", name=f"{name} now").click()
        self.page.wait_for_url("**/sagas/*")


@pytest.fixture
def window(browser: Browser, server: Server, request: pytest.FixtureRequest) -> Iterator[Window]:
    given: dict[str, Any] = getattr(request, "param", {})
    context = browser.new_context(base_url=server.url, **given)
    context.set_default_timeout(20_000)
    opened = Window(context)
    yield opened
    assert opened.told == []
    context.close()
