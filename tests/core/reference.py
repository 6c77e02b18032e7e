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
    Unwind,
)

SECOND = 1_000_000
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
    keys: tuple[str, ...] = ()
    """Of the head of an each: its items; None of them: it lists nothing."""

    @property
    def waits(self) -> bool:
        return self.shape in {"signal", "sleep"}


class Beside(Struct, frozen=True):
    """Branches side by side, each a sequence."""

    branches: tuple[tuple["Node", ...], ...]


class Each(Struct, frozen=True):
    """A sequence for each item; `head` lists them."""

    head: Part
    body: tuple["Node", ...]
    at_once: int


Node = Part | Beside | Each
Path = tuple[tuple[str, object], ...]


def before(one: Path, other: Path) -> bool:
    """Whether what stands at one place must be over before what stands at the other begins."""
    for (kind, mine), (_, yours) in zip(one, other, strict=False):
        if mine != yours:
            return kind == "then" and mine < yours  # type: ignore[operator]
    return False


class Leaf(Struct, frozen=True):
    """A step where it stands, for one item if it is done for each."""

    part: Part
    path: Path
    item: tuple[str, str] = ("", "")
    """The each and the key."""
    at_once: int = 0

    @property
    def name(self) -> str:
        return f"{self.part.name}[{self.item[1]}]" if self.item[0] else self.part.name


