"""The connection to NATS. Lost, it is made again, for ever, and its listeners with it; what is sent meanwhile fails."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from random import random
from urllib.parse import SplitResult, unquote, urlsplit

import nats.errors
import structlog
from msgspec import Struct
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from unwind.errors import SettingsError, UnavailableError

log = structlog.get_logger("unwind.nats")

PATIENCE = 1.0
"""Seconds for one request, or for what is sent to leave a full buffer."""
_CONNECTING = 5.0
_LOOK = 1.0
"""Seconds between two looks at a connection that has not said that it is lost."""
_PING = 2
"""Seconds; a server that leaves two of them unanswered is lost."""
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0
_UNSENT = 4 * 1024 * 1024
"""Bytes that may wait to be sent."""
_FORM = "use nats://user:password@host:4222, several separated by commas"
_REFUSALS = ("authorization violation", "user authentication", "authentication expired", "authentication revoked")

Handler = Callable[[Msg], None]

# The last ones are how the library fails when a connection ends under it.
_FAILURES = (nats.errors.Error, OSError, EOFError, ValueError, AttributeError, AssertionError, RuntimeError)


class Target(Struct, frozen=True):
    """Where NATS is, and who comes."""

    servers: tuple[str, ...]
    """URLs without credentials."""
    user: str | None = None
    password: str | None = None
    token: str | None = None

    @property
    def place(self) -> str:
        """As it is written in messages."""
        return ",".join(urlsplit(server).netloc for server in self.servers)


def parse_target(url: str) -> Target:
    """One URL, or several of a cluster separated by commas; the first credentials count. Raises SettingsError."""
    try:
        parts = [urlsplit(each.strip()) for each in url.split(",")]
        servers = tuple(f"{each.scheme}://{_host(each)}:{each.port or 4222}" for each in parts)
    except ValueError as error:
        raise SettingsError(f"NATS_URL: this is not understood; {_FORM}") from error
    if any(each.scheme not in {"nats", "tls"} or not each.hostname for each in parts):
        raise SettingsError(f"NATS_URL: this is not understood; {_FORM}")
    named = next((each for each in parts if each.username), None)
    if named is None:
        return Target(servers)
    user = unquote(named.username or "")
    if named.password is None:
        return Target(servers, token=user)
    return Target(servers, user, unquote(named.password))


def _host(parts: SplitResult) -> str:
    host = parts.hostname or ""
    return f"[{host}]" if ":" in host else host


class Listener:
    """A subject that is listened to, on whatever connection there is."""

    def __init__(self, subject: str, handler: Handler) -> None:
        """`handler` must not raise."""
        self.subject = subject
        self._handler = handler
        self._subscription: Subscription | None = None

    async def attach(self, client: Client) -> None:
        """Listen on this connection."""
        self._subscription = await client.subscribe(self.subject, cb=self._receive)

    async def detach(self) -> None:
        """Listen no more, once everything that the server has sent is handled."""
        subscription, self._subscription = self._subscription, None
        if subscription is not None:
            with suppress(*_FAILURES):  # then the connection is lost, and nothing comes
                async with asyncio.timeout(PATIENCE):
                    await subscription.drain()  # type: ignore[no-untyped-call]

    async def _receive(self, message: Msg) -> None:
        self._handler(message)


class Link:
    """Sends, asks and listens."""

    def __init__(self, target: Target) -> None:
        """Connects to nothing yet."""
        self.place = target.place
        self.max_payload = 0
        """Bytes of headers and body together that the server takes, by what it last said."""
        self._target = target
        self._client: Client | None = None
        self._lost = asyncio.Event()
        self._listeners: dict[str, Listener] = {}
        self._on_connect: list[Callable[[], None]] = []
        self._keeper: asyncio.Task[None] | None = None
        self._complaint: Exception | None = None

    @classmethod
    async def open(cls, url: str) -> "Link":
        """Connect. Raises SettingsError (the URL, the credentials, the certificate) and UnavailableError."""
        link = cls(parse_target(url))
        link._client = await link._connect()
        link._keeper = asyncio.create_task(link._keep(), name="NATS connection")
        return link

    @property
    def connected(self) -> bool:
        """Whether there is a server now."""
        return self._client is not None and self._client.is_connected

    def on_connect(self, call: Callable[[], None]) -> None:
        """`call` after each later connection, once all listeners listen."""
        self._on_connect.append(call)

    def forget(self, call: Callable[[], None]) -> None:
        """Call it no more."""
        self._on_connect.remove(call)

    async def listen(self, subject: str, handler: Handler) -> Listener:
        """From now on, and on every later connection. Raises UnavailableError."""
        listener = Listener(subject, handler)
        try:
            await listener.attach(self._connected())
        except _FAILURES as error:
            raise self._unavailable(error) from error
        self._listeners[subject] = listener
        return listener

    async def leave(self, listener: Listener) -> None:
        """Listen no more; what the server has sent until now is still handled."""
        self._listeners.pop(listener.subject, None)
        await listener.detach()

    async def send(self, subject: str, data: bytes, reply: str = "", headers: Mapping[str, str] | None = None) -> None:
        """Send without waiting for anything but a full buffer. Raises UnavailableError."""
        client = self._connected()
        if client.pending_data_size > _UNSENT:
            raise UnavailableError(f"NATS at {self.place} does not read what is sent to it")
        try:
            await client.publish(subject, data, reply, None if headers is None else dict(headers))
        except _FAILURES as error:
            raise self._unavailable(error) from error

    async def ask(self, subject: str, data: bytes) -> Msg | None:
        """The answer; None: nobody is there to answer. Raises UnavailableError, within a second."""
        try:
            return await self._connected().request(subject, data, timeout=PATIENCE)
        except nats.errors.NoRespondersError:
            return None
        except nats.errors.TimeoutError as error:
            raise UnavailableError(
                f"NATS at {self.place} does not answer within {PATIENCE:g} s{self._explained()}"
            ) from error
        except _FAILURES as error:
            raise self._unavailable(error) from error

    async def close(self) -> None:
        """Send what is waiting and let go."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
        client, self._client = self._client, None
        await _close(client)

    # ----------------------------------------------------------------------------------------------------- connections

    async def _keep(self) -> None:
        while True:
            await self._until_lost()
            log.warning("bus_lost", place=self.place, error=self._explained().removeprefix(": "))
            client, self._client = self._client, None
            await _close(client)
            await self._reconnect()
            log.info("bus_back", place=self.place)
            for call in self._on_connect:
                call()

    async def _until_lost(self) -> None:
        """The library does not always tell, so it is also looked at."""
        while self.connected and not self._lost.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_LOOK):
                    await self._lost.wait()

    async def _reconnect(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            await asyncio.sleep(pause * (0.5 + random()))  # noqa: S311 - so that not all come back at once
            pause = min(2 * pause, _LONGEST_PAUSE)
            try:
                client = await self._connect()
            except (UnavailableError, SettingsError) as error:
                log.debug("bus_still_lost", error=str(error))
                continue
            try:
                for listener in self._listeners.values():
                    await listener.attach(client)
            except _FAILURES:
                await _close(client)
                continue
            self._client = client
            return

    async def _connect(self) -> Client:
        client, target = Client(), self._target
        self._lost.clear()
        self._complaint = None

        async def lost() -> None:
            if self._client is client:
                self._lost.set()

        async def complain(error: Exception) -> None:
            self._complaint = error
            if self._client is client and client.is_connected:
                log.warning("nats_error", place=self.place, error=str(error))

        try:
            async with AsyncExitStack() as stack, asyncio.timeout(_CONNECTING):
                stack.push_async_callback(_close, client)
                # The library's own reconnecting is not used: it buffers without end and forgets what was pulled.
                await client.connect(
                    list(target.servers),
                    user=target.user,
                    password=target.password,
                    token=target.token,
                    name="unwind",
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,
                    ping_interval=_PING,
                    error_cb=complain,
                    disconnected_cb=lost,
                    closed_cb=lost,
                    flush_timeout=PATIENCE,
                )
                stack.pop_all()
        except _FAILURES as error:
            reason = self._complaint if isinstance(error, nats.errors.NoServersError) else error
            raise self._failure(reason or error) from error
        self.max_payload = client.max_payload
        return client

    def _failure(self, error: Exception) -> Exception:
        text = str(error)
        if any(refusal in text.lower() for refusal in _REFUSALS):
            return SettingsError(f"NATS_URL: NATS at {self.place} refuses user, password or token; mend them")
        if isinstance(error, ssl.SSLCertVerificationError):
            return SettingsError(f"NATS_URL: the certificate of {self.place} is not trusted: {error.verify_message}")
        return UnavailableError(f"NATS at {self.place} cannot be reached: {text or 'no answer in time'}")

    def _connected(self) -> Client:
        client = self._client
        if client is None or not client.is_connected:
            raise UnavailableError(f"NATS at {self.place} cannot be reached now")
        return client

    def _unavailable(self, error: Exception) -> UnavailableError:
        return UnavailableError(f"NATS at {self.place} cannot be reached now: {str(error) or type(error).__name__}")

    def _explained(self) -> str:
        return f": {self._complaint}" if self._complaint is not None else ""


async def _close(client: Client | None) -> None:
    """Whatever state it is in."""
    if client is not None:
        with suppress(*_FAILURES):
            async with asyncio.timeout(PATIENCE):
                await client.close()
        reading = client._reading_task  # noqa: SLF001 - it may have failed in closing, and nobody else would ask
        if reading is not None and reading.done() and not reading.cancelled():
            reading.exception()
