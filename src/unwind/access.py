"""Who may do what: API keys, the scopes they have, and the port behind which they are kept."""

import re
from base64 import urlsafe_b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Literal, Protocol, get_args

from msgspec import Struct

from unwind.errors import InputError

Scope = Literal["read", "start", "operate", "admin"]
"""What a key may do; each includes those before it."""
SCOPES: tuple[Scope, ...] = get_args(Scope)
SECRET_BYTES = 32
ID_BYTES = 4
MOST_KEYS = 1_000
"""Of an installation, those that are revoked among them."""
ANONYMOUS = "anonymous"
"""Who acts where there are no keys."""

_TOKEN = re.compile(r"unwind_(?P<id>[0-9a-f]{8})_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"\w[\w.@+-]{0,63}")


class ApiKey(Struct, frozen=True):
    """A key as it is kept: nobody can make the key itself of it. Instants in microseconds since the epoch."""

    id: str
    """Public: it stands in the key too, and tells the holder's keys apart."""
    name: str
    """Whose it is: the actor of what is done with it."""
    scope: Scope
    digest: str
    """SHA-256 of the key. A hash without salt and stretching will do: the key is 256 bits of chance, not a password."""
    created_at: int
    expires_at: int | None = None
    revoked_at: int | None = None
    parent: str = ""
    """Of a session: the key it was opened with."""

    def state(self, now: int) -> Literal["active", "expired", "revoked"]:
        """Whether it may be used at that time, and why not."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and self.expires_at <= now else "active"


class Kept(Struct, frozen=True):
    """All keys at one time, and the sessions that may still be used."""

    now: int
    keys: tuple[ApiKey, ...]


class Fresh(Struct, frozen=True):
    """A key that was just made. The token is shown to its holder and nowhere else."""

    id: str
    token: str
    digest: str

    def __repr__(self) -> str:
        return f"Fresh({self.id})"


class KeyStore(Protocol):
    """Keeps keys. A port of its own, since what drives sagas has no use for it.

    Raises UnavailableError when it cannot answer, RejectedError for an id that is taken.
    """

    async def keys(self) -> Kept:
        """Every key, also those revoked or expired, in order of their making, and the sessions still open."""
        ...

    async def add(self, fresh: Fresh, name: str, scope: Scope, *, lasts: int | None = None, parent: str = "") -> ApiKey:
        """Keep a key for so many microseconds; None: until it is revoked. With a session the old ones are forgotten."""
        ...

    async def revoke(self, key_id: str) -> bool:
        """End a key and its sessions; one that was ended before stays so. False: there is no such key."""
        ...


def make_key(random: Callable[[int], bytes]) -> Fresh:
    """A new key. `random` gives so many unpredictable bytes, as `secrets.token_bytes` does."""
    key_id = random(ID_BYTES).hex()
    token = f"unwind_{key_id}_{urlsafe_b64encode(random(SECRET_BYTES)).decode().rstrip('=')}"
    return Fresh(key_id, token, digest_of(token))


def digest_of(token: str) -> str:
    """What is kept of a key."""
    return sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def id_in(token: str) -> str:
    """The public part of a key; empty: this is no key."""
    found = _TOKEN.fullmatch(token)
    return found["id"] if found else ""


def includes(held: Scope, needed: Scope) -> bool:
    """Whether a scope suffices for what needs another."""
    return SCOPES.index(held) >= SCOPES.index(needed)


def check_name(name: str) -> str:
    """The name, if a key may bear it. Raises InputError."""
    if not _NAME.fullmatch(name) or name == ANONYMOUS:
        raise InputError(
            f"{name!r:.80} cannot be the name of a key: give 1 to 64 letters, digits and . @ + - _ that say whose it "
            f"is, and not {ANONYMOUS!r}",
            "name",
        )
    return name
