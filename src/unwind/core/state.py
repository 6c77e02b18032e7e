"""What a saga is after its events: `State`."""

from typing import Literal

from msgspec import Raw, Struct

from unwind.core.messages import NULL, Attempt, Cause, CommandCall, Direction, Waits

Status = Literal["new", "running", "compensating", "completed", "compensated"]
ShownStatus = Literal["pending", "running", "completed", "compensating", "compensated", "blocked", "paused"]
StepStatus = Literal["outstanding", "backoff", "done", "refused", "unknown", "skipped"]


LIVE: frozenset[Status] = frozenset(("running", "compensating"))
"""What is neither completed nor compensated."""
AWAITED: frozenset[StepStatus] = frozenset(("outstanding", "backoff"))
"""Of a step, or an undo, that has begun and is not over."""


class StepRun(Struct, frozen=True, gc=False, omit_defaults=True):
    """One step that was started (or its undo): how far it is and what it last sent."""

    step: str
    status: StepStatus
    attempt: Attempt
    command: CommandCall | None = None
    retry_at: int = 0
    """When the next attempt begins; meaningful in `backoff` only."""
    pivot: bool = False
    waits: Waits = ""
    child: str = ""
    """Name of the definition of the saga that is its doing, which has the command's payload as its context."""
    parked: int = 0
    """Until when it is left alone, since its participant answers nobody; 0: it is not parked."""
    silent: int = 0
    """When the attempt in progress was first parked; 0: it never was."""


class Heard(Struct, frozen=True, gc=False):
    """A signal that came, whether its step had begun or not."""

    step: str
    payload: Raw
    signal_id: str


class Blocked(Struct, frozen=True, gc=False):
    """Why a person is needed, and how often the engine goes on trying by itself."""

    step: str
    direction: Literal["do", "undo"]
    reason: str
    since: int
    retry_every: int


class Turning(Struct, frozen=True, gc=False):
    """Why a saga is undone, now or once what is under way has settled."""

    cause: Cause
    step: str
    reason: str


class Listed(Struct, frozen=True, gc=False):
    """The items of a `ForEach`, by key, as they were when it began."""

    step: str
    items: tuple[tuple[str, Raw], ...]


class State(Struct, frozen=True, gc=False, omit_defaults=True):
    """A saga folded from its events. `version` counts them."""

    saga_id: str = ""
    version: int = 0
    status: Status = "new"
    context: Raw = NULL
    runs: tuple[StepRun, ...] = ()
    """Steps in the order in which they were started."""
    targets: tuple[str, ...] = ()
    """Steps still to undo, last begun first."""
    undos: tuple[StepRun, ...] = ()
    """The undos under way; more than one only where steps were side by side."""
    left: tuple[str, ...] = ()
    """Steps whose undo an operator skipped: they stay as they are, for good."""
    signals: tuple[Heard, ...] = ()
    """At most one for each step that waits for one."""
    paused: bool = False
    blocks: tuple[Blocked, ...] = ()
    """What needs a person; more than one only where steps are, or were, side by side."""
    turning: Turning | None = None
    """A step failed, and those beside it may settle before anything is undone. Nothing new begins."""
    items: tuple[Listed, ...] = ()
    pivoted: bool = False
    """The pivot has been started: only forward from here, unless the pivot itself is refused."""
    turned: Turning | None = None
    """Why it was turned round."""
    parent: str = ""
    """`saga/step` of which it is the doing; empty for a saga of its own."""
    begin_at: int = 0
    """When the first step may begin at the earliest."""
    deadline: int | None = None
    outcomes: int = 0
    """How many steps and undos have ended, for snapshots."""
    streams: tuple[tuple[str, int], ...] = ()
    """Number of domain events this saga has written to each stream."""
    definition: str = ""
    definition_version: int = 0
    definition_hash: str = ""
    started_at: int = 0
    ended_at: int | None = None
    request_hash: str = ""
    correlation_id: str = ""
    traceparent: str = ""

    @property
    def live(self) -> bool:
        """Neither completed nor compensated."""
        return self.status in LIVE

    @property
    def scheduled(self) -> bool:
        """Whether it waits for the time at which its first step may begin."""
        return self.begin_at > 0 and not self.runs and self.status == "running"

    @property
    def shown_status(self) -> ShownStatus:
        """The status as the API names it: paused and blocked are flags inside, statuses outside."""
        status = self.status
        if status == "new":
            return "pending"
        if status in LIVE:
            if self.paused:
                return "paused"
            if self.blocks:
                return "blocked"
            if self.scheduled:
                return "pending"
        return status

    @property
    def blocked(self) -> Blocked | None:
        """What needs a person, the oldest of several."""
        return self.blocks[0] if self.blocks else None

    def run(self, step: str) -> StepRun | None:
        """The run of a step, or None while it was not started."""
        for run in self.runs[::-1]:
            if run.step == step:
                return run
        return None

    def heard(self, step: str) -> Heard | None:
        """The signal that came for a step."""
        return next((signal for signal in self.signals if signal.step == step), None)

    def blocked_on(self, step: str, direction: Direction) -> bool:
        """Whether that step, or its undo, needs a person."""
        return bool(self.blocks) and any(block.step == step and block.direction == direction for block in self.blocks)

    def undo_of(self, step: str) -> StepRun | None:
        """The undo of a step, while it is under way."""
        for undo in self.undos:
            if undo.step == step:
                return undo
        return None

    def current_step(self) -> str | None:
        """The step that is being done or undone, the latest begun of several; None when nothing is."""
        if self.undos:
            return self.undos[-1].step
        if self.status == "compensating":
            return self.targets[0] if self.targets else None
        if self.status == "running" and self.runs:
            awaited = (run.step for run in reversed(self.runs) if run.status in AWAITED)
            return next(awaited, self.runs[-1].step)
        return None


NEW = State()
