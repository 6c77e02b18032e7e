"""Who may call what: each route by each scope, wrong keys of every kind, browsers and their sessions, other sites."""

import re
from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from secrets import token_bytes
from typing import Any

import httpx
import pytest
from litestar import Response, get, post
from structlog.testing import capture_logs
from tests.http.conftest import check_problem
from tests.http.test_documentation import operations
from tests.http.test_problems import ABOUT, parts
from tools.list_routes import TARGET, application, document

from unwind.access import SCOPES, Scope, includes, make_key
from unwind.errors import DefinitionError, UnavailableError
from unwind.http import Answer, AnyRequest, Docs, create_app, log_in, log_out
from unwind.http.access import OPEN, scopes_in
from unwind.runtime.clock import SystemClock
from unwind.runtime.keyring import LASTS, Keyring
from unwind.stores.memory_keys import MemoryKeys
from unwind.testing.manual_clock import ManualClock

ROUTES = sorted(scopes_in(application().inner))
FAR = "192.0.2.1"
DOCS = Docs((Answer(200, "Done"),))


def client_of(app: Any, address: str = FAR, host: str = "shop.example") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 1))
    return httpx.AsyncClient(transport=transport, base_url=f"http://{host}")


class House:
    """An application with one key of each scope, and a log-in as a dashboard has it."""

    def __init__(self) -> None:
        self.clock = ManualClock(1_000_000)
        self.store = MemoryKeys(self.clock.monotonic)
        self.ring = Keyring(self.store, self.clock, token_bytes)
        self.tokens: dict[str, str] = {}
        self.app = create_app(ABOUT, *parts(), {}, routes=[*self.own_routes()], keys=self.ring)

    def own_routes(self) -> list[Any]:
        @post("/login", docs=DOCS, scope="open", status_code=200)
        async def login(request: AnyRequest) -> Response[str]:
            """Log in."""
            cookie = await log_in(self.ring, request, (await request.body()).decode())
            return Response("", headers={"Set-Cookie": cookie})

        @post("/logout", docs=DOCS, scope="read", status_code=200)
        async def logout(request: AnyRequest) -> Response[str]:
            """Log out."""
            return Response("", headers={"Set-Cookie": await log_out(self.ring, request)})

        return [login, logout]

    async def make(self, name: str, scope: Scope) -> str:
        fresh = make_key(token_bytes)
        await self.store.add(fresh, name, scope)
        self.tokens[scope] = fresh.token
        return fresh.token


@pytest.fixture
async def house() -> House:
    house = House()
    for scope in SCOPES:
        await house.make(f"ada-{scope}", scope)
    return house


@pytest.fixture
async def client(house: House) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(house.app) as client:
        yield client


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


# ---------------------------------------------------------------------------------------------------- routes by scopes


def test_the_table_in_the_docs_is_what_the_code_says() -> None:
    assert TARGET.read_text(encoding="utf-8") == document(), "run `python -m tools.list_routes`"


def test_what_is_open_is_known() -> None:
    assert {path for path, _, scope in ROUTES if scope == OPEN} == {"/health", "/livez", "/readyz"}
    assert {scope for _, method, scope in ROUTES if method != "GET"} == {"start", "operate", "admin"}


@pytest.mark.parametrize("scope", [None, "everything", ""])
def test_a_route_that_does_not_say_who_may_call_it_cannot_be_served(scope: str | None) -> None:
    given: dict[str, Any] = {} if scope is None else {"scope": scope}

    @get("/things", docs=DOCS, **given)
    async def things() -> None:
        """Look."""

    with pytest.raises(DefinitionError, match="say who may call it"):
        create_app(ABOUT, *parts(), {}, routes=[things])


@pytest.mark.parametrize(("path", "method", "needed"), ROUTES)
async def test_each_route_by_each_scope(path: str, method: str, needed: str) -> None:
    """What comes after the door does not matter here: only whether it opens."""
    store = MemoryKeys(lambda: 0)
    ring = Keyring(store, SystemClock(), token_bytes)
    tokens = {}
    for scope in SCOPES:
        fresh = make_key(token_bytes)
        await store.add(fresh, "ada", scope)
        tokens[scope] = fresh.token
    app = application(ring)
    target = re.sub(r"\{\w+\}", "00000000", path)
    async with client_of(app) as client:
        nobody = await client.request(method, target)
        if needed == OPEN:
            assert nobody.status_code in {200, 503}
            return
        check_problem(nobody, 401, "unauthorized")
        for scope in SCOPES:
            answered = await client.request(method, target, headers=bearer(tokens[scope]))
            wanted: Any = needed
            if includes(scope, wanted):
                assert answered.status_code not in {401, 403}, answered.text
            else:
                problem = check_problem(answered, 403, "forbidden")
                assert f"'{needed}'" in problem["detail"]
                challenge = answered.headers["www-authenticate"]
                assert challenge == f'Bearer realm="unwind", error="insufficient_scope", scope="{needed}"'


