"""Who holds a key: the keys as they were a moment ago, so that each call costs no question to the store."""

import asyncio
from collections.abc import Callable
from hmac import compare_digest

from msgspec import Struct

from unwind.access import ANONYMOUS, SCOPES, ApiKey, Kept, KeyStore, Scope, digest_of, id_in, make_key
from unwind.errors import SettingsError
from unwind.ports import Clock
from unwind.runtime.limits import SECOND
from unwind.settings import is_loopback

LASTS = 2 * SECOND
"""How long a key may still be used that was revoked meanwhile."""
AGAIN = SECOND // 5
"""Before the keys are read again for one that is not known yet: a flood of invented ones costs the store no more."""
SESSION = 12 * 3_600 * SECOND
MOST_SESSIONS = 100
"""Of one key; one more ends the oldest, so that they cannot grow over our heads."""
_NOBODY = digest_of("")


class Caller(Struct, frozen=True):
    """Who calls, and what he may do."""

    name: str
    """The actor of what he does."""
    scope: Scope
    key_id: str = ""
    """Empty: nobody has a key."""
    session: bool = False
    """He logged in with the key, and it is not at hand."""


EVERYBODY = Caller(ANONYMOUS, SCOPES[-1])
"""Where nobody has a key."""


class Session(Struct, frozen=True):
    """What a browser is given in place of the key. `lasts` is in seconds."""

    token: str
    lasts: int

    def __repr__(self) -> str:
        return f"Session({self.lasts})"


class _Ring(Struct, frozen=True):
    kept: Kept
    by_id: dict[str, ApiKey]
    read_at: int


class Keyring:
    """Tells callers by their keys. When the store cannot be asked nobody is let in."""

    def __init__(self, store: KeyStore, clock: Clock, random: Callable[[int], bytes]) -> None:
        """`random` gives unpredictable bytes, for sessions."""
        self._store = store
        self._clock = clock
        self._random = random
        self._asked_at = 0
        self._answer: asyncio.Task[_Ring] | None = None

    async def caller(self, token: str) -> Caller | None:
        """The holder of a key or session; of none, where there are no keys, `EVERYBODY`. None: it lets nobody in.

        Raises UnavailableError.
        """
        ring = await self._ring(LASTS)
        key_id = id_in(token)
        if (key_id and key_id not in ring.by_id) or (not token and not ring.by_id):
            # Somebody may just have made it; or the first one, after which nothing is open to everybody.
            ring = await self._ring(AGAIN)
        if not ring.by_id:
            return EVERYBODY
        key = ring.by_id.get(key_id)
        # Compared in any case: how long it takes says nothing of whether there is such an id, or how much is right.
        right = compare_digest(digest_of(token), _NOBODY if key is None else key.digest)
        if key is None or not right or not self._may_be_used(key, ring):
            return None
        if not key.parent:
            return Caller(key.name, key.scope, key.id)
        parent = ring.by_id.get(key.parent)
        if parent is None or not self._may_be_used(parent, ring):
            return None
        return Caller(parent.name, parent.scope, parent.id, session=True)

    async def log_in(self, token: str) -> Session | None:
        """Open a session with a key, in which its scope holds and nothing more. None: it is no key that may be used.

        Raises UnavailableError.
        """
        caller = await self.caller(token)
        if caller is None or not caller.key_id or caller.session:
            return None
        await self._make_room(caller.key_id)
        fresh = make_key(self._random)
        await self._store.add(fresh, caller.name, caller.scope, lasts=SESSION, parent=caller.key_id)
        self._answer = None
        return Session(fresh.token, SESSION // SECOND)

    async def log_out(self, token: str) -> None:
        """End a session; anything else is left as it is. Raises UnavailableError."""
        caller = await self.caller(token)
        if caller is not None and caller.session:
            await self._store.revoke(id_in(token))
            self._answer = None

    async def check(self, host: str, variable: str) -> None:
        """Raise SettingsError, naming the variable, where `host` is reached from afar and there is no key.

        Raises UnavailableError too.
        """
        if not is_loopback(host) and not (await self._store.keys()).keys:
            raise SettingsError(
                f"{variable}: {host!r:.80} is reached from other machines, and there is no API key, so that whoever "
                "reaches it could give orders; make one (unwind keys create --name NAME --scope admin), or listen on "
                "127.0.0.1"
            )

    async def kept(self) -> Kept:
        """All keys, as they are now. Raises UnavailableError."""
        return await self._store.keys()

    async def revoke(self, key_id: str) -> bool:
        """End a key, in this process at once. False: there is no such key. Raises UnavailableError."""
        found = await self._store.revoke(key_id)
        self._answer = None
        return found

    async def _make_room(self, key_id: str) -> None:
        ring = await self._ring(LASTS)
        sessions = [key.id for key in ring.kept.keys if key.parent == key_id]
        for oldest in sessions[: max(0, len(sessions) - MOST_SESSIONS + 1)]:
            await self._store.revoke(oldest)

    async def _ring(self, age: int) -> _Ring:
        """The keys as they were at most so many microseconds ago. A question that is still open is not asked again."""
        answer = self._answer
        if answer is not None and answer.done() and (answer.cancelled() or answer.exception() is not None):
            age = AGAIN
        now = self._clock.monotonic()
        if answer is None or (answer.done() and now - self._asked_at >= age):
            self._asked_at = now
            answer = self._answer = asyncio.create_task(self._read(now))
            answer.add_done_callback(_looked_at)
        return await asyncio.shield(answer)

    async def _read(self, at: int) -> _Ring:
        kept = await self._store.keys()
        return _Ring(kept, {key.id: key for key in kept.keys}, at)

    def _may_be_used(self, key: ApiKey, ring: _Ring) -> bool:
        # The store's time carried forward; from when it was asked, so that a key ends early rather than late.
        now = ring.kept.now + self._clock.monotonic() - ring.read_at
        return key.state(now) == "active"


def _looked_at(answer: "asyncio.Task[_Ring]") -> None:
    """Whoever asked may have gone: then nobody else looks at what went wrong."""
    if not answer.cancelled():
        answer.exception()
