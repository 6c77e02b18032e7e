"""Rate limits as clients meet them: 429 with what to do, reads and writes apart, everybody counted for himself."""

from collections.abc import AsyncIterator
from secrets import token_bytes
from typing import Any

import httpx
import pytest
from litestar import get, post
from tests.core.trips import trip
from tests.http.conftest import check_problem

from unwind.access import make_key
from unwind.buses.memory import MemoryBus
from unwind.edge.edge import Edge
from unwind.edge.local_limiter import LocalLimiter
from unwind.http import About, Answer, Docs, create_app
from unwind.http.rate_limits import address_of
from unwind.ports import Rate, RateLimiter
from unwind.runtime.clock import SystemClock
from unwind.runtime.engine import Engine
from unwind.runtime.keyring import Keyring
from unwind.runtime.queries import Queries
from unwind.stores.memory import MemoryStore
from unwind.stores.memory_keys import MemoryKeys
from unwind.testing.manual_clock import ManualClock

SECOND = 1_000_000
done: list[str] = []


@get("/things", docs=Docs((Answer(200, "Things"),)), scope="read")
async def look() -> str:
    """Look."""
    return "things"


@post("/things", status_code=202, docs=Docs((Answer(202, "Done"),)), scope="operate")
async def act() -> str:
    """Act."""
    done.append("thing")
    return "done"


def app_with(limiter: RateLimiter | None, keys: Keyring | None = None) -> Any:
    store = MemoryStore(lambda: 0)
    clock = SystemClock()
    engine = Engine(store, MemoryBus(clock), [trip()], clock=clock, worker="w", new_id=str, jitter=lambda: 0.5)
    about, routes = About("Trips", "1", "For tests"), [look, act]
    return create_app(about, engine, Queries(store), {}, routes=routes, limiter=limiter, keys=keys)


def client_at(app: Any, address: str = "127.0.0.1") -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(address, 123))
    return httpx.AsyncClient(transport=transport, base_url="http://localhost")


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def app(clock: ManualClock) -> Any:
    return app_with(LocalLimiter(Rate(per_second=2, burst=4), clock))