def leaves(nodes: tuple[Node, ...], path: Path = ()) -> list[Leaf]:
    """Every step, in the order in which those that may begin do so."""
    found: list[Leaf] = []
    for place, node in enumerate(nodes):
        here: Path = (*path, ("then", place))
        if isinstance(node, Part):
            found.append(Leaf(node, here))
        elif isinstance(node, Beside):
            for number, branch in enumerate(node.branches):
                found += leaves(branch, (*here, ("beside", number)))
        else:
            found.append(Leaf(node.head, (*here, ("then", 0))))
            items = [leaves(node.body, (*here, ("then", 1), ("beside", key))) for key in node.head.keys]
            for same in zip(*items, strict=True):
                keyed = zip(same, node.head.keys, strict=True)
                found += [Leaf(leaf.part, leaf.path, (node.head.name, key), node.at_once) for leaf, key in keyed]
    return found


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

    def __init__(self, nodes: tuple[Node, ...], deadline: int | None) -> None:
        self.leaves = leaves(nodes)
        self.leaf = {leaf.name: leaf for leaf in self.leaves}
        self.part = {leaf.name: leaf.part for leaf in self.leaves}
        self.lasts = deadline
        self.phase = "new"
        self.begun: list[Work] = []
        self.listed: set[str] = set()
        self.todo: list[str] = []
        self.left: list[str] = []
        self.undos: list[Work] = []
        self.alarms: list[tuple[str, str]] = []
        self.turning = self.paused = self.no_return = False
        self.at, self.deadline, self.worker = 0, 0, ""
        self.leases: dict[str, int] | None = None
        self.silent: dict[str, int] = {}
        self.back: frozenset[str] = frozenset()
        self.heard: dict[str, bytes] = {}
        self.begins = 0

    def view(self) -> Any:
        """What both machines must agree on."""
        undos = [(undo.name, undo.status, undo.attempt, self.left_alone(undo)) for undo in self.undos]
        steps = [(work.name, work.status, work.attempt, self.left_alone(work)) for work in self.begun]
        live = self.phase in {"running", "compensating"}
        alarms = self.alarms if live else []
        todo = self.todo if self.phase == "compensating" else []
        return self.phase, steps, todo, undos, alarms, self.paused and live, self.turning, self.no_return, self.left

    @staticmethod
    def left_alone(work: Work) -> int:
        return work.parked if work.status == "outstanding" else 0

    def work(self, name: str) -> Work | None:
        return next((work for work in self.begun if work.name == name), None)

    def undo(self, name: str) -> Work | None:
        return next((undo for undo in self.undos if undo.name == name), None)

    def over(self, leaf: Leaf) -> bool:
        work = self.work(leaf.name)
        if leaf.part.shape == "each" and leaf.name in self.listed:
            return True
        if leaf.item[0] and leaf.item[0] not in self.listed:
            head = self.work(leaf.item[0])
            return head is not None and head.status == "skipped"
        return work is not None and work.status in {"done", "skipped"}

    def feed(self, message: Input, at: int, worker: str) -> None:
        """One input."""
        self.at, self.worker, self.leases = at, worker, None
        match message:
            case Start():
                if self.phase == "new":
                    self.phase, self.begins = "running", message.begin_at
                    self.deadline = max(at, self.begins) + (self.lasts or 0)
                    self.go()
            case Unwind():
                self.unwound()
            case _ if self.phase not in {"running", "compensating"}:
                pass
            case Reply(direction="do"):
                self.answered(message)
                self.settle()
            case Reply():
                self.undo_answered(message)
            case Tick(leases=leases, held=held, back=back):
                self.leases, self.silent, self.back = leases, held, back
                self.woken()
                self.settle()
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
                for work in self.begun if self.phase == "running" else self.undos:
                    if work.status == "backoff" and not self.turning:
                        self.again(work)
                self.wait_over()
                self.go()
            case RetryStep() | ResolveStep() | SkipStep():
                if not self.paused:
                    self.mended(message)

    def unwound(self) -> None:
        if self.phase == "new":
            self.phase = "compensated"
        elif self.phase in {"running", "completed"} and not self.no_return:
            self.paused = False
            self.turn()

    def settle(self) -> None:
        if self.turning:
            self.go()

    # ------------------------------------------------------------------------------------------------ what is blocked

    def mended(self, act: RetryStep | ResolveStep | SkipStep) -> None:
        found = list(self.alarms)
        both = [("do", self.begun)] if self.phase == "running" else [("undo", self.undos)]
        found += [(w.name, way) for way, works in both for w in works if w.unheard and w.status == "outstanding"]
        if isinstance(act, RetryStep):
            found += [(work.name, way) for way, works in both for work in works if work.status == "backoff"]
        elif isinstance(act, SkipStep) and self.phase == "running":
            found += [(w.name, "do") for w in self.begun if self.part[w.name].waits and w.status == "outstanding"]
        found = [one for one in dict.fromkeys(found) if act.step in {"", one[0]}]
        if len(found) != 1 or self.turning:
            return
        name, way = found[0]
        if isinstance(act, RetryStep):
            self.tried_again(name, way)
        elif way == "undo":
            self.todo.remove(name)
            self.left += [name] * isinstance(act, SkipStep)
            self.undos = [undo for undo in self.undos if undo.name != name]
            self.calm(name, way)
        elif not self.done_by_hand(act, name):
            return
        self.go()

    def tried_again(self, name: str, way: str) -> None:
        work = self.undo(name) if way == "undo" else self.work(name)
        self.calm(name, way)
        if work is not None and (work.status == "backoff" or self.part[name].shape in {"command", "saga"}):
            self.again(work)
        elif work is not None and self.part[name].shape == "signal":
            work.since = self.at
        self.wait_over()

    def done_by_hand(self, act: ResolveStep | SkipStep, name: str) -> bool:
        work, part = self.work(name), self.part[name]
        if isinstance(act, ResolveStep):
            if work is None or (part.shape in {"command", "signal", "saga"} and bytes(act.reply) == b"null"):
                return False
            work.status = "done"
        elif work is None:
            self.begun.append(Work(name, "skipped", self.at))
            self.no_return |= part.kind == "pivot"
        elif self.no_return or part.waits:
            work.status = "skipped"
        else:
            return False
        self.calm(name, "do")
        return True

    def calm(self, name: str, way: str) -> None:
        self.alarms = [alarm for alarm in self.alarms if alarm != (name, way)]

    def alarm(self, name: str, way: str) -> None:
        if (name, way) not in self.alarms:
            self.alarms.append((name, way))
            rung = self.undo(name) if way == "undo" else self.work(name)
            if rung is not None:
                rung.parked = 0

    # ------------------------------------------------------------------------------------------------------- movement

    def go(self) -> None:
        if self.turning and not self.settling():
            self.turn()
        if self.paused or (self.phase == "running" and not self.begun and not self.listed and self.at < self.begins):
            return
        tried: set[str] = set()
        while self.phase == "running" and not self.turning:
            if all(self.over(leaf) for leaf in self.leaves):
                self.phase = "completed"
                return
            free = [leaf for leaf in self.leaves if leaf.name not in tried and self.may_begin(leaf)]
            if not free:
                return
            if self.late():
                self.turn()
                return
            tried.add(free[0].name)
            self.begin(free[0])
        tried = set()
        while self.phase == "compensating":
            if not self.todo:
                self.phase = "compensated"
                return
            ready = [name for name in self.todo if name not in tried and self.may_be_undone(name)]
            if not ready:
                return
            tried.add(ready[0])
            self.begin_undo(ready[0])

    def may_begin(self, leaf: Leaf) -> bool:
        if self.work(leaf.name) is not None or leaf.name in self.listed:
            return False
        if not all(self.over(other) for other in self.leaves if before(other.path, leaf.path)):
            return False
        if not leaf.item[0]:
            return True
        busy = self.busy(leaf.item[0])
        return leaf.item[0] in self.listed and (leaf.item[1] in busy or len(busy) < leaf.at_once)

    def busy(self, each: str) -> set[str]:
        """The items that have begun and are not over."""
        mine = [leaf for leaf in self.leaves if leaf.item[0] == each]
        begun = {leaf.item[1] for leaf in mine if self.work(leaf.name) is not None}
        return begun & {leaf.item[1] for leaf in mine if not self.over(leaf)}

    def may_be_undone(self, name: str) -> bool:
        path = self.leaf[name].path
        return self.undo(name) is None and not any(before(path, self.leaf[other].path) for other in self.todo)

    def begin(self, leaf: Leaf) -> None:
        part, name = leaf.part, leaf.name
        if part.guard == "raise" or (part.guard == "fail" and self.no_return):
            self.alarm(name, "do")
            return
        if part.guard == "fail":
            self.failed()
            return
        self.calm(name, "do")
        if part.shape == "each" and part.guard != "skip":
            self.listed.add(name)
            return
        status = {"skip": "skipped"}.get(part.guard, "done" if part.shape == "record" else "outstanding")
        self.begun.append(Work(name, status, self.at, runner=self.worker))
        self.no_return |= part.kind == "pivot"
        if status == "outstanding" and name in self.heard:
            self.told(self.begun[-1])

    def begin_undo(self, name: str) -> None:
        work = self.work(name)
        assert work is not None
        at_work = self.part[name].shape == "action" and work.status == "outstanding"
        if at_work and (self.leases is None or self.held(work, "do")):
            return
        self.calm(name, "undo")
        if self.part[name].shape == "record":
            self.todo.remove(name)
        else:
            self.undos.append(Work(name, "outstanding", self.at, runner=self.worker))

    def settling(self) -> bool:
        slow = {"signal", "sleep", "saga"}
        busy = [work for work in self.begun if work.status == "outstanding" and self.part[work.name].shape not in slow]
        return any((work.name, "do") not in self.alarms and not work.parked for work in busy)

    def failed(self) -> None:
        """A step's own failure waits for what is under way beside it."""
        if self.settling():
            self.turning = True
        else:
            self.turn()

    def turn(self) -> None:
        self.phase, self.alarms, self.turning, self.leases = "compensating", [], False, None
        maybe = {"done", "unknown", "outstanding", "backoff"}
        begun = [work for work in self.begun if not self.part[work.name].waits]
        self.todo = [work.name for work in begun if work.status in maybe][::-1]
        self.go()

    # --------------------------------------------------------------------------------------------------------- signals

    def signalled(self, signal: Signal) -> None:
        leaf = self.leaf.get(signal.step)
        work = self.work(signal.step)
        over = work is not None and work.status != "outstanding"
        if leaf is None or leaf.part.shape != "signal" or self.phase != "running" or over or self.turning:
            return
        if leaf.item[0] and leaf.item[0] not in self.listed:
            return
        alarmed = (signal.step, "do") in self.alarms
        if signal.step in self.heard and (not alarmed or self.heard[signal.step] == bytes(signal.payload)):
            return
        if bytes(signal.payload) == b"null":
            return
        self.heard[signal.step] = bytes(signal.payload)
        if work is not None and self.told(work):
            self.go()

    def told(self, work: Work) -> bool:
        """A step hears what it waits for; whether the saga goes forward."""
        if b"no" not in self.heard[work.name]:
            work.status = "done"
            self.calm(work.name, "do")
        elif self.no_return:
            self.alarm(work.name, "do")
        else:
            work.status = "refused"
            self.calm(work.name, "do")
            self.failed()
        return work.status == "done"

    # --------------------------------------------------------------------------------------------------------- answers

    def answered(self, reply: Reply) -> None:
        work = self.work(reply.step)
        if work is None or self.part[work.name].waits:
            return
        part = self.part[work.name]
        mine = reply.outcome != "failed" or reply.attempt == work.attempt
        if self.phase == "running" and work.status in {"outstanding", "backoff"}:
            if reply.outcome == "ok" and part.shape in {"command", "saga"} and bytes(reply.payload) == b"null":
                self.alarm(work.name, "do")
            elif reply.outcome == "ok":
                work.status = "done"
                self.calm(work.name, "do")
                self.go()
            elif reply.outcome == "refused" and self.no_return and part.kind != "pivot":
                self.alarm(work.name, "do")
            elif reply.outcome == "refused":
                work.status = "refused"
                self.calm(work.name, "do")
                self.failed()
            elif mine and work.status == "outstanding":
                self.attempt_over(work)
        elif self.phase == "compensating" and part.shape == "action" and work.name in self.todo and mine:
            self.settled(work, reply.outcome)

    def settled(self, work: Work, outcome: str) -> None:
        if self.undo(work.name) is None and work.status == "outstanding":
            work.status = {"ok": "done", "refused": "refused", "failed": "unknown"}[outcome]
            self.todo = [name for name in self.todo if name != work.name or work.status != "refused"]
            self.go()

    def undo_answered(self, reply: Reply) -> None:
        undo = self.undo(reply.step)
        if undo is None:
            return
        if reply.outcome == "ok":
            self.todo.remove(undo.name)
            self.undos.remove(undo)
            self.calm(undo.name, "undo")
            self.go()
        elif reply.outcome == "refused":
            self.alarm(undo.name, "undo")
        elif undo.status == "outstanding" and reply.attempt == undo.attempt:
            self.undo_attempt_over(undo)

    def attempt_over(self, work: Work) -> None:
        if (work.name, "do") in self.alarms:
            return
        if self.turning:
            work.status = "unknown"
        elif work.attempt < self.part[work.name].attempts:
            work.status, work.until = "backoff", self.at + DELAY
        elif self.no_return:
            self.alarm(work.name, "do")
        else:
            work.status = "unknown"
            self.failed()

    def undo_attempt_over(self, undo: Work) -> None:
        if (undo.name, "undo") in self.alarms:
            return
        if undo.attempt < self.part[undo.name].undo_attempts:
            undo.status, undo.until = "backoff", self.at + DELAY
        else:
            self.alarm(undo.name, "undo")

    # ------------------------------------------------------------------------------------------------------------ time

    def woken(self) -> None:
        if self.paused:
            return
        if self.phase == "running" and self.late():
            self.turn()
        elif self.phase == "running":
            for work in list(self.begun):
                if self.phase == "running":
                    self.aged(work, "do")
            if self.phase == "running":
                self.go()
        else:
            for undo in list(self.undos):
                self.aged(undo, "undo")
            self.go()

    def aged(self, work: Work, direction: str) -> None:
        if work.status == "backoff" and self.at >= work.until and not self.turning:
            self.again(work)
        elif work.status != "outstanding":
            return
        elif self.part[work.name].waits:
            self.waited(work)
        elif self.part[work.name].shape == "command":
            if work.parked:
                back = f"saga-1/{work.name}/{direction}" in self.back
                if not self.turning and (back or (self.at >= work.parked and not self.park(work, direction))):
                    work.parked, work.since = 0, self.at
            elif self.at >= work.since + TIMEOUT and not self.park(work, direction):
                (self.attempt_over if direction == "do" else self.undo_attempt_over)(work)
        elif self.part[work.name].shape == "action" and not self.held(work, direction) and work.runner != self.worker:
            work.runner, work.since = self.worker, self.at

    def park(self, work: Work, direction: str) -> bool:
        until = self.silent.get(f"saga-1/{work.name}/{direction}")
        if until is None or self.turning or (work.name, direction) in self.alarms:
            return False
        work.parked, work.unheard = min(max(until, self.at + SECOND), self.at + 300 * SECOND), True
        return True

    def wait_over(self) -> None:
        """What waits may have been told, or its time may have come, while it was held up."""
        for work in list(self.begun):
            if self.phase == "running" and work.status == "outstanding":
                self.waited(work)

    def waited(self, work: Work) -> None:
        part, over = self.part[work.name], self.at >= work.since + TIMEOUT
        if not part.waits or self.turning:
            return
        if work.name in self.heard:
            self.told(work)
        elif over and part.shape == "sleep":
            work.status = "done"
            self.calm(work.name, "do")
        elif over and part.late == "skip":
            work.status = "skipped"
            self.calm(work.name, "do")
        elif over and self.no_return:
            self.alarm(work.name, "do")
        elif over:
            work.status = "unknown"
            self.failed()

    def late(self) -> bool:
        return self.lasts is not None and not self.no_return and self.at >= self.deadline

    def held(self, work: Work, direction: str) -> bool:
        kept = (self.leases or {}).get(f"saga-1/{work.name}/{direction}", 0)
        return self.at < max(work.since + LEASE, kept)

    def again(self, work: Work) -> None:
        work.status, work.attempt, work.since, work.runner = "outstanding", work.attempt + 1, self.at, self.worker
        work.parked, work.unheard = 0, False

    def restart(self) -> None:
        self.paused, self.alarms = False, []
        for work in [*self.begun, *self.undos]:
            if work.status == "outstanding" and self.part[work.name].shape in {"command", "signal"}:
                work.since, work.parked = self.at, 0
