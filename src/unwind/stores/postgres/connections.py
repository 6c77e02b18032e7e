"""Connections to a PostgreSQL server: a few that are kept open, their limits, and its errors in our words."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import asyncpg
from msgspec import Struct

from unwind.errors import RejectedError, SettingsError, UnavailableError, UnwindError

CONNECT = 5.0
"""Seconds to connect, where the URL does not say `connect_timeout`."""
ANSWER = 15.0
"""Seconds to answer a statement, seen from here; the server gives up before."""
SERVER_SETTINGS = {
    "application_name": "unwind",
    "default_transaction_isolation": "read committed",
    "statement_timeout": "12s",
    "lock_timeout": "8s",
    "idle_in_transaction_session_timeout": "30s",
    "tcp_keepalives_idle": "30",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
    "jit": "off",
    # A plan made while the tables were empty would go on reading them from end to end when they are large.
    "enable_seqscan": "off",
    "plan_cache_mode": "force_generic_plan",
}
KEEPALIVE = (("TCP_KEEPIDLE", 30), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 3))
"""Of our own end; what a system does not know is left to it."""
POOLED = "pooled"
"""Option of a URL: `?pooled=true` for a pooler in transaction mode that cannot be told by itself."""
TLS_FILES = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
OTHERS = {
    *("keepalives", "keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout"),
    *("channel_binding", "gssencmode", "fallback_application_name", "client_encoding", "pgbouncer"),
}
"""Options that other drivers take; for us they say nothing."""

LOST = (
    asyncpg.PostgresConnectionError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InterfaceError,
    # The driver's own state does not fit: the server has ended an idle connection, and the end has not arrived yet.
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
    EOFError,
)
"""The connection is gone, the server stops or starts, or has too much to do."""
STALE = (*LOST, asyncpg.ReadOnlySQLTransactionError)
"""After these no connection is trusted: the server may have gone, or handed its place to another."""
DATA = ("21", "22", "23", "54")
"""Classes of SQLSTATE that mean the data, not the database; 54: an id too long for an index."""


class Address(Struct, frozen=True):
    """A URL, understood."""

    dsn: str
    """As the driver takes it."""
    pooled: bool
    connect: float
    application_name: str | None


def parse_url(url: str) -> Address:
    """Tell our options, and those of other drivers, from the driver's. Raises ValueError when it is no URL."""
    parts = urlsplit(url)
    options = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
    pooled = options.pop(POOLED, "false").lower() in {"1", "true", "yes"}
    timeout = float(options.pop("connect_timeout", CONNECT))
    name = options.pop("application_name", None)
    kept = {option: value for option, value in options.items() if option not in OTHERS}
    dsn = parts._replace(query=urlencode(kept, quote_via=quote)).geturl()
    return Address(dsn, pooled, timeout if timeout > 0 else CONNECT, name)


def place_of(url: str) -> str:
    """Server and database of a URL, without secrets."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "PostgreSQL"
    # A password with such signs in it ends the address too early: what looks like a host may be a part of it.
    if "@" in f"{parts.path}{parts.query}{parts.fragment}":
        return "PostgreSQL"
    return f"{(parts.netloc or 'localhost').rpartition('@')[2]}/{unquote(parts.path.strip('/'))}"


async def connect(url: str, settings: Mapping[str, str] = SERVER_SETTINGS) -> asyncpg.Connection:
    """A connection with our limits; behind a pooler without what a pooler does not keep.

    Raises SettingsError for what waiting will not mend, UnavailableError when the server cannot be reached now.
    """
    place = place_of(url)
    try:
        address = parse_url(url)
        connection = None if address.pooled else await _directly(address, settings)
        if connection is None:
            connection = await _open(address, statement_cache_size=0)
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        user = urlsplit(url).username or "the current user"
        raise SettingsError(f"{place} refuses user {user}: check the user and the password in the URL") from error
    except asyncpg.InvalidCatalogNameError as error:
        raise SettingsError(f"{place}: there is no such database; create it, or name another one") from error
    except (asyncpg.ClientConfigurationError, ssl.SSLError, ValueError) as error:
        raise _misunderstood(place, error) from error
    except LOST as error:
        if type(error) is ConnectionError:  # the driver's word for a server without TLS
            raise SettingsError(f"{place} does not offer TLS; set sslmode=disable, or mend the server") from error
        if isinstance(error, FileNotFoundError) and any(f"{option}=" in url for option in TLS_FILES):
            raise SettingsError(f"{place}: a file that the URL names for TLS is not there") from error
        reason = str(error) or "no answer in time"
        raise UnavailableError(f"PostgreSQL at {place} cannot be reached: {_one_line(reason)}") from error
    except asyncpg.PostgresError as error:
        raise SettingsError(f"{place} refuses the connection: {_one_line(error)}") from error
    _keep_alive(connection)
    return connection


async def _directly(address: Address, settings: Mapping[str, str]) -> asyncpg.Connection | None:
    """None: there is a pooler in between, to be met without settings and prepared statements.

    One that shares its servers' connections out takes few settings, and gives a process number of its own invention.
    """
    named = {} if address.application_name is None else {"application_name": address.application_name}
    try:
        connection = await _open(address, server_settings={**settings, **named})
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" in str(error):
            return None
        raise
    asked = f"select 1 where pg_backend_pid() = {connection.get_server_pid():d}"
    direct = False
    try:
        direct = await connection.execute(asked) == "SELECT 1"
    finally:
        if not direct:
            connection.terminate()
    return connection if direct else None


async def _open(address: Address, **options: Any) -> asyncpg.Connection:
    return await asyncpg.connect(address.dsn, timeout=address.connect, command_timeout=ANSWER, **options)


def _misunderstood(place: str, error: Exception) -> SettingsError:
    """Not in the error's own words where they may repeat a piece of the URL, and so of the password."""
    if isinstance(error, ssl.SSLError):
        return SettingsError(f"{place}: TLS fails ({_one_line(error)}); check sslmode and sslrootcert in the URL")
    return SettingsError(f"{place}: the driver does not understand this URL; check its options")


