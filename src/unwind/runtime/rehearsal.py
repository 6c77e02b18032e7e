"""Rehearses a saga with the machine itself: forward to its end with made-up answers, and back from every point.

`decide` is pure, so nothing is sent or stored; actions are not run. Deadlines are left out: passing one does what a
cancel does, and that is rehearsed everywhere.
"""

from typing import Any, Literal, cast

from msgspec import Struct
from msgspec.structs import replace

from unwind.core.author import AuthorError, ask
from unwind.core.decide import decide
from unwind.core.draft import Decision
from unwind.core.events import SagaBlocked, StepDone
from unwind.core.evolve import evolve
from unwind.core.foresight import agreeing
from unwind.core.messages import NULL, Cancel, Input, Moment, Reply, Resume, Signal, Start, Tick
from unwind.core.plans import StepPlan
from unwind.core.rules import settling
from unwind.core.saga import Saga
from unwind.core.state import AWAITED, NEW, State, StepRun
from unwind.runtime.invented import InventionError, inventions
from unwind.runtime.replies import Replies

Severity = Literal["error", "warning"]
Way = Literal["forward", "back"]
WHO = "rehearsal"
STUCK = "nothing happens any more, though nothing is awaited"


class Finding(Struct, frozen=True):
    """Where a rehearsal could not go on."""

    severity: Severity
    """A warning: only because of something that was made up, as far as can be told."""
    way: Way
    step: str
    at: str
    """The first point of the way at which it was met, or from which the way back began."""
    reason: str
    times: int = 1
    """How often it was met on the way."""


class Rehearsal(Struct, frozen=True):
    """What came of it."""

    completes: bool
    """It came to its end going forward, or turned round as its author wants it and was undone."""
    turns: int
    """How often it was turned round on the way, and undone: at each point by a cancel, and by a refusal."""
    findings: tuple[Finding, ...]


def rehearse(saga: Saga[Any], state: State, replies: Replies, at: int) -> Rehearsal:
    """Drive a live saga on from where it is. `at` is the store's time. Never raises."""
    return _Stage(saga, replies, at).play(replace(state, deadline=None))


def rehearse_from_start(saga: Saga[Any], replies: Replies, at: int) -> Rehearsal:
    """The same for a saga that is begun with a made-up context: whatever is found may be the context's fault."""
    reasons: list[str] = []
    played: list[Rehearsal] = []
    try:
        contexts = inventions(saga.context_type)
    except InventionError as error:
        contexts = ()
        reasons.append(f"no context can be made up: {error}")
    for context in contexts:
        begun = decide(saga, NEW, Start(WHO, context, definition_hash=saga.hash), Moment(at, 0.0, WHO))
        if begun.verdict == "author_error":
            reasons.append(begun.reason)
            continue
        stage = _Stage(saga, replies, at, "warning")
        played.append(stage.play(replace(begun.state, deadline=None)))
    if not played:
        why = f"could not rehearse: {reasons[0]}"
        return Rehearsal(False, 0, (Finding("warning", "forward", "", "the start", why),))
    return min(played, key=lambda each: (not each.completes, len(each.findings)))


