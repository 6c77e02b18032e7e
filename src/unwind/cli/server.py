"""A process's HTTP server: a socket bound before anything is opened, uvicorn on it, our own say about its end."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from unwind.cli.entrance import Application, Entrance
from unwind.cli.heads import BoundedHeads
from unwind.errors import SettingsError
from unwind.settings import Settings

_DRAIN = 10
"""Seconds that requests in hand have to end."""
_BACKLOG = 2048
_FAULTS_OF_THE_PORT = {errno.EADDRINUSE, errno.EACCES}


class Server:
    """Answers on a socket from the beginning; what an application answers once it is `open`."""

    def __init__(self, host: str, listener: socket.socket) -> None:
        """The socket must be bound and listening."""
        self._listener = listener
        self._entrance = Entrance()
        self._uvicorn = _Uvicorn(
            uvicorn.Config(
                self._entrance,
                http=BoundedHeads,
                interface="asgi3",
                lifespan="off",
                log_config=None,
                access_log=False,
                ws="none",
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_DRAIN,
            )
        )
        self._serving: asyncio.Task[None] | None = None
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http://{shown}:{listener.getsockname()[1]}"

    @asynccontextmanager
    async def answering(self, on_end: Callable[[], None]) -> AsyncIterator[None]:
        """Answer meanwhile; `on_end` is called when that has ended, whatever ended it."""
        self._serving = asyncio.create_task(self._uvicorn.serve(sockets=[self._listener]))
        self._serving.add_done_callback(lambda _: on_end())
        try:
            yield
        finally:
            await self.finish()

    def open(self, app: Application) -> None:
        """Let the application answer."""
        self._entrance.app = app

    async def finish(self) -> None:
        """Admit no more, and wait until what was admitted has been answered."""
        self._uvicorn.should_exit = True
        if self._serving is not None:
            await self._serving


class _Uvicorn(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not here: signals end the process in its own order, see `unwind.cli.serve`."""
        yield


@contextmanager
def listen(settings: Settings, port: int) -> Iterator[Server]:
    """A server on a socket bound to where the settings say. Raises SettingsError when that cannot be listened on."""
    variable = settings.variables["host"]
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise SettingsError(f"{variable}: {settings.host!r:.80} is not an address of this machine") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            raise _not_listened_on(settings.host, port, variable, error) from error
        yield Server(settings.host, listener)


def _not_listened_on(host: str, port: int, variable: str, error: OSError) -> SettingsError:
    if error.errno in _FAULTS_OF_THE_PORT:
        return SettingsError(f"SERVER_PORT: {host} port {port} cannot be listened on: {error.strerror}; choose another")
    return SettingsError(f"{variable}: {host!r:.80} cannot be listened on: {error.strerror}")
