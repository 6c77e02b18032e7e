"""Runs an application until told to stop: it then admits no more, finishes what is in hand, and goes."""

import asyncio
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, ExitStack, contextmanager
from typing import TYPE_CHECKING

from msgspec import Struct

from unwind.cli.entrance import Application as Asgi
from unwind.cli.logs import configure_logs
from unwind.cli.terminal import FAILED, complain
from unwind.runtime.tuning import tune_process
from unwind.settings import Database, Settings, name_of, read_settings

if TYPE_CHECKING:
    from unwind.cli.server import Server

_STOPS = (signal.SIGTERM, signal.SIGINT)


def _nothing() -> None:
    """There is nothing to be told."""


class Served(Struct, frozen=True):
    """An application that runs; the process ends when `failed` is resolved."""

    app: Asgi
    """Answers, if the process listens."""
    failed: "asyncio.Future[BaseException]"
    page: str = "documentation: {address}/docs"
    """Told when it is ready."""
    on_stop: Callable[[], None] = _nothing
    """Called before the last requests are waited for: what stays open by itself is to end."""
    database: Database | None = None
    """Told too, without its password: where it is one among several that could be meant."""


Application = Callable[[Settings], AbstractAsyncContextManager[Served]]


def serve(program: str, environment: Mapping[str, str], application: Application, *, port: int | None = 8080) -> None:
    """Run until SIGTERM or SIGINT; these end it also while it still starts.

    `port` is where to listen unless SERVER_PORT says; None: nowhere then. What goes wrong at the start is told in one
    line; exits with 2 for settings that make no sense, with 1 when the application cannot start or fails.
    """
    with complain(program), ExitStack() as stack:
        settings = read_settings(environment)
        configure_logs(settings)
        chosen = port if settings.port is None else settings.port
        server = None
        if chosen is not None:
            from unwind.cli.server import listen

            server = stack.enter_context(listen(settings, chosen))
        runner = stack.enter_context(asyncio.Runner(loop_factory=_loop_factory()))
        failed = runner.run(_run(program, settings, application, server))
    if failed:
        raise SystemExit(FAILED)


async def _run(program: str, settings: Settings, application: Application, server: "Server | None") -> bool:
    """Whether the application failed."""
    stop = asyncio.Event()
    task = asyncio.current_task()
    started = False

    def told_to_stop() -> None:
        if task is not None and not started and not stop.is_set():
            task.cancel()
        stop.set()

    try:
        async with AsyncExitStack() as stack:
            stack.enter_context(_signals(told_to_stop))
            if server is not None:
                await stack.enter_async_context(server.answering(stop.set))
            served = await stack.enter_async_context(application(settings))
            started = True
            served.failed.add_done_callback(lambda _: stop.set())
            tune_process()
            _announce(program, served, server)
            await stop.wait()
            served.on_stop()
            if server is not None:
                await server.finish()
            return served.failed.done()
    except asyncio.CancelledError:
        if not stop.is_set():
            raise
        return False


def _announce(program: str, served: Served, server: "Server | None") -> None:
    where, more = "", []
    if server is not None:
        server.open(served.app)
        where = f" at {server.address}"
        more.append(served.page.format(address=server.address))
    if served.database is not None:
        more.append(f"database: {name_of(served.database)}")
    told = f" ({', '.join(more)})" if more else ""
    print(f"{program} is ready{where}{told}", flush=True)


@contextmanager
def _signals(told_to_stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT end the work, not the process."""
    loop = asyncio.get_running_loop()
    for number in _STOPS:
        loop.add_signal_handler(number, told_to_stop)
    try:
        yield
    finally:
        for number in _STOPS:
            loop.remove_signal_handler(number)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