class _Stage:
    """One rehearsal. Lives no longer than it takes."""

    def __init__(self, saga: Saga[Any], replies: Replies, at: int, severity: Severity = "error") -> None:
        self._saga = saga
        self._replies = replies
        self._now = at
        self._severity: Severity = severity
        self._findings: dict[tuple[str, ...], Finding] = {}
        self._turns = 0
        self._said_no = False
        """Whether what blocks the saga is a no that somebody said: another answer may take its place."""

    def play(self, state: State) -> Rehearsal:
        """Forward, and from every point back."""
        try:
            ask("the context", self._saga.decode_context, state.context)
        except AuthorError as error:
            self._find("forward", state.current_step() or "", point_of(state), error.reason)
            return Rehearsal(False, 0, tuple(self._findings.values()))
        if state.paused or state.blocked is not None:
            state = self._decide(state, Resume(WHO)).state
        now: State | None = state
        while now is not None and now.status == "running":
            self._turn_back(now)
            state, now = now, self._onward(now)
        completes = now is not None and (now.status != "compensating" or self._undo(now, point_of(state)))
        return Rehearsal(completes, self._turns, tuple(self._findings.values()))

    # ---------------------------------------------------------------------------------------------------------- forward

    def _onward(self, state: State) -> State | None:
        """The next point of the way; None: there is none, and a finding says why."""
        run = next((run for run in state.runs if run.status in AWAITED), None)
        if state.blocked is not None and not self._said_no:
            self._find("forward", state.blocked.step, point_of(state), state.blocked.reason)
            return None
        if run is not None and run.waits != "sleep":
            return self._answered(state, run)
        if run is not None and run.attempt.expires is not None:
            self._now = max(self._now, run.attempt.expires)
        self._now = max(self._now, state.begin_at)
        decision = self._decide(state, Tick(0))
        if not decision.events:
            self._find("forward", state.current_step() or "", point_of(state), STUCK)
            return None
        return decision.state

    def _answered(self, state: State, run: StepRun) -> State:
        """The first answer with which it goes on; where none is understood, as if the step had answered nothing."""
        plan = cast("StepPlan", self._saga.plan(run.step, state.items))
        reason = "its author turns round at whatever is made up"
        accepted: State | None = None
        try:
            payloads = self._replies.to(plan)
        except InventionError as error:
            payloads, reason = (), f"no reply can be made up: {error}"
        for payload in payloads:
            message: Input = Reply(run.step, "do", "ok", run.attempt.number, payload)
            if run.waits:
                message = Signal(run.step, payload, WHO, WHO)
            decision = self._decide(state, message)
            after, answered = decision.state, decision.state.run(run.step)
            if answered is not None and answered.status == "done":
                accepted = accepted or after
                if after.blocked is None:
                    return after
            elif after.blocked is not None or decision.reason:
                reason = decision.reason if after.blocked is None else after.blocked.reason
        if accepted is not None:
            return accepted
        self._find("forward", run.step, point_of(state), f"could not rehearse its reply: {reason}", "warning")
        self._severity = "warning"  # from here on the context lacks what the reply would have brought
        done = evolve(state, StepDone(self._now, run.step, run.attempt.number, NULL, NULL))
        return self._decide(done, Tick(0)).state

    # ------------------------------------------------------------------------------------------------------------- back

    def _turn_back(self, state: State) -> None:
        """Every way in which the saga can be turned round at this point."""
        turns: list[Input] = [] if state.pivoted else [Cancel(WHO)]
        turns += [
            Reply(run.step, "do", "refused", run.attempt.number, NULL, WHO)
            for run in state.runs
            if run.status in AWAITED and not run.waits and (run.pivot or not state.pivoted)
        ]
        for turn in turns:
            turned = self._decide(state, turn).state
            while turned.turning is not None:
                run = settling(turned)[0]
                turned = self._decide(turned, Reply(run.step, "do", "failed", run.attempt.number, NULL, WHO)).state
            if turned.status != "running":
                self._turns += 1
                self._undo(turned, point_of(state))

    def _undo(self, state: State, since: str) -> bool:
        """Say yes to every undo. Whether it came to the end."""
        while state.status == "compensating":
            message, _ = agreeing(self._saga, state)
            decision = self._decide(state, message)
            if not decision.events:
                blocked = state.blocked
                step = state.current_step() or "" if blocked is None else blocked.step
                self._find("back", step, since, STUCK if blocked is None else blocked.reason)
                return False
            state = decision.state
        return True

    def _decide(self, state: State, message: Input) -> Decision:
        decision = decide(self._saga, state, message, Moment(self._now, 0.0, WHO))
        for event in decision.events:
            if isinstance(event, SagaBlocked):
                self._said_no = event.refused
        return decision

    def _find(self, way: Way, step: str, at: str, reason: str, severity: Severity | None = None) -> None:
        severity = severity or self._severity
        key = (severity, way, step, reason)
        found = self._findings.get(key)
        self._findings[key] = (
            Finding(severity, way, step, at, reason) if found is None else replace(found, times=found.times + 1)
        )


def point_of(state: State) -> str:
    """Where a saga stands, in a few words."""
    if state.status != "running":
        undos = [f"the undo of {undo.step}, {undo.status}" for undo in state.undos]
        if undos:
            return " beside ".join(undos)
        return f"before the undo of {state.targets[0]}" if state.targets else "when all is undone"
    if not state.runs:
        return "before the first step"
    under_way = [run for run in state.runs if run.status in AWAITED] or [state.runs[-1]]
    return " beside ".join(
        f"{run.step}, waiting" if run.waits and run.status == "outstanding" else f"{run.step}, {run.status}"
        for run in under_way
    )
