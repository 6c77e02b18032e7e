"""How a load follows its orders: the young together by the list, the old ones each by itself, and few questions."""

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from order_saga.load.arrivals import Begun
from order_saga.load.ends import Ends
from order_saga.load.tally import Tally

pytestmark = pytest.mark.integration  # the programs themselves, as processes

NOW = datetime(2030, 1, 1, tzinfo=UTC)


class Api:
    """Answers as the API would, and remembers what it was asked."""

    def __init__(self, ended: dict[str, str], pages: int = 1) -> None:
        self.ended = ended
        self.pages = pages
        self.asked: list[httpx.URL] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request.url)
        *_, saga_id = request.url.path.split("/")
        if saga_id != "sagas":
            status = self.ended.get(saga_id, "blocked")
            return httpx.Response(200, json=self.row(saga_id, status))
        page = int(request.url.params.get("cursor", "0"))
        rows = [self.row(*each) for each in self.ended.items()][page :: self.pages]
        cursor = str(page + 1) if page + 1 < self.pages else None
        return httpx.Response(200, json={"sagas": rows, "next_cursor": cursor})

    def row(self, saga_id: str, status: str) -> dict[str, Any]:
        ended = None if status == "blocked" else (NOW + timedelta(seconds=0.5)).isoformat()
        return {"saga_id": saga_id, "status": status, "started_at": NOW.isoformat(), "ended_at": ended}


async def looked(api: Api, young: int, old: int) -> Tally:
    """What is known after one look at so many orders."""
    tally = Tally(10.0, young + old)
    begun = {f"young-{number}": Begun(100.0, NOW - timedelta(milliseconds=number)) for number in range(young)}
    begun |= {f"old-{number}": Begun(80.0, NOW - timedelta(seconds=20)) for number in range(old)}
    for saga_id in begun:
        tally.accept(saga_id, 0.01)
    looks = iter([False, True])
    async with httpx.AsyncClient(transport=httpx.MockTransport(api), base_url="http://api") as http:
        await Ends(http, tally, begun, lambda: 105.0).follow(lambda: next(looks))
    return tally


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("order_saga.load.ends.EVERY", 0.0)


async def test_the_young_are_found_in_the_list_from_the_oldest_of_them_on() -> None:
    api = Api({f"young-{number}": "completed" for number in range(20)}, pages=3)
    tally = await looked(api, young=20, old=2)
    assert (tally.ended, set(tally.open)) == ({"completed": 20}, {"old-0", "old-1"})
    listed = [url for url in api.asked if url.path == "/api/v1/sagas"]
    assert len(listed) == 3
    assert {url.params["started_from"] for url in listed} == {(NOW - timedelta(milliseconds=19)).isoformat()}
    assert set(tally.open.values()) == {"blocked"}
    assert tally.to_end == [0.5] * 20


async def test_of_many_old_ones_each_has_its_turn() -> None:
    api = Api({})
    tally = await looked(api, young=11, old=60)
    asked = [url.path.rpartition("/")[2] for url in api.asked if url.path != "/api/v1/sagas"]
    assert len(asked) == 50
    assert list(tally.open)[-50:] == asked


async def test_few_are_asked_for_one_by_one() -> None:
    api = Api({"young-0": "compensated"})
    tally = await looked(api, young=3, old=0)
    assert tally.ended == {"compensated": 1}
    assert all(url.path != "/api/v1/sagas" for url in api.asked)


async def test_a_server_that_puts_us_off_is_asked_again() -> None:
    answers = iter([429, 503, 200])
    api = Api({"young-0": "completed"})

    def answer(request: httpx.Request) -> httpx.Response:
        status = next(answers)
        return api(request) if status == 200 else httpx.Response(status, headers={"Retry-After": "0"})

    tally = Tally(10.0, 1)
    tally.accept("young-0", 0.01)
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer), base_url="http://api") as http:
        await Ends(http, tally, {"young-0": Begun(100.0, None)}, lambda: 105.0).follow(lambda: not tally.open)
    assert tally.ended == {"completed": 1}