@pytest.fixture
async def client(app: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with client_at(app) as client:
        yield client


async def test_every_answer_tells_how_much_is_left(client: httpx.AsyncClient) -> None:
    answers = [await client.get("/api/v1/things") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert [answer.headers["ratelimit-policy"] for answer in answers] == ['"read";q=4;w=2'] * 4
    assert [answer.headers["ratelimit"] for answer in answers] == [
        '"read";r=3;t=1',
        '"read";r=2;t=1',
        '"read";r=1;t=2',
        '"read";r=0;t=2',
    ]


async def test_who_calls_too_often_is_told_when_to_come_again(client: httpx.AsyncClient, clock: ManualClock) -> None:
    done.clear()
    answers = [await client.post("/api/v1/things") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [202] * 4 + [429] * 2
    assert len(done) == 4
    refused = answers[-1]
    problem = check_problem(refused, 429, "too-many-requests")
    assert problem["detail"] == "at most 2 calls per second are served to a client; nothing was done, repeat in 1 s"
    assert refused.headers["retry-after"] == "1"
    assert refused.headers["ratelimit-policy"] == '"write";q=4;w=2'
    assert refused.headers["ratelimit"] == '"write";r=0;t=2'
    assert refused.headers["x-content-type-options"] == "nosniff"
    clock.advance(int(refused.headers["retry-after"]) * SECOND)
    assert (await client.post("/api/v1/things")).status_code == 202


async def test_reads_and_writes_are_counted_apart(client: httpx.AsyncClient) -> None:
    assert [(await client.post("/api/v1/things")).status_code for _ in range(5)][-1] == 429
    assert (await client.get("/api/v1/things")).status_code == 200


async def test_every_route_of_the_api_counts_also_when_it_fails(client: httpx.AsyncClient) -> None:
    paths = ["/sagas", "/sagas/nobody", "/sagas/nobody/history", "/sagas?limit=x", "/things"]
    answers = [await client.get(f"/api/v1{path}") for path in paths]
    assert [answer.status_code for answer in answers] == [200, 404, 404, 422, 429]
    assert all("ratelimit" in answer.headers for answer in answers)
    acts = [
        await client.post(f"/api/v1/sagas/nobody/{act}") for act in ("cancel", "pause", "resume", "cancel", "pause")
    ]
    assert [answer.status_code for answer in acts[-1:]] == [429]


async def test_what_machines_ask_and_documentation_are_free(client: httpx.AsyncClient) -> None:
    for path in ("/livez", "/readyz", "/metrics", "/docs"):
        answers = [await client.get(path) for _ in range(10)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers
    assert {(await client.options("/api/v1/things")).status_code for _ in range(10)} == {204}


async def test_clients_are_told_apart_by_key_or_else_by_address(clock: ManualClock) -> None:
    async def spend(client: httpx.AsyncClient, **headers: str) -> int:
        answers = [await client.get("/api/v1/things", headers=headers) for _ in range(6)]
        return sum(answer.status_code != 429 for answer in answers)

    store, one, other = MemoryKeys(clock.monotonic), make_key(token_bytes), make_key(token_bytes)
    for fresh in (one, other):
        await store.add(fresh, "ada", "read")
    keyring = Keyring(store, clock, token_bytes)
    app = app_with(LocalLimiter(Rate(per_second=2, burst=4), clock), keyring)
    session = await keyring.log_in(one.token)
    assert session is not None
    async with client_at(app, "192.0.2.1") as client, client_at(app, "192.0.2.2") as neighbour:
        # Who guesses is counted by where he sits, whatever he invents.
        assert await spend(client, **{"X-API-Key": f"unwind_{one.id}_{'A' * 43}"}) == 4
        assert await spend(client, **{"X-API-Key": "guess"}) == 0
        assert await spend(client, **{"X-API-Key": one.token}) == 4
        assert await spend(client, Authorization=f"Bearer {other.token}") == 4
        assert await spend(neighbour, Authorization=f"bearer {one.token}") == 0
        assert await spend(neighbour, Cookie=f"unwind_session={session.token}") == 0
        assert await spend(neighbour) == 4


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("testclient", "testclient", True),
    ],
)
def test_an_address_is_that_of_the_customer(one: str, other: str, same: bool) -> None:
    scopes: list[Any] = [{"headers": [], "client": (address, 1)} for address in (one, other)]
    assert (address_of(scopes[0]) == address_of(scopes[1])) is same


def test_who_has_no_address_sits_here() -> None:
    nobody: Any = {"headers": [], "client": None}
    assert address_of(nobody) == "address:local"


async def test_without_a_limit_nothing_is_said_and_with_one_it_is_documented(client: httpx.AsyncClient) -> None:
    limited = (await client.get("/schema/openapi.json")).json()
    assert "429" in limited["paths"]["/api/v1/things"]["post"]["responses"]
    assert "429" not in limited["paths"]["/readyz"]["get"]["responses"]
    async with client_at(app_with(None)) as free:
        answers = [await free.get("/api/v1/things") for _ in range(20)]
        assert {answer.status_code for answer in answers} == {200}
        assert "ratelimit" not in answers[0].headers
        assert "429" not in (await free.get("/schema/openapi.json")).text


@pytest.mark.integration
async def test_replicas_on_one_redis_limit_together(redis_address: str) -> None:
    rate = Rate(per_second=1, burst=10)
    statuses = []
    for _ in range(4):
        edge = await Edge.open(redis_address, "", SystemClock())
        async with client_at(app_with(edge.limiter(rate))) as client:
            statuses += [(await client.get("/api/v1/things")).status_code for _ in range(5)]
        await edge.close()
    assert statuses[:10] == [200] * 10
    assert 7 <= statuses.count(429) <= 10
