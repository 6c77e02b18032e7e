"""Who may look at the dashboard and act on it: its scopes, a browser that logs in, whose name is kept."""

import re
from collections.abc import AsyncIterator
from pathlib import Path
from secrets import token_bytes

import httpx
import pytest
from tests.http.conftest import SLOW, Shop
from tests.http.pages import page_of
from tests.http.test_access import bearer, client_of
from tools.list_routes import application as listed
from tools.list_routes import pages

from order_saga import main
from unwind.access import SCOPES, includes, make_key
from unwind.bootstrap import Worker
from unwind.cli import read_settings
from unwind.http.access import COOKIE, OPEN, scopes_in
from unwind.runtime.clock import SystemClock
from unwind.runtime.keyring import Keyring
from unwind.stores.memory_keys import MemoryKeys

FROM_US = {"Origin": "http://shop.example"}
PAGES = sorted(set(scopes_in(listed(pages=[pages()]).inner)) - set(scopes_in(listed().inner)))


async def keyed() -> tuple[Keyring, dict[str, str]]:
    """A key of each scope."""
    store, tokens = MemoryKeys(lambda: 0), {}
    for scope in SCOPES:
        fresh = make_key(token_bytes)
        await store.add(fresh, f"ada-{scope}", scope)
        tokens[str(scope)] = fresh.token
    return Keyring(store, SystemClock(), token_bytes), tokens


@pytest.fixture
async def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[Shop, dict[str, str]]]:
    """The order application, called from afar, and a key of each scope."""
    ring, tokens = await keyed()
    answering = main._answering

    def with_keys(worker: Worker) -> object:
        given = {name: getattr(worker, name) for name in worker.__struct_fields__}
        return answering(Worker(**given | {"keys": ring}))

    monkeypatch.setattr(main, "_answering", with_keys)
    settings = read_settings({"DATABASE_URL": f"sqlite:///{tmp_path}/unwind.db"})
    async with main.application(settings) as served, client_of(served.app) as client:
        yield Shop(client, served.app), tokens


async def log_in(client: httpx.AsyncClient, token: str, **fields: str) -> httpx.Response:
    return await client.post("/login", data={"key": token, **fields}, headers=FROM_US)


def test_pages_need_read_acts_operate_the_form_of_orders_start() -> None:
    said = {(method, path): scope for path, method, scope in PAGES}
    assert {each for each, scope in said.items() if scope == OPEN} == {
        ("GET", "/assets/{name}"),
        ("GET", "/login"),
        ("POST", "/login"),
        ("POST", "/logout"),
    }
    assert {each for each, scope in said.items() if scope == "start"} == {
        ("GET", "/orders/new"),
        ("POST", "/orders/new"),
    }
    assert {each for each, scope in said.items() if scope == "operate"} == {
        ("POST", "/sagas/{saga_id}/acts/{act}"),
        ("POST", "/bulk/{action}"),
        ("POST", "/bulk/runs/{run_id}/stop"),
        ("POST", "/dead-letters/{act}"),
    }


@pytest.mark.parametrize(("path", "method", "needed"), [each for each in PAGES if "/live/" not in each[0]])
async def test_each_page_by_each_scope(path: str, method: str, needed: str) -> None:
    ring, tokens = await keyed()
    target = re.sub(r"\{\w+\}", "0", path)
    async with client_of(listed(ring, [pages()])) as client:
        nobody = await client.request(method, target, headers=FROM_US)
        if needed == OPEN:
            assert nobody.status_code != 401
            return
        page = page_of(nobody, 401)
        assert "You are not logged in" in page.headings
        assert any(link.startswith("/login?next=") for link in page.links)
        assert nobody.headers["www-authenticate"].startswith("Bearer")
        for scope in SCOPES:
            answered = await client.request(method, target, headers=FROM_US | bearer(tokens[scope]))
            refused = answered.status_code in {401, 403}
            assert refused is not includes(scope, needed)  # type: ignore[arg-type]


