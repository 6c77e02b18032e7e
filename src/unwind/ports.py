"""What the runtime needs of the outside: `Store`, `Bus`, `Clock`. All take and return batches.

The store is dumb on purpose: rules live in the core, so that two databases cannot disagree about them. Every answer
of the store carries its time, in microseconds since the epoch: that is the time by which sagas live, whatever the
workers' clocks say.

A store raises `UnavailableError` when it cannot answer (the outcome may be unknown) and `RejectedError` when it
refuses the data.
"""

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from msgspec import Raw, Struct

from unwind.core.barrier import Answer
from unwind.core.codec import Snapshot
from unwind.core.messages import Direction

COMMANDS = "commands."
"""Commands for a service go to this topic followed by the service's name."""
REPLIES = "replies"
"""Where participants answer."""
EVENTS = "events."
"""Domain events go to this topic followed by their category."""
DEAD = "dead."
"""What can never be handled goes to this topic followed by the one it came from, with the reason in the message."""


class SagaRow(Struct, frozen=True, gc=False):
    """The read row of a saga, written in the same transaction as the events that change it."""

    id: str
    revision: str
    """What it is bound to: `name@version#hash`."""
    definition: str
    status: str
    """As shown: running, compensating, paused, blocked, completed, compensated."""
    wake_at: int | None
    """None exactly when the saga is ended or paused; the store refuses anything else."""
    correlation_id: str
    started_at: int
    updated_at: int
    ended_at: int | None = None


class StreamAppend(Struct, frozen=True, gc=False):
    """Encoded events for one stream; `version` is the number of the first of them, `count` how many they are."""

    stream: str
    category: str
    version: int
    count: int
    events: bytes


class Unit(Struct, frozen=True, gc=False):
    """Everything one decision writes. All of it or nothing."""

    head: StreamAppend
    """The saga's own events. Its version is the compare-and-set: it collides when another writer was first."""
    row: SagaRow | None = None
    """Written when present; insert or update by id."""
    others: tuple[StreamAppend, ...] = ()
    snapshot: Snapshot | None = None
    wake_at: int | None = None
    """Without a row: the saga's wake-up is brought forward to this where it stands later (None: it cannot). It may have
    been moved, for good reasons then, between the decision and its commit."""
    attributes: tuple[tuple[str, str], ...] = ()
    """What the saga can be found by: names and values. Goes with the row of its first commit; what is there stays."""


class Committed(Struct, frozen=True, gc=False):
    """Who won. A unit that is not among the winners met a conflict: reload and decide again."""

    now: int
    won: frozenset[str]
    """Streams of the heads that were written."""


class StoredStream(Struct, frozen=True, gc=False):
    """A stream as stored: the newest snapshot (if asked for and newer than the reader's), and the commits after it."""

    snapshot: Snapshot | None
    commits: tuple[tuple[int, bytes], ...]
    leases: Mapping[str, int] = {}
    """Effect id → held until, for the actions of this saga."""


class Loaded(Struct, frozen=True, gc=False):
    """Streams by id; a stream that has neither leases nor commits after the asked version is absent."""

    now: int
    streams: Mapping[str, StoredStream]


class Claimed(Struct, frozen=True, gc=False):
    """Due sagas. The token is the `wake_at` that the claim wrote."""

    now: int
    tokens: Mapping[str, int]


class Move(Struct, frozen=True, gc=False):
    """Move a wake-up without an event: only where `wake_at` is still the token and no event has come since."""

    id: str
    token: int
    wake_at: int
    version: int
    """How many events the saga had when this was decided."""


class LogEntry(Struct, frozen=True, gc=False):
    """One commit row as the global reader sees it, in commit order."""

    position: int
    stream: str
    category: str
    version: int
    events: bytes
    recorded_at: int


class Tail(Struct, frozen=True, gc=False):
    """A consumer's next entries of the log, and the cursor to save once they are handled. None is ever skipped."""

    entries: tuple[LogEntry, ...]
    cursor: str


COUNTED = 10_000  # live sagas of one revision; who finds so many knows enough