async def test_the_documentation_says_what_each_route_asks_for() -> None:
    app = application()
    async with client_of(app, "127.0.0.1", "localhost") as client:
        schema = (await client.get("/schema/openapi.json")).json()
    schemes = schema["components"]["securitySchemes"]
    assert (schemes["bearer"]["scheme"], schemes["key"]["name"]) == ("bearer", "X-API-Key")
    told = {
        (path, method): [next(iter(each.values())) for each in operation["security"]]
        for method, path, operation in operations(schema)
    }
    for path, method, scope in ROUTES:
        if (path, method) in told:
            assert told[path, method] == ([] if scope == OPEN else [[scope]] * len(schemes))
    for method, path, operation in operations(schema):
        assert ("401" in operation["responses"]) == ("403" in operation["responses"]) == bool(told[path, method])


# ------------------------------------------------------------------------------------------------------------ who calls


async def test_a_wrong_key_is_401_whatever_is_wrong_with_it(house: House, client: httpx.AsyncClient) -> None:
    good, other = house.tokens["admin"], make_key(token_bytes).token
    for headers in (
        bearer(good[:-1]),
        bearer(other),
        bearer(""),
        {"Authorization": good},
        {"Authorization": f"Basic {good}"},
        {"X-API-Key": ""},
        {"X-API-Key": good, "Authorization": f"Bearer {other}"},
        {"Cookie": "unwind_session=x"},
        {"Cookie": "unwind_session"},
    ):
        refused = await client.get("/api/v1/sagas", headers=headers)
        problem = check_problem(refused, 401, "unauthorized")
        assert refused.headers["www-authenticate"] == 'Bearer realm="unwind", error="invalid_token"'
        assert good not in refused.text
        assert "unwind keys create" in problem["detail"]
    none = await client.get(f"/api/v1/sagas?key={good}&X-API-Key={good}")
    check_problem(none, 401, "unauthorized")
    assert none.headers["www-authenticate"] == 'Bearer realm="unwind"'


async def test_a_key_is_taken_in_either_header(house: House, client: httpx.AsyncClient) -> None:
    token = house.tokens["read"]
    for headers in (bearer(token), {"authorization": f"bearer  {token}"}, {"x-api-key": token}):
        assert (await client.get("/api/v1/sagas", headers=headers)).status_code == 200
    both = {**bearer(token), "X-API-Key": token}
    assert (await client.get("/api/v1/sagas", headers=both)).status_code == 200
    beside = {"Authorization": "Basic cHJveHk6cHJveHk=", "X-API-Key": token}  # of a proxy in front
    assert (await client.get("/api/v1/sagas", headers=beside)).status_code == 200


async def test_a_revoked_key_is_refused_two_seconds_later(house: House, client: httpx.AsyncClient) -> None:
    token = house.tokens["read"]
    assert (await client.get("/api/v1/sagas", headers=bearer(token))).status_code == 200
    await house.store.revoke(token.split("_")[1])
    house.clock.advance(LASTS)
    check_problem(await client.get("/api/v1/sagas", headers=bearer(token)), 401, "unauthorized")


async def test_when_nobody_can_say_nobody_is_let_in_and_health_is_told(
    house: House, client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away() -> Any:
        raise UnavailableError("the store is away")

    monkeypatch.setattr(house.store, "keys", away)
    check_problem(await client.get("/api/v1/sagas", headers=bearer(house.tokens["read"])), 503, "unavailable")
    for path in ("/health", "/livez", "/readyz"):
        assert (await client.get(path)).status_code == 200


async def test_no_key_stands_in_an_answer_or_a_log(house: House, client: httpx.AsyncClient) -> None:
    with capture_logs() as logs:
        for path in ("/api/v1/sagas", "/api/v1/keys", "/metrics", "/docs", "/nothing", "/api/v1/sagas?limit=x"):
            for token in house.tokens.values():
                for headers in (bearer(token), {"X-API-Key": token}, bearer(token + "x"), {"Cookie": token}):
                    answer = await client.get(path, headers=headers)
                    assert token not in answer.text + str(answer.headers)
    assert not any(token in str(logs) for token in house.tokens.values())


# --------------------------------------------------------------------------------------------------- without any key


@pytest.mark.parametrize(
    ("address", "host", "status"),
    [
        *(("127.0.0.1", host, 200) for host in ("localhost", "127.0.0.1", "localhost:8080", "[::1]:8080", "127.1.2.3")),
        *(("::1", "localhost", 200), ("::ffff:127.0.0.1", "localhost", 200)),
        *((FAR, "localhost", 403), ("2001:db8::1", "localhost", 403), ("somewhere", "localhost", 403)),
        *(("127.0.0.1", host, 403) for host in ("shop.example", "localhost.evil.example", "192.0.2.7", "0.0.0.0")),  # noqa: S104
    ],
)
async def test_only_this_machine_is_served_under_its_own_name(address: str, host: str, status: int) -> None:
    for ring in (None, Keyring(MemoryKeys(lambda: 0), SystemClock(), token_bytes)):
        async with client_of(create_app(ABOUT, *parts(), {}, keys=ring), address, host) as client:
            answer = await client.get("/api/v1/sagas")
            assert answer.status_code == status
            if status == 403:
                assert "unwind keys create" in check_problem(answer, 403, "forbidden")["detail"]
            assert (await client.get("/livez")).status_code == 200


# ------------------------------------------------------------------------------------------------------------- browsers


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 404),
        ({"Origin": "http://shop.example"}, 404),
        ({"Origin": "https://shop.example"}, 404),  # TLS ends in front of us
        ({"Origin": "http://shop.example:80", "Sec-Fetch-Site": "same-origin"}, 404),
        ({"Sec-Fetch-Site": "none"}, 404),
        *(
            ({"Origin": origin}, 403)
            for origin in ("null", "", "http://evil.example", "http://shop.example.evil.example")
        ),
        *(({"Origin": origin}, 403) for origin in ("http://shop.example:8080", "file://", "shop.example", "http://[")),
        *(({"Sec-Fetch-Site": site}, 403) for site in ("cross-site", "same-site")),
        ({"Origin": "http://shop.example", "Sec-Fetch-Site": "cross-site"}, 403),
    ],
)
async def test_what_changes_something_comes_from_our_own_pages(
    house: House, client: httpx.AsyncClient, headers: dict[str, str], status: int
) -> None:
    key = bearer(house.tokens["operate"])
    answer = await client.post("/api/v1/sagas/nobody/cancel", headers={**key, **headers})
    check_problem(answer, status, {404: "not-found", 403: "foreign-origin"}[status])
    assert (await client.get("/api/v1/sagas", headers={**key, **headers})).status_code == 200


