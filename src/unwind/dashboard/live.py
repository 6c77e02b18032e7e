"""Live pages: a stream of server-sent events for each open page, which says that there is something new, and no more.

The page is then loaded again by our script. So a lost stream costs nothing but time: it is resumed with the id of the
last event, which names what the page shows, and whatever has changed since is told at once.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from litestar.di import NamedDependency
from litestar.params import SkipValidation
from litestar.response import Stream

from unwind.dashboard.pages import HEADERS
from unwind.dashboard.requests import AnyRequest
from unwind.errors import OverloadedError, UnavailableError

EVERY = 0.5
"""Seconds between two looks: at most so often a page is told of news."""
MOST = 100
"""Streams that one process keeps open."""
_SPARED = 10
"""Looks that take long are made so much less often: a stream takes no more than so small a part of the time."""
_QUIET = 30
"""Looks without news after which a comment shows that the stream lives."""

Mark = Callable[[], Awaitable[str]]
"""Names what a page would show now: another text, another page. Without line ends."""


class Live:
    """The open streams of a process."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._open = 0
        self._looks: dict[str, tuple[float, asyncio.Task[str]]] = {}

    def stop(self) -> None:
        """End every stream: the process is about to stop, and waits for what is open."""
        self._stopped.set()

    async def stream(self, request: AnyRequest, mark: Mark, shared: str = "") -> Stream:
        """News for a page that shows what `since`, or the last event's id, names.

        Streams of the same `shared` name look together.

        Raises what `mark` raises, OverloadedError when too many are open.
        """
        if self._open >= MOST:
            raise OverloadedError(f"{MOST} pages are live already; this one is not, load it again to see what is new")

        async def look() -> str:
            return await (self._shared(shared, mark) if shared else mark())

        seen: str = request.headers.get("last-event-id") or request.query_params.get("since") or ""
        first = await look()
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return Stream(self._events(seen, first, look), media_type="text/event-stream", headers=headers)

    async def _events(self, seen: str, now: str, mark: Mark) -> AsyncIterator[str]:
        self._open += 1
        clock = asyncio.get_running_loop().time
        try:
            yield "retry: 2000\n\n"
            quiet, took = 0, 0.0
            while not self._stopped.is_set():
                quiet += 1
                if now != seen:
                    yield f"id: {now}\nevent: news\ndata: {now}\n\n"
                    seen, quiet = now, 0
                elif quiet >= _QUIET:
                    yield ": nothing new\n\n"
                    quiet = 0
                await self._pause(max(EVERY, took * _SPARED))
                begun = clock()
                try:
                    now = await mark()
                except UnavailableError:
                    yield ": the store does not answer\n\n"
                took = clock() - begun
        finally:
            self._open -= 1

    async def _shared(self, page: str, mark: Mark) -> str:
        """What the page would show, asked once for all who look at it at about the same time."""
        now = asyncio.get_running_loop().time()
        at, asked = self._looks.get(page, (0.0, None))
        if asked is None or (asked.done() and now - at >= EVERY):
            for old in [each for each, (then, task) in self._looks.items() if task.done() and now - then >= EVERY]:
                del self._looks[old]
            asked = asyncio.create_task(_text(mark))
            asked.add_done_callback(_looked_at)
            self._looks[page] = (now, asked)
        return await asyncio.shield(asked)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopped.wait()
        except TimeoutError:
            return


async def _text(mark: Mark) -> str:
    return await mark()


def _looked_at(asked: asyncio.Task[str]) -> None:
    """Whoever asked may have gone: then nobody else looks at what was raised."""
    if not asked.cancelled():
        asked.exception()


TheLive = NamedDependency[SkipValidation[Live]]
