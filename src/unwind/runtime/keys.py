"""Idempotency keys: a saga's id is derived from its key, so that the saga's first event is the record of the key."""

from uuid import UUID, uuid5

_NAMESPACE = UUID("6f1d0c52-7d1b-5b0e-9c57-3f0f6a1d8a11")
"""Fixed for good: stored saga ids were derived with it."""
_TENANT = "default"


def id_of_key(route: str, key: str) -> str:
    """The id of the saga that is asked for with this key; keys of different routes are different keys."""
    return str(uuid5(_NAMESPACE, f"{_TENANT}/{route}/{key}"))