class Registered(Struct, frozen=True, gc=False):
    """How the definitions of a program stand to what the store knows; `clashes` were known under another hash."""

    clashes: Sequence[tuple[str, int, str]] = ()
    others: Mapping[str, int] = {}
    """Live sagas, the paused ones too, bound to any other revision, by revision; of each at most `COUNTED`."""


class Query(Struct, frozen=True):
    """Which saga rows, newest first. Conditions are joined by *and*; `started_from` is inclusive, `started_to` not."""

    ids: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    definition: str = ""
    started_from: int | None = None
    started_to: int | None = None
    before: tuple[int, str] | None = None
    """`(started_at, id)` of the last row of the page before."""
    limit: int = 50
    live_on: str = ""  # only sagas that are bound to this revision and have not ended
    attributes: tuple[tuple[str, str], ...] = ()
    """Names and values; a saga has all of them."""
    text: str = ""  # what the id, the correlation id or the value of some attribute begins with, to the letter


class Store(Protocol):
    """Where the truth is kept. Implementations: memory (the oracle), SQLite, PostgreSQL."""

    async def register(self, revisions: Sequence[tuple[str, int, str]], *, note: bool = True) -> Registered:
        """Note `(name, version, hash)` of each new definition, if told to; say what does not go with them."""
        ...

    async def load(self, streams: Mapping[str, int], *, snapshots: bool = True) -> Loaded:
        """Streams and what follows the given versions (0: everything)."""
        ...

    async def commit(self, units: Sequence[Unit]) -> Committed:
        """Write each unit that meets no conflict, in one transaction.

        Heads are distinct streams. Raises RejectedError when the data of any unit is refused (nothing is written
        then) and UnavailableError when the outcome is unknown.
        """
        ...

    async def claim(self, limit: int, push: int, revisions: Sequence[str]) -> Claimed:
        """Take up to `limit` due sagas of these revisions, longest due first; put them off by `push` microseconds."""
        ...

    async def move(self, moves: Sequence[Move]) -> None:
        """Set wake-ups where the token still stands."""
        ...

    async def lease(self, effect_ids: Sequence[str], duration: int) -> None:
        """Hold these actions until now + `duration` microseconds."""
        ...

    async def tail(self, consumer: str, limit: int) -> Tail:
        """The log after the consumer's saved cursor."""
        ...

    async def advance(self, consumer: str, cursor: str) -> None:
        """Save a cursor given by `tail`."""
        ...

    async def find(self, query: Query) -> Sequence[SagaRow]:
        """Saga rows, newest first, at most `query.limit`."""
        ...

    async def close(self) -> None:
        """Finish what is being written and let go of files and connections."""
        ...


class Message(Struct, frozen=True, gc=False, omit_defaults=True):
    """A command, a reply, or a domain event on the bus."""

    id: str
    """The effect id for commands and replies, `stream/number` for events: repeated deliveries share it."""
    name: str
    """The tag of the payload's type, e.g. `inventory.reserve`."""
    payload: Raw
    saga_id: str = ""
    step: str = ""
    direction: Direction = "do"
    attempt: int = 1
    retriable: bool = False
    """Of a command past the pivot: a refusal is not final, it will be asked again."""
    outcome: str = ""
    """Of a reply: ok, refused or failed."""
    reason: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    traceparent: str = ""


class Delivery(Struct, frozen=True, gc=False):
    """What a consumer fetches and acknowledges as a whole: the messages of one publication."""

    messages: tuple[Message, ...]
    token: object  # the bus's own mark
    redelivered: int = 0
    """How often it was handed out before."""
    behind: int = 0  # deliveries that waited for the group when it was handed out, where the bus tells


class Subscription(Protocol):
    """One consumer's end of a topic."""

    async def fetch(self, limit: int) -> Sequence[Delivery]:
        """Wait for deliveries; at least one, at most `limit`. A delivery that is not acknowledged comes again."""
        ...

    async def ack(self, deliveries: Sequence[Delivery]) -> None:
        """These are handled for good."""
        ...

    async def nack(self, deliveries: Sequence[Delivery]) -> None:
        """These could not be handled now; deliver them again soon."""
        ...

    async def close(self) -> None:
        """Stop consuming; what is not acknowledged goes to another consumer."""
        ...


