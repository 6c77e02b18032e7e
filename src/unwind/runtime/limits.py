"""Bounds on everything a worker holds. Durations in microseconds."""

from msgspec import Struct

SECOND = 1_000_000


class Limits(Struct, frozen=True):
    """What a worker may hold and how long it may wait; the defaults suit one process on two cores."""

    batch: int = 512
    """Sagas per commit."""
    batches_in_flight: int = 2
    inbox: int = 10_000
    """Sagas with inputs waiting: above it no start is admitted and no replies are fetched."""
    cache: int = 50_000
    """States kept in memory."""
    cache_bytes: int = 128 * 1024 * 1024
    """Bytes that the large ones among them may have together."""
    payload: int = 256 * 1024
    """Bytes of a context or a reply."""
    actions: int = 256
    """Local actions at a time."""
    actions_waiting: int = 10_000
    """Local actions that wait for a place; what finds none is driven again by its saga's wake-up."""
    actions_watch: int = SECOND // 10
    """How coarsely timeouts and leases of actions are watched."""
    call_timeout: int = 10 * SECOND
    """How long a call waits for its commit."""
    retry_pause: int = SECOND // 4
    """Pause after the store could not answer; doubles up to sixteen times this."""
    suspect_pause: int = 5 * SECOND
    """How long a saga whose unit the store refused is left alone; doubles up to sixty-four times this."""
    claim: int = 256
    """Wake-ups taken at a time."""
    claim_push: int = 3 * SECOND
    """By how much a claim moves a wake-up: how late a saga may be driven after the worker that claimed it died."""
    sweep: int = SECOND // 2
    """Interval between two looks for due wake-ups."""
    strangers: int = 10 * SECOND
    """Interval between two looks for live sagas of definitions that are not known here."""
    publish: int = 256
    """Entries taken from the log at a time by the publisher of domain events."""
    publish_idle: int = SECOND // 4
    """Between two looks at a log that had nothing new."""