def _keep_alive(connection: asyncpg.Connection) -> None:
    end = connection._transport.get_extra_info("socket")  # noqa: SLF001 - the driver offers no other way
    if end.family != socket.AF_UNIX:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in KEEPALIVE:
            if hasattr(socket, option):
                end.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())


@contextmanager
def translated() -> Iterator[None]:
    """Turn the driver's errors into ours."""
    try:
        yield
    except LOST as error:
        broken = isinstance(error, asyncpg.InternalClientError)
        reason = "the connection has ended" if broken else _one_line(error) or "no answer in time"
        raise UnavailableError(f"the database cannot answer: {reason}; a write may be stored or not") from error
    except (UnicodeEncodeError, OverflowError) as error:
        raise RejectedError(f"the database refuses this data: {error}") from error
    except asyncpg.PostgresError as error:
        raise _told_apart(error) from error


def _told_apart(error: asyncpg.PostgresError) -> UnwindError:
    if (error.sqlstate or "")[:2] in DATA:
        return RejectedError(f"the database refuses this data: {_one_line(error)}")
    return UnavailableError(f"the database cannot answer: {_one_line(error)}")


class Pool:
    """Up to `size` connections, opened when needed, kept until they break."""

    def __init__(self, url: str, size: int, settings: Mapping[str, str] = SERVER_SETTINGS) -> None:
        """Nothing is opened yet."""
        self._url = url
        self._settings = settings
        self._free: list[asyncpg.Connection] = []
        self._room = asyncio.Semaphore(size)
        self._closed = False
        self._idle = asyncio.Event()
        self._used = 0

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[asyncpg.Connection]:
        """A connection for a while. One that may be broken is not kept. Raises UnavailableError."""
        if self._closed:
            raise UnavailableError("the store is closed")
        self._used += 1
        try:
            async with self._room:
                connection = await self._take()
                sound = False
                try:
                    yield connection
                    sound = True
                except STALE:
                    self._drop_free()
                    raise
                except asyncpg.PostgresError:
                    # What the server refuses leaves a connection as it was.
                    sound = True
                    raise
                finally:
                    self._free.append(connection) if sound else connection.terminate()
        finally:
            self._used -= 1
            if not self._used:
                self._idle.set()

    async def _take(self) -> asyncpg.Connection:
        while self._free:
            connection = self._free.pop()
            if not connection.is_closed():
                return connection
        try:
            return await connect(self._url, self._settings)
        except SettingsError as error:
            # It was right when the process began: somebody is changing it, or has to mend it.
            raise UnavailableError(str(error)) from error

    def _drop_free(self) -> None:
        while self._free:
            self._free.pop().terminate()

    async def close(self) -> None:
        """Let what was asked before be answered, then let go."""
        self._closed = True
        while self._used:
            self._idle.clear()
            await self._idle.wait()
        while self._free:
            connection = self._free.pop()
            connection.terminate() if connection.is_closed() else await _goodbye(connection)


async def _goodbye(connection: asyncpg.Connection) -> None:
    try:
        await connection.close(timeout=CONNECT)
    except (*LOST, asyncpg.PostgresError):
        connection.terminate()