async def test_a_browser_logs_in_acts_under_the_key_s_name_and_logs_out(house: tuple[Shop, dict[str, str]]) -> None:
    shop, tokens = house
    page = page_of(await shop.http.get("/login"))
    assert "key" in page.fields
    entered = await log_in(shop.http, tokens["operate"])
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert "HttpOnly" in entered.headers["set-cookie"]
    assert tokens["operate"] not in entered.headers["set-cookie"]
    shop.http.cookies.set(COOKIE, entered.cookies[COOKIE])
    page_of(await shop.http.get("/"))
    assert "You act as ada-operate" in page_of(await shop.http.get("/login")).text

    shop.http.headers.update(FROM_US)
    placed = await shop.order(SLOW)
    saga_id = placed.json()["saga_id"]
    asked = page_of(await shop.http.get(f"/sagas/{saga_id}/acts/pause"))
    done = await shop.http.post(asked.action, data=asked.fields | {"reason": "lunch"})
    while done.status_code == 409:  # it has moved on meanwhile
        asked = page_of(await shop.http.get(f"/sagas/{saga_id}/acts/pause"))
        done = await shop.http.post(asked.action, data=asked.fields | {"reason": "lunch"})
    assert done.status_code == 303
    [act] = (await shop.history(saga_id))["acts"]
    assert (act["actor"], act["reason"]) == ("ada-operate", "lunch")

    left = await shop.http.post("/logout")
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    page_of(await shop.http.get("/"), 401)


async def test_a_wrong_key_is_asked_for_again_and_not_shown(house: tuple[Shop, dict[str, str]]) -> None:
    shop, tokens = house
    wrong = tokens["read"][:-1] + ("A" if tokens["read"][-1] != "A" else "B")
    for key in (wrong, "", "<b>nonsense"):
        response = await log_in(shop.http, key)
        assert "no API key that may be used" in page_of(response, 401).text
        assert "set-cookie" not in response.headers
        assert not key or key not in response.text
    foreign = await shop.http.post("/login", data={"key": tokens["read"]}, headers={"Origin": "http://evil.example"})
    page_of(foreign, 403)


async def test_whoever_logs_in_comes_to_the_page_that_was_wanted(house: tuple[Shop, dict[str, str]]) -> None:
    shop, tokens = house
    wanted = "/sagas?status=blocked&text=%D0%9F%D1%91%D1%82%D1%80"
    refused = page_of(await shop.http.get(wanted), 401)
    [link] = [link for link in refused.links if link.startswith("/login?")]
    asked = page_of(await shop.http.get(link))
    assert asked.fields["next"] == wanted
    wrong = page_of(await log_in(shop.http, "nonsense", next=asked.fields["next"]), 401)
    assert wrong.fields["next"] == wanted
    entered = await log_in(shop.http, tokens["read"], next=wanted)
    assert (entered.status_code, entered.headers["location"]) == (303, wanted)
    # From a link to the log-in: back to where that was.
    before = {"Referer": "http://shop.example/sagas/7?at=3"}
    assert page_of(await shop.http.get("/login", headers=before)).fields["next"] == "/sagas/7?at=3"


async def test_a_session_that_has_ended_says_so_and_leads_back_through_the_log_in(
    house: tuple[Shop, dict[str, str]],
) -> None:
    shop, _ = house
    shop.http.cookies.set(COOKIE, "session-that-has-ended")
    page = page_of(await shop.http.get("/sagas/7"), 401)
    assert page.headings == ["You are not logged in any more"]
    assert "Your session has ended" in page.text
    assert "/login?next=%2Fsagas%2F7" in page.links
    # What was sent from a form is not done; the form is come back to.
    form = FROM_US | {"Referer": "http://shop.example/sagas/7/acts/cancel"}
    sent = page_of(await shop.http.post("/sagas/7/acts/cancel", data={}, headers=form), 401)
    assert "/login?next=%2Fsagas%2F7%2Facts%2Fcancel" in sent.links
    assert "was not done" in sent.text


@pytest.mark.parametrize(
    "elsewhere",
    [
        "http://evil.example/",
        "//evil.example",
        "/\\evil.example",
        "\\\\evil.example",
        "/\t/evil.example",
        "\t//evil.example",
        "/\n/evil.example",
        "javascript:alert(1)",
        "evil",
        "",
        "/login",
        "/login?next=/sagas",
        "/logout",
        "/live/sagas",
        "/" + "x" * 3_000,
    ],
)
async def test_the_log_in_leads_nowhere_else(house: tuple[Shop, dict[str, str]], elsewhere: str) -> None:
    shop, tokens = house
    assert "next" not in page_of(await shop.http.get("/login", params={"next": elsewhere})).fields
    entered = await log_in(shop.http, tokens["read"], next=elsewhere)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    foreign = {"Referer": "http://evil.example/sagas"}
    assert "next" not in page_of(await shop.http.get("/login", headers=foreign)).fields


async def test_without_keys_the_log_in_says_so(shop: Shop) -> None:
    page = page_of(await shop.http.get("/login"))
    assert "There is no API key yet" in page.text
    assert "stop the application, make the key, start it again" in page.text
    assert "key" not in page.fields