class Bus(Protocol):
    """A doorbell: at least once at best, and it may lose everything. Nothing but latency depends on it."""

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Hand over messages as one publication. Raises UnavailableError when the bus is down."""
        ...

    async def subscribe(self, topic: str, group: str) -> Subscription:
        """Join a group of consumers: each publication goes to one member of each group."""
        ...

    async def close(self) -> None:
        """Let go of connections."""
        ...


class Status(Struct, frozen=True, gc=False):
    """What a saga is, as it is shown; to be kept where it is read fast."""

    saga_id: str
    version: int
    """Number of the saga's events."""
    body: bytes
    ended: bool
    """It will never change again: not so the doing of another saga's step, which may be unwound."""


class StatusCache(Protocol):
    """What clients poll. It may forget all of it at any time, and takes nothing older than what it has been told."""

    async def get(self, saga_id: str) -> tuple[int, bytes] | None:
        """Version and body, if they are there at once. Never raises nor waits long: the store has the answer too."""
        ...

    async def put(self, statuses: Sequence[Status]) -> None:
        """Keep these for a while, where nothing newer is known. Raises UnavailableError."""
        ...

    async def raise_to(self, versions: Mapping[str, int]) -> None:
        """These sagas have so many events now: forget what is older, and do not take it. Raises UnavailableError."""
        ...


class Rate(Struct, frozen=True):
    """How often one client may call."""

    per_second: int
    burst: int
    """Calls that may come at once after a silence."""


class Allowance(Struct, frozen=True, gc=False):
    """Whether a call is within its client's rate. Durations in microseconds."""

    allowed: bool
    remaining: int
    """Calls that may follow at once."""
    wait: int
    """Until the next call is allowed."""
    reset: int
    """Until a whole burst is allowed again."""


class RateLimiter(Protocol):
    """Counts calls."""

    @property
    def rate(self) -> Rate:
        """What is allowed to each client, for each kind of call."""
        ...

    async def take(self, client: str, kind: str) -> Allowance:
        """Count one call. Never raises."""
        ...


class Clock(Protocol):
    """Time as a worker sees it: trusted only for what lies between two answers of the store."""

    def monotonic(self) -> int:
        """Microseconds since some fixed instant."""
        ...

    async def sleep(self, duration: int) -> None:
        """Wait for so many microseconds."""
        ...


Tx_co = TypeVar("Tx_co", covariant=True)
R = TypeVar("R")


class ParticipantTransaction(Protocol[Tx_co]):
    """A participant's open transaction: the barrier's rows, and savepoints round each handler."""

    @property
    def handle(self) -> Tx_co:
        """What a handler writes with, between `savepoint` and `release` or `rollback`."""
        ...

    async def lookup(self, effect_ids: Sequence[str]) -> Mapping[str, Answer]:
        """The stored answers; what is not stored is absent."""
        ...

    async def record(self, rows: Mapping[str, Answer]) -> None:
        """Store answers by effect id. Raises when one is stored already."""
        ...

    async def savepoint(self) -> None:
        """Begin what `rollback` takes back or `release` keeps. Savepoints are not nested."""
        ...

    async def release(self) -> None:
        """Keep what was written since the savepoint."""
        ...

    async def rollback(self) -> None:
        """Take back what was written since the savepoint."""
        ...


class ParticipantStore(Protocol[Tx_co]):
    """A participant's own database: business data and barrier rows, in the same transactions."""

    async def transact(self, work: Callable[[ParticipantTransaction[Tx_co]], Coroutine[Any, Any, R]]) -> R:
        """Run `work` in one transaction: committed durably when it returns, rolled back when it raises.

        Transactions do not see one another's uncommitted writes. Raises what `work` raises, and the database's errors.
        """
        ...

    async def purge(self, older_than: int) -> int:
        """Forget answers stored longer ago than this many microseconds; says how many.

        Keep them longer than any saga lives and any message stays on the bus.
        """
        ...

    async def close(self) -> None:
        """Finish what is being written and let go of the database."""
        ...
