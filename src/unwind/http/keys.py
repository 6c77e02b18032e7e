"""Routes about API keys: which there are, and an end to one. None is made here: its secret would have to travel."""

from typing import Literal

from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, SkipValidation
from msgspec import Struct

from unwind.access import ApiKey, Scope
from unwind.errors import NotFoundError
from unwind.http.openapi import Answer, Docs
from unwind.http.sagas import known
from unwind.runtime.instants import instant, instant_or_none
from unwind.runtime.keyring import Keyring

TheKeys = NamedDependency[SkipValidation[Keyring]]


class KeyView(Struct, frozen=True):
    """A key, without what is kept to check it."""

    id: str
    """The eight signs after `unwind_`."""
    name: str
    scope: Scope
    state: Literal["active", "expired", "revoked"]
    created_at: str
    expires_at: str | None
    revoked_at: str | None


class KeyList(Struct, frozen=True):
    """All keys there have ever been, the oldest first."""

    keys: tuple[KeyView, ...]


_LIST = Docs((Answer(200, "All keys", KeyList),), (422, 503), tag="keys")
_REVOKE = Docs((Answer(200, "It is revoked, or was before", KeyView),), (404, 422, 503), tag="keys")


@get("/keys", docs=_LIST, scope="admin")
async def list_keys(keys: TheKeys) -> KeyList:
    """List the API keys, also those that were revoked."""
    kept = await keys.kept()
    return KeyList(tuple(_view(key, kept.now) for key in kept.keys if not key.parent))


@post("/keys/{key_id:str}/revoke", status_code=200, docs=_REVOKE, scope="admin")
async def revoke_key(key_id: FromPath[str], keys: TheKeys) -> KeyView:
    """End an API key, and the sessions that were opened with it.

    This process refuses it from now on, others within two seconds. Harmless to repeat.
    """
    if await keys.revoke(known(key_id)):
        kept = await keys.kept()
        for key in kept.keys:
            if key.id == key_id and not key.parent:
                return _view(key, kept.now)
    raise NotFoundError("there is no such key")


def _view(key: ApiKey, now: int) -> KeyView:
    return KeyView(
        key.id,
        key.name,
        key.scope,
        key.state(now),
        instant(key.created_at),
        instant_or_none(key.expires_at),
        instant_or_none(key.revoked_at),
    )


key_routes = [list_keys, revoke_key]
