"""Serves an application over HTTP until told to stop: admits no more, finishes what is in hand, then goes."""

import asyncio
import ipaddress
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, contextmanager

import structlog
import uvicorn
from msgspec import Struct

from unwind.cli.logs import configure_logs
from unwind.cli.terminal import FAILED, complain
from unwind.errors import SettingsError
from unwind.runtime.tuning import tune_process
from unwind.settings import Settings, read_settings

log = structlog.get_logger("unwind.serve")

_DRAIN = 10
"""Seconds that requests in hand have to end."""
_BACKLOG = 2048


class Served(Struct, frozen=True):
    """An application that runs; the process ends when `failed` is resolved."""

    app: Callable[..., Awaitable[None]]
    """ASGI."""
    failed: "asyncio.Future[BaseException]"


Application = Callable[[Settings], AbstractAsyncContextManager[Served]]


def serve(program: str, environment: Mapping[str, str], application: Application) -> None:
    """Serve until SIGTERM or SIGINT. Settings that make no sense are told in one line; exits with 2 then.

    Exits with 1 when the application cannot start or fails.
    """
    with complain(program):
        settings = read_settings(environment)
        configure_logs(settings)
        with _listen(settings) as listener, asyncio.Runner(loop_factory=_loop_factory()) as runner:
            failed = runner.run(_serve(program, settings, application, listener))
    if failed:
        raise SystemExit(FAILED)


async def _serve(program: str, settings: Settings, application: Application, listener: socket.socket) -> bool:
    """Whether the application failed."""
    server = _Server(program, settings, listener)
    with server.stopped_by_signals():
        async with application(settings) as served:
            server.config.app = served.app
            served.failed.add_done_callback(server.stop)
            await server.serve(sockets=[listener])
            return served.failed.done()


class _Server(uvicorn.Server):
    """uvicorn, with our own say about signals and about what happens when it is ready."""

    def __init__(self, program: str, settings: Settings, listener: socket.socket) -> None:
        super().__init__(
            uvicorn.Config(
                _not_yet,
                lifespan="off",
                log_config=None,
                access_log=False,
                ws="none",
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_DRAIN,
            )
        )
        self._program = program
        self._host = settings.host
        self._port = listener.getsockname()[1]

    def stop(self, *_: object) -> None:
        self.should_exit = True

    @contextmanager
    def stopped_by_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the serving, not the process."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Not here: uvicorn would raise them anew when it has stopped."""
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.should_exit:
            return
        tune_process()
        if not is_loopback(self._host):
            log.warning("open_to_the_network", host=self._host, advice="whoever reaches this address may give orders")
        host = f"[{self._host}]" if ":" in self._host else self._host
        address = f"http://{host}:{self._port}"
        print(f"{self._program} is ready at {address} (documentation: {address}/docs)", flush=True)


async def _not_yet(*_: object) -> None:
    raise AssertionError("served before the application was there")


@contextmanager
def _listen(settings: Settings) -> Iterator[socket.socket]:
    """A socket bound to where the settings say, so that a port in use is found before anything is opened."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (socket.gaierror, UnicodeError) as error:
        raise SettingsError(f"UNWIND_HOST: {settings.host!r:.80} is not an address of this machine") from error
    with socket.socket(family, kind, protocol) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(_BACKLOG)
        except OSError as error:
            where = f"{settings.host} port {settings.port}"
            raise SettingsError(
                f"SERVER_PORT: {where} cannot be listened on: {error.strerror}; choose another"
            ) from error
        yield listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches it."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
