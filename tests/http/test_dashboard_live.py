"""Live pages: the stream tells that there is news, resumes where it broke off, and ends with the process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from types import MappingProxyType
from typing import Any

import pytest
from tests.http.conftest import SLOW, Shop
from tests.http.pages import page_of
from tests.http.test_sagas import UNKNOWN, placed

from unwind.dashboard.live import EVERY, MOST, Live
from unwind.errors import OverloadedError, UnavailableError


class Stream:
    """One open stream, as a browser's."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._chunks: asyncio.Queue[str] = asyncio.Queue()
        self._text = ""

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self._chunks.put_nowait(message["body"].decode())

    async def block(self) -> str:
        """What comes next, up to an empty line."""
        while "\n\n" not in self._text:
            self._text += await self._chunks.get()
        block, _, self._text = self._text.partition("\n\n")
        return block

    async def news(self) -> str:
        """The id of the next event."""
        while not (block := await self.block()).startswith("id: "):
            assert block.startswith(("retry: ", ":"))
        identity = block.partition("\n")[0].removeprefix("id: ")
        assert block == f"id: {identity}\nevent: news\ndata: {identity}"
        return identity


@asynccontextmanager
async def listening(shop: Shop, address: str, last: str = "") -> AsyncIterator[Stream]:
    stream, gone = Stream(), asyncio.Event()
    path, _, query = address.partition("?")
    headers = [(b"host", b"localhost"), *([(b"last-event-id", last.encode())] if last else [])]

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query.encode(),
        "headers": headers,
        "client": ("127.0.0.1", 1),
        "server": ("localhost", 80),
    }
    task = asyncio.create_task(shop.app(scope, receive, stream.send))
    try:
        yield stream
    finally:
        gone.set()
        await asyncio.wait_for(task, 10)


async def test_a_saga_is_followed_to_its_end_and_at_most_twice_a_second(shop: Shop) -> None:
    saga_id = await placed(shop, SLOW)
    clock = asyncio.get_running_loop().time
    async with listening(shop, f"/live/sagas/{saga_id}?since=0") as stream:
        first = await stream.news()
        begun, told = clock(), [int(first)]
        while (await shop.saga(saga_id))["status"] != "completed":
            told.append(int(await stream.news()))
        assert stream.status == 200
        assert stream.headers["content-type"].startswith("text/event-stream")
        assert stream.headers["cache-control"] == "no-store"
    assert told == sorted(set(told))
    assert len(told) - 1 <= (clock() - begun) / EVERY + 1


async def test_a_lost_stream_is_resumed_where_it_broke_off(shop: Shop) -> None:
    saga_id = await placed(shop)
    version = (await shop.until(saga_id, "completed"))["version"]
    async with listening(shop, f"/live/sagas/{saga_id}?since=1", last="2") as stream:
        assert await stream.news() == str(version)
    async with listening(shop, f"/live/sagas/{saga_id}?since=1", last=str(version)) as stream:
        assert await stream.block() == "retry: 2000"


@pytest.mark.parametrize("page", ["/", "/sagas", "/sagas?status=running&definition=order_saga"])
async def test_the_overview_and_lists_tell_of_a_new_saga(shop: Shop, page: str) -> None:
    shown = page_of(await shop.http.get(page)).main
    async with listening(shop, shown["data-live"], last=shown["data-mark"]) as stream:
        assert await stream.block() == "retry: 2000"
        await placed(shop, SLOW)
        assert await stream.news() != shown["data-mark"]


async def test_there_is_nothing_live_about_what_is_not_there(shop: Shop) -> None:
    page_of(await shop.http.get(f"/live/sagas/{UNKNOWN}"), 404)
    page_of(await shop.http.get("/live/sagas?status=odd"), 422)


# ---------------------------------------------------------------------------------------------------- the streams alone


class Asked:
    """What a stream needs of a request."""

    headers: Mapping[str, str] = MappingProxyType({})
    query_params: Mapping[str, str] = MappingProxyType({})


def stream_of(live: Live, mark: Callable[[], Any]) -> AsyncIterator[str]:
    return live._events("", "1", mark)


async def test_all_streams_end_when_the_process_stops() -> None:
    async def mark() -> str:
        return "1"

    live = Live()
    stream = stream_of(live, mark)
    assert (await anext(stream)).startswith("retry: ")
    assert (await anext(stream)).startswith("id: 1\n")
    live.stop()
    assert [block async for block in stream] == []


async def test_a_store_that_does_not_answer_is_waited_for() -> None:
    answers: Iterator[str | UnavailableError] = iter([UnavailableError("down"), "2"])

    async def mark() -> str:
        answer = next(answers)
        if isinstance(answer, UnavailableError):
            raise answer
        return answer

    stream = stream_of(Live(), mark)
    blocks = [await anext(stream) for _ in range(4)]
    assert blocks[2] == ": the store does not answer\n\n"
    assert blocks[3].startswith("id: 2\n")


async def test_too_many_streams_are_refused_and_closed_ones_make_room() -> None:
    async def mark() -> str:
        return "1"

    live, asked = Live(), Asked()
    streams = [stream_of(live, mark) for _ in range(MOST)]
    for stream in streams:
        await anext(stream)
    with pytest.raises(OverloadedError):
        await live.stream(asked, mark)  # type: ignore[arg-type]
    await streams[0].aclose()  # type: ignore[attr-defined]
    await live.stream(asked, mark)  # type: ignore[arg-type]


async def test_those_who_look_at_the_same_page_look_together() -> None:
    looks = 0

    async def mark() -> str:
        nonlocal looks
        looks += 1
        await asyncio.sleep(0)
        return str(looks)

    live = Live()
    both = set(await asyncio.gather(live._shared("a", mark), live._shared("a", mark)))
    assert both == {"1"}
    assert await live._shared("b", mark) == "2"
    assert await live._shared("a", mark) == "1"


async def test_a_look_that_failed_is_told_to_all_and_to_nobody_who_has_gone() -> None:
    async def mark() -> str:
        await asyncio.sleep(0)
        raise UnavailableError("down")

    live = Live()
    found = await asyncio.gather(live._shared("a", mark), live._shared("a", mark), return_exceptions=True)
    assert [type(each) for each in found] == [UnavailableError, UnavailableError]
    gone = asyncio.create_task(live._shared("b", mark))
    await asyncio.sleep(0)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