async def test_a_browser_logs_in_with_a_key_and_out(house: House, client: httpx.AsyncClient) -> None:
    ours = {"Origin": "http://shop.example"}
    login = await client.post("/api/v1/login", content=house.tokens["operate"], headers=ours)
    assert login.status_code == 200
    flags = SimpleCookie(login.headers["set-cookie"])["unwind_session"]
    assert (flags["httponly"], flags["samesite"], flags["path"], flags["secure"]) == (True, "Strict", "/", "")
    assert flags["max-age"] == str(12 * 3_600)
    assert house.tokens["operate"] not in login.headers["set-cookie"]
    # The client keeps the cookie.
    assert (await client.get("/api/v1/sagas")).status_code == 200
    check_problem(await client.get("/api/v1/keys"), 403, "forbidden")
    check_problem(await client.post("/api/v1/sagas/nobody/cancel", headers=ours), 404, "not-found")
    check_problem(await client.post("/api/v1/sagas/nobody/cancel"), 403, "foreign-origin")
    kept = dict(client.cookies)
    assert (await client.post("/api/v1/logout", headers=ours)).status_code == 200
    assert not client.cookies
    client.cookies.update(kept)
    check_problem(await client.get("/api/v1/sagas"), 401, "unauthorized")


async def test_a_log_in_is_refused_with_a_wrong_key_and_from_another_site(
    house: House, client: httpx.AsyncClient
) -> None:
    wrong = await client.post("/api/v1/login", content=make_key(token_bytes).token)
    check_problem(wrong, 401, "unauthorized")
    foreign = {"Origin": "http://evil.example"}
    check_problem(
        await client.post("/api/v1/login", content=house.tokens["read"], headers=foreign), 403, "foreign-origin"
    )
    assert "set-cookie" not in wrong.headers


async def test_over_tls_the_cookie_is_sent_over_nothing_else(house: House) -> None:
    app: Any = house.app
    transport = httpx.ASGITransport(app, client=(FAR, 1))
    async with httpx.AsyncClient(transport=transport, base_url="https://shop.example") as client:
        login = await client.post("/api/v1/login", content=house.tokens["read"])
        assert "; Secure" in login.headers["set-cookie"]


# ------------------------------------------------------------------------------------------------------- keys over HTTP


async def test_keys_are_listed_and_revoked_and_their_secrets_are_nobody_s(
    house: House, client: httpx.AsyncClient
) -> None:
    admin = bearer(house.tokens["admin"])
    assert await house.ring.log_in(house.tokens["read"]) is not None
    listed = (await client.get("/api/v1/keys", headers=admin)).json()["keys"]
    assert {key["name"]: (key["scope"], key["state"]) for key in listed} == {
        f"ada-{scope}": (scope, "active") for scope in SCOPES
    }
    assert all("digest" not in key for key in listed)
    key_id = house.tokens["read"].split("_")[1]
    for _ in range(2):
        revoked = await client.post(f"/api/v1/keys/{key_id}/revoke", headers=admin)
        assert (revoked.status_code, revoked.json()["state"]) == (200, "revoked")
    check_problem(await client.get("/api/v1/sagas", headers=bearer(house.tokens["read"])), 401, "unauthorized")
    check_problem(await client.post("/api/v1/keys/00000000/revoke", headers=admin), 404, "not-found")
