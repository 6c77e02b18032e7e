"""One way to talk to Redis: raw commands, a bound on every call, and errors that say whose fault they are.

Retries are the callers' business: a command whose answer was lost may have been done.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from hashlib import sha1
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct
from redis.asyncio import BlockingConnectionPool, Connection, Redis, SSLConnection
from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    NoPermissionError,
    NoScriptError,
    RedisError,
)

from unwind.errors import SettingsError, UnavailableError

Argument = str | bytes | int
PATIENCE = 1.0
"""Seconds for one call, connecting included."""
OLDEST = (6, 2)
"""The first release with everything that is used here (XAUTOCLAIM)."""
_FORM = "use host:port, host:port/database or rediss://user@host:port"
_MAX_DATABASE = 1_000_000


class Address(Struct, frozen=True):
    """Where Redis is. There is no password in it, so it may be shown."""

    host: str
    port: int = 6379
    database: int = 0
    user: str | None = None
    encrypted: bool = False

    def __str__(self) -> str:
        """As it is written in messages."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}" + (f"/{self.database}" if self.database else "")


class Script(Struct, frozen=True):
    """A Lua script and the name under which the server keeps it."""

    text: str
    sha: str

    @classmethod
    def of(cls, text: str) -> "Script":
        """The script of this text."""
        return cls(text, sha1(text.encode(), usedforsecurity=False).hexdigest())


def parse_address(text: str) -> Address:
    """An address as users write it. Raises SettingsError."""
    try:
        parts = urlsplit(text if "://" in text else f"redis://{text}")
        database = parts.path.strip("/") or "0"
        if (
            parts.scheme not in {"redis", "rediss"}
            or not parts.hostname
            or parts.query
            or parts.fragment
            or not (database.isascii() and database.isdigit() and int(database) < _MAX_DATABASE)
        ):
            raise SettingsError(f"REDIS_ADDR: this is not understood; {_FORM}")
        port = 6379 if parts.port is None else parts.port
    except ValueError as error:
        raise SettingsError(f"REDIS_ADDR: this is not understood; {_FORM}") from error
    if parts.password:
        raise SettingsError(f"REDIS_ADDR: it has a password in it; put that into REDIS_PASSWORD, and {_FORM}")
    return Address(parts.hostname, port, int(database), parts.username or None, parts.scheme == "rediss")


class RedisClient:
    """A few connections to one Redis, made when they are needed and again when they are lost."""

    def __init__(
        self, address: str | Address, password: str = "", *, connections: int = 16, patience: float = PATIENCE
    ) -> None:
        """Connects to nothing yet. `patience` is in seconds. Raises SettingsError: the address makes no sense."""
        self.address = parse_address(address) if isinstance(address, str) else address
        self._password = password
        self._patience = patience
        pool = BlockingConnectionPool(
            connection_class=SSLConnection if self.address.encrypted else Connection,
            max_connections=connections,
            timeout=None,  # the patience of the call bounds the wait
            host=self.address.host,
            port=self.address.port,
            db=self.address.database,
            username=self.address.user,
            password=password or None,
            socket_timeout=None,
            socket_connect_timeout=patience,
            socket_keepalive=True,
            protocol=2,
        )
        self._redis = Redis.from_pool(pool)
        # Replies as they come: the library's own reading of them does not know every form of every command.
        self._redis.response_callbacks.clear()
        self._execute: Callable[..., Awaitable[Any]] = self._redis.execute_command
        self._closed = False

    def another(self, *, connections: int, patience: float = PATIENCE) -> "RedisClient":
        """Connections of their own to the same Redis."""
        return RedisClient(self.address, self._password, connections=connections, patience=patience)

    async def call(self, *command: Argument) -> Any:
        """The raw reply. Raises UnavailableError: no answer in time (it may have been done), or an error as answer."""
        if self._closed:
            raise UnavailableError(f"the connection to Redis at {self.address} is closed; the program is stopping")
        try:
            async with asyncio.timeout(self._patience):
                return await self._execute(*command)
        except TimeoutError as error:
            raise UnavailableError(f"Redis at {self.address} has not answered within {self._patience:g} s") from error
        except (RedisError, OSError) as error:
            raise UnavailableError(f"Redis at {self.address}: {error}") from error

    async def run(self, script: Script, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script, by its name where the server has it. Raises as `call`."""
        try:
            return await self.call("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except UnavailableError as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
            return await self.call("EVAL", script.text, len(keys), *keys, *arguments)

    async def check(self) -> None:
        """See that this Redis can be worked with.

        Raises SettingsError (wrong password, too old: waiting will not mend it) and UnavailableError.
        """
        try:
            about = bytes(await self.call("INFO", "server"))
        except UnavailableError as error:
            self._check_rights(error)
            raise
        check_release(about)

    def _check_rights(self, error: UnavailableError) -> None:
        cause = error.__cause__
        if not isinstance(cause, AuthenticationError | AuthenticationWrongNumberOfArgsError | NoPermissionError):
            return
        if isinstance(cause, NoPermissionError):
            raise SettingsError(f"REDIS_ADDR: Redis at {self.address} forbids this user what is needed: {cause}")
        if not self._password:
            raise SettingsError(f"REDIS_PASSWORD: Redis at {self.address} asks for a password; set it") from None
        raise SettingsError(f"REDIS_PASSWORD: Redis at {self.address} refuses it: {cause}") from None

    async def close(self) -> None:
        """Let go of all connections."""
        self._closed = True
        await self._redis.aclose()


def check_release(about: bytes) -> None:
    """Read the answer to INFO. Raises SettingsError when the server is older than `OLDEST`."""
    for line in about.splitlines():
        name, _, value = line.partition(b":")
        if name == b"redis_version":
            release = value.decode(errors="replace").strip()
            numbers = tuple(int(part) for part in release.split(".")[:2] if part.isdigit())
            if numbers < OLDEST:
                needed = ".".join(map(str, OLDEST))
                raise SettingsError(f"REDIS_ADDR: this is Redis {release}; {needed} or newer is needed (or Valkey)")
            return
