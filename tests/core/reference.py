"""A second machine, written from the rules alone, against which the real one is tested. It shares no code with it."""

from typing import Any

from msgspec import Struct

from unwind.core.messages import (
    Cancel,
    Input,
    Pause,
    Reply,
    ResolveStep,
    Resume,
    RetryStep,
    Signal,
    SkipStep,
    Start,
    Tick,
)

SECOND = 1_000_000
SERVICE = "agency"
"""Whom every command goes to."""
TIMEOUT, DELAY, LEASE = 30 * SECOND, 10 * SECOND, 30 * SECOND
"""What every part of the sagas under test has."""


class Part(Struct, frozen=True):
    """A step in plain words."""

    name: str
    shape: str
    kind: str
    guard: str
    """none, skip, fail or raise."""
    attempts: int
    undo_attempts: int
    late: str = "turn_round"
    """What a signal does that does not come in time; or skip."""

    @property
    def waits(self) -> bool:
        return self.shape in {"signal", "sleep"}


class Work(Struct):
    """A step, or its undo, that was begun."""

    name: str
    status: str
    since: int
    attempt: int = 1
    runner: str = ""
    until: int = 0
    parked: int = 0
    unheard: bool = False


class Reference:
    """The saga as the rules describe it."""

    def __init__(self, parts: tuple[Part, ...], deadline: int | None) -> None:
        self.parts = parts
        self.part = {part.name: part for part in parts}
        self.lasts = deadline
        self.phase = "new"
        self.begun: list[Work] = []
        self.todo: list[str] = []
        self.left: list[str] = []
        self.undo: Work | None = None
        self.alarm = self.paused = self.no_return = False
        self.at, self.deadline, self.worker = 0, 0, ""
        self.leases: dict[str, int] | None = None
        self.silent: dict[str, int] = {}
        self.back = False
        self.heard: dict[str, bytes] = {}
        self.begins = 0

    def view(self) -> Any:
        """What both machines must agree on."""
        undo = None
        if self.undo is not None:
            undo = (self.undo.name, self.undo.status, self.undo.attempt, self.left_alone(self.undo))
        steps = [(work.name, work.status, work.attempt, self.left_alone(work)) for work in self.begun]
        live = self.phase in {"running", "compensating"}
        flags = (self.alarm and live, self.paused and live)
        todo = self.todo if self.phase == "compensating" else []
        return self.phase, steps, todo, undo, *flags, self.no_return, self.left

    @staticmethod
    def left_alone(work: Work) -> int:
        return work.parked if work.status == "outstanding" else 0

    def feed(self, message: Input, at: int, worker: str) -> None:
        """One input."""
        self.at, self.worker, self.leases = at, worker, None
        match message:
            case Start():
                if self.phase == "new":
                    self.phase, self.begins = "running", message.begin_at
                    self.deadline = max(at, self.begins) + (self.lasts or 0)
                    self.go()
            case _ if self.phase not in {"running", "compensating"}:
                pass
            case Reply(direction="do"):
                self.answered(message)
            case Reply():
                self.undo_answered(message)
            case Tick(leases=leases, held=held, back=back):
                self.leases, self.silent, self.back = leases, held, SERVICE in back
                self.woken()
            case Cancel() if self.phase == "compensating":
                if self.paused:
                    self.restart()
                    self.go()
            case Cancel():
                if not self.no_return:
                    self.paused = False
                    self.turn()
            case Pause():
                self.paused = True
            case Signal():
                self.signalled(message)
            case Resume():
                self.restart()
                for work in [*(self.begun if self.phase == "running" else []), *([self.undo] if self.undo else [])]:
                    if work.status == "backoff":
                        self.again(work)
                if self.phase == "running" and self.begun and self.begun[-1].status == "outstanding":
                    self.waited(self.begun[-1])
                self.go()
            case RetryStep() | ResolveStep() | SkipStep():
                if not self.paused:
                    self.mended(message)

    # ------------------------------------------------------------------------------------------------ what is blocked

    def mended(self, act: RetryStep | ResolveStep | SkipStep) -> None:
        work = self.undo
        if self.phase == "running":
            work = self.begun[-1] if self.begun and self.begun[-1].status in {"outstanding", "backoff"} else None
        waits = work is not None and work.status == "backoff"
        idle = work is not None and self.part[work.name].waits
        alone = work is not None and work.status == "outstanding" and work.unheard
        if (
            not self.alarm
            and not alone
            and not (isinstance(act, RetryStep) and waits)
            and not (isinstance(act, SkipStep) and idle)
        ):
            return
        name = work.name if work else self.todo[0] if self.todo else self.parts[len(self.begun)].name
        if act.step not in {"", name}:
            return
        if isinstance(act, RetryStep):
            self.alarm = False
            if work is not None and (waits or self.part[name].shape == "command"):
                self.again(work)
            elif work is not None and idle:
                work.since = self.at if self.part[name].shape == "signal" else work.since
                self.waited(work)
        elif self.phase == "compensating":
            self.todo.remove(name)
            self.left += [name] * isinstance(act, SkipStep)
            self.undo, self.alarm = None, False
        elif isinstance(act, ResolveStep):
            said = bytes(act.reply)
            if work is None or (self.part[name].shape in {"command", "signal"} and said == b"null"):
                return
            work.status, self.alarm = "done", False
        elif work is None:
            self.begun.append(Work(name, "skipped", self.at))
            self.no_return |= self.part[name].kind == "pivot"
            self.alarm = False
        elif self.no_return or idle:
            work.status, self.alarm = "skipped", False
        else:
            return
        self.go()

    # ------------------------------------------------------------------------------------------------------- movement

    def go(self) -> None:
        if self.paused or (self.phase == "running" and not self.begun and self.at < self.begins):
            return
        while self.phase == "running" and not (self.begun and self.begun[-1].status in {"outstanding", "backoff"}):
            if len(self.begun) == len(self.parts):
                self.phase = "completed"
            elif self.late():
                self.turn()
            elif not self.begin(self.parts[len(self.begun)]):
                return
        while self.phase == "compensating" and self.undo is None:
            if not self.todo:
                self.phase = "compensated"
            elif not self.begin_undo(self.todo[0]):
                return

    def begin(self, part: Part) -> bool:
        if part.guard == "raise" or (part.guard == "fail" and self.no_return):
            self.ring()
            return False
        if part.guard == "fail":
            self.turn()
            return False
        status = {"skip": "skipped"}.get(part.guard, "done" if part.shape == "record" else "outstanding")
        self.begun.append(Work(part.name, status, self.at, runner=self.worker))
        self.no_return |= part.kind == "pivot"
        self.alarm = False
        return self.told(self.begun[-1]) if status == "outstanding" and part.name in self.heard else True

    def begin_undo(self, name: str) -> bool:
        work = next(work for work in self.begun if work.name == name)
        at_work = self.part[name].shape == "action" and work.status == "outstanding"
        if at_work and (self.leases is None or self.held(work, "do")):
            return False
        self.alarm = False
        if self.part[name].shape == "record":
            self.todo.pop(0)
        else:
            self.undo = Work(name, "outstanding", self.at, runner=self.worker)
        return True

    def turn(self) -> None:
        self.phase, self.alarm, self.leases = "compensating", False, None
        maybe = {"done", "unknown", "outstanding", "backoff"}
        begun = [work for work in self.begun if not self.part[work.name].waits]
        self.todo = [work.name for work in begun if work.status in maybe][::-1]
        self.go()

    # --------------------------------------------------------------------------------------------------------- signals

    def signalled(self, signal: Signal) -> None:
        part = self.part.get(signal.step)
        work = next((work for work in self.begun if work.name == signal.step), None)
        over = work is not None and work.status != "outstanding"
        if part is None or part.shape != "signal" or self.phase != "running" or over:
            return
        if signal.step in self.heard and (
            not self.alarm or work is None or self.heard[signal.step] == bytes(signal.payload)
        ):
            return
        if bytes(signal.payload) == b"null":
            return
        self.heard[signal.step] = bytes(signal.payload)
        if work is not None and self.told(work):
            self.go()

    def told(self, work: Work) -> bool:
        """A step hears what it waits for; whether the saga goes forward."""
        if b"no" not in self.heard[work.name]:
            work.status, self.alarm = "done", False
        elif self.no_return:
            self.ring()
        else:
            work.status = "refused"
            self.turn()
        return work.status == "done"

    # --------------------------------------------------------------------------------------------------------- answers

    def answered(self, reply: Reply) -> None:
        work = next((work for work in self.begun if work.name == reply.step), None)
        if work is None or self.part[work.name].waits:
            return
        part = self.part[work.name]
        mine = reply.outcome != "failed" or reply.attempt == work.attempt
        if self.phase == "running" and work.status in {"outstanding", "backoff"}:
            if reply.outcome == "ok" and part.shape == "command" and bytes(reply.payload) == b"null":
                self.ring()
            elif reply.outcome == "ok":
                work.status, self.alarm = "done", False
                self.go()
            elif reply.outcome == "refused" and self.no_return and part.kind != "pivot":
                self.ring()
            elif reply.outcome == "refused":
                work.status = "refused"
                self.turn()
            elif mine and work.status == "outstanding":
                self.attempt_over(work)
        elif self.phase == "compensating" and part.shape == "action" and work.name in self.todo and mine:
            self.settled(work, reply.outcome)

    def settled(self, work: Work, outcome: str) -> None:
        if self.undo is None and work.status == "outstanding":
            work.status = {"ok": "done", "refused": "refused", "failed": "unknown"}[outcome]
            self.todo = [name for name in self.todo if name != work.name or work.status != "refused"]
            self.go()

    def undo_answered(self, reply: Reply) -> None:
        undo = self.undo
        if undo is None or undo.name != reply.step:
            return
        if reply.outcome == "ok":
            self.todo.remove(undo.name)
            self.undo, self.alarm = None, False
            self.go()
        elif reply.outcome == "refused":
            self.ring()
        elif undo.status == "outstanding" and reply.attempt == undo.attempt:
            self.undo_attempt_over(undo)

    def attempt_over(self, work: Work) -> None:
        if self.alarm:
            return
        if work.attempt < self.part[work.name].attempts:
            work.status, work.until = "backoff", self.at + DELAY
        elif self.no_return:
            self.ring()
        else:
            work.status = "unknown"
            self.turn()

    def undo_attempt_over(self, undo: Work) -> None:
        if self.alarm:
            return
        if undo.attempt < self.part[undo.name].undo_attempts:
            undo.status, undo.until = "backoff", self.at + DELAY
        else:
            self.ring()

    # ------------------------------------------------------------------------------------------------------------ time

    def woken(self) -> None:
        if self.paused:
            return
        if self.phase == "running" and self.late():
            self.turn()
        elif self.phase == "running":
            if self.begun:
                self.aged(self.begun[-1], "do")
            self.go()
        elif self.undo is not None:
            self.aged(self.undo, "undo")
        else:
            self.go()

    def aged(self, work: Work, direction: str) -> None:
        if work.status == "backoff" and self.at >= work.until:
            self.again(work)
        elif work.status != "outstanding":
            return
        elif self.part[work.name].waits:
            self.waited(work)
        elif self.part[work.name].shape == "command":
            if work.parked:
                if self.back or (self.at >= work.parked and not self.park(work)):
                    work.parked, work.since = 0, self.at
            elif self.at >= work.since + TIMEOUT and not self.park(work):
                (self.attempt_over if direction == "do" else self.undo_attempt_over)(work)
        elif not self.held(work, direction) and work.runner != self.worker:
            work.runner, work.since = self.worker, self.at

    def park(self, work: Work) -> bool:
        until = self.silent.get(SERVICE)
        if until is None or self.alarm:
            return False
        work.parked, work.unheard = min(max(until, self.at + SECOND), self.at + 300 * SECOND), True
        return True

    def ring(self) -> None:
        self.alarm = True
        for work in [*self.begun, *([self.undo] if self.undo else [])]:
            work.parked = 0

    def waited(self, work: Work) -> None:
        part, over = self.part[work.name], self.at >= work.since + TIMEOUT
        if not part.waits:
            return
        if work.name in self.heard:
            self.told(work)
        elif over and part.shape == "sleep":
            work.status, self.alarm = "done", False
        elif over and part.late == "skip":
            work.status, self.alarm = "skipped", False
        elif over and self.no_return:
            self.ring()
        elif over:
            work.status = "unknown"
            self.turn()

    def late(self) -> bool:
        return self.lasts is not None and not self.no_return and self.at >= self.deadline

    def held(self, work: Work, direction: str) -> bool:
        kept = (self.leases or {}).get(f"saga-1/{work.name}/{direction}", 0)
        return self.at < max(work.since + LEASE, kept)

    def again(self, work: Work) -> None:
        work.status, work.attempt, work.since, work.runner = "outstanding", work.attempt + 1, self.at, self.worker
        work.parked, work.unheard = 0, False

    def restart(self) -> None:
        self.paused = self.alarm = False
        for work in [*self.begun, *([self.undo] if self.undo else [])]:
            if work.status == "outstanding" and self.part[work.name].shape in {"command", "signal"}:
                work.since, work.parked = self.at, 0
