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
_QUIET = 30
"""Looks without news after which a comment shows that the stream lives."""

Mark = Callable[[], Awaitable[str]]
"""Names what a page would show now: another text, another page. Without line ends."""


class Live:
    """The open streams of a process."""

    def __init__(self) -> None:
        self._stopped = asyncio.Event()
        self._open = 0

    def stop(self) -> None:
        """End every stream: the process is about to stop, and waits for what is open."""
        self._stopped.set()

    async def stream(self, request: AnyRequest, mark: Mark) -> Stream:
        """News for a page that shows what `since`, or the last event's id, names.

        Raises what `mark` raises, OverloadedError when too many are open.
        """
        if self._open >= MOST:
            raise OverloadedError(f"{MOST} pages are live already; this one is not, load it again to see what is new")
        seen: str = request.headers.get("last-event-id") or request.query_params.get("since") or ""
        first = await mark()
        headers = {**HEADERS, "X-Accel-Buffering": "no"}
        return Stream(self._events(seen, first, mark), media_type="text/event-stream", headers=headers)

    async def _events(self, seen: str, now: str, mark: Mark) -> AsyncIterator[str]:
        self._open += 1
        try:
            yield "retry: 2000\n\n"
            quiet = 0
            while not self._stopped.is_set():
                quiet += 1
                if now != seen:
                    yield f"id: {now}\nevent: news\ndata: {now}\n\n"
                    seen, quiet = now, 0
                elif quiet >= _QUIET:
                    yield ": nothing new\n\n"
                    quiet = 0
                await self._pause()
                try:
                    now = await mark()
                except UnavailableError:
                    yield ": the store does not answer\n\n"
        finally:
            self._open -= 1

    async def _pause(self) -> None:
        try:
            async with asyncio.timeout(EVERY):
                await self._stopped.wait()
        except TimeoutError:
            return


TheLive = NamedDependency[SkipValidation[Live]]
