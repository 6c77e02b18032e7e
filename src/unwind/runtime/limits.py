"""Bounds on everything a worker holds. Durations in microseconds."""

from msgspec import Struct

from unwind.settings import Settings

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
    circuit_after: int = 3
    """Commands in a row that a service leaves unanswered before its circuit may open; 0: it never does."""
    circuit_silence: int = 10 * SECOND
    """How long nobody of the service has answered by then; where an attempt's time is up, its timeout is enough."""
    circuit_probe: int = 5 * SECOND
    """Interval at which one command is let go while a circuit is open."""
    circuit_ramp: int = 10
    """Commands let go in the first second after the service has answered; twice as many in the next, and so on."""
    park_least: int = 15 * SECOND
    park_most: int = 300 * SECOND
    """For how long an attempt is parked at a time: as long as the silence has lasted, within these bounds."""


def limits_of(settings: Settings) -> Limits:
    """The limits that the settings ask for."""
    return Limits(
        inbox=settings.max_waiting,
        circuit_after=settings.circuit_after,
        circuit_silence=settings.circuit_silence * SECOND,
        circuit_probe=settings.circuit_probe * SECOND,
        circuit_ramp=settings.circuit_ramp,
    )
