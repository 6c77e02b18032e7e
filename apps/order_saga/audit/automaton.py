"""The reference automaton: which histories of a saga are legal. A second opinion, from the rules of the machine.

It shares no code with the engine and does not know the saga's definition: it reads stored JSON events and accepts
a history, event by event, or says which event cannot stand where it stands.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

from order_saga.audit.report import Finding, Rule

Event = dict[str, Any]
TERMINAL = {"saga_completed/1": "completed", "saga_compensated/1": "compensated"}
_OPEN = ("outstanding", "backoff")
_OVER = {
    "step_done/1": ("done", _OPEN),
    "step_refused/1": ("refused", _OPEN),
    "step_failed/1": ("backoff", ("outstanding",)),
    "step_unknown/1": ("unknown", ("outstanding",)),
}
"""What the end of an attempt makes of its step, and what the step must have been."""
_TO_UNDO = ("done", "unknown", *_OPEN)


class RejectedError(Exception):
    """The history is not legal."""

    def __init__(self, rule: Rule, found: str, expected: str) -> None:
        super().__init__(rule)
        self.finding = Finding(rule, found, expected)


class Automaton:
    """A saga's history as it is read; after the last event, what the saga is."""

    def __init__(self, saga_id: str) -> None:
        self.saga_id = saga_id
        self.status = "new"
        self.runs: dict[str, str] = {}
        """Status of each step, in the order in which the steps were started."""
        self.attempts: dict[str, int] = {}
        self.pivot = ""
        self.targets: list[str] = []
        self.undo = ("", "")
        """The step being undone, and how that stands."""
        self.paused = False
        self.blocked = False
        self.resolved = ""
        """The step that a person has just done or undone: that it is over follows."""
        self.sent: set[str] = set()
        """Effects that are asked for with a command: a retry ends their attempt, an action's goes on."""
        self.parked: dict[str, int] = {}
        """Effects that are left alone, since their participant answers nobody, and until when."""
        self.unheard: set[str] = set()
        """Effects that were parked in this attempt, and are not answered: a person may take them over."""
        self.streams: dict[str, int] = {}
        """Number of domain events by stream."""
        self._number = 0

    def read(self, events: Sequence[Event]) -> None:
        """Follow further events. Raises RejectedError at the first that is not legal."""
        for event in events:
            self._number += 1
            name = str(event.get("type"))
            self._expect(name in self._rules, Rule.LEGAL, name, "an event that sagas have")
            self._expect(self.status not in TERMINAL.values(), Rule.TERMINAL, name, f"nothing after {self.status}")
            self._expect((self.status == "new") == (name == "saga_started/1"), Rule.LEGAL, name, "one start, first")
            self._rules[name](self, event)

    @property
    def shown_status(self) -> str:
        """The status as it stands in the saga's row."""
        if self.status in TERMINAL.values():
            return self.status
        return "paused" if self.paused else "blocked" if self.blocked else self.status

    def _expect(self, holds: bool, rule: Rule, found: str, expected: str) -> None:
        if not holds:
            raise RejectedError(rule, f"event {self._number}: {found}", expected)

    # ---------------------------------------------------------------------------------------------------- rules

    def _started(self, event: Event) -> None:
        self._expect(event["saga_id"] == self.saga_id, Rule.LEGAL, f"start of {event['saga_id']}", "its own start")
        self.status = "running"

    def _step_started(self, event: Event) -> None:
        step = self._begin(event)
        self.runs[step] = "outstanding"
        self._attempt(f"{step}/do", event, 1)

    def _step_skipped(self, event: Event) -> None:
        step = str(event["step"])
        if event.get("actor"):
            self._in_need(event)
        if step in self.runs:
            fits = self.status == "running" and self.runs[step] in _OPEN and bool(self.pivot) and event.get("actor")
            self._expect(bool(fits), Rule.PIVOT, f"{step} skipped", "only what was not begun, or is past the pivot")
            self.runs[step], self.blocked = "skipped", False
            self._asked_no_more(f"{step}/do")
        else:
            self.runs[self._begin(event)] = "skipped"

    def _begin(self, event: Event) -> str:
        """A step may begin: the saga runs forward, and the steps before are over."""
        step = str(event["step"])
        self._expect(self.status == "running", Rule.BACKWARD, f"{event['type']} {step}", "undos")
        self._expect(not self.paused and step not in self.runs, Rule.LEGAL, f"{event['type']} {step}", "a new step")
        over = all(status in {"done", "skipped"} for status in self.runs.values())
        self._expect(over, Rule.LEGAL, f"{event['type']} {step}", f"the steps before it to be over: {self.runs}")
        self.blocked = False
        self.pivot = step if event.get("pivot") else self.pivot
        return step

    def _step_over(self, event: Event) -> None:
        step, (status, allowed) = str(event["step"]), _OVER[event["type"]]
        self._expect(self.status == "running", Rule.LEGAL, f"{event['type']} {step}", "a running saga")
        fits = self.runs.get(step) in allowed
        self._expect(fits, Rule.LEGAL, f"{event['type']} {step}", f"{step} to be {' or '.join(allowed)}")
        self._same_attempt(f"{step}/do", event)
        self._not_parked(f"{step}/do", event)
        self.runs[step] = status
        self.resolved = ""
        self.blocked = self.blocked and status not in {"done", "refused"}

    def _step_retried(self, event: Event) -> None:
        step = str(event["step"])
        waiting = self.status == "running" and self.runs.get(step) == "backoff" and not self.paused
        self._expect(waiting, Rule.LEGAL, f"retry of {step}", f"{step} in a backoff")
        self.runs[step] = "outstanding"
        self._attempt(f"{step}/do", event, self.attempts[f"{step}/do"] + 1)

    def _step_settled(self, event: Event) -> None:
        step = str(event["step"])
        waited = self.status == "compensating" and self.targets[:1] == [step] and self.runs[step] == "outstanding"
        self._expect(waited, Rule.LEGAL, f"{step} settled", "a step whose undo waits for it")
        self.runs[step] = {"ok": "done", "refused": "refused", "failed": "unknown"}[event["outcome"]]
        if self.runs[step] == "refused":
            self.targets.remove(step)

    def _turned(self, event: Event) -> None:
        cause, targets = event["cause"], list(event.get("targets", ()))
        self._expect(self.status == "running", Rule.LEGAL, "a second turning round", "one at most")
        last = next(reversed(self.runs.values()), "")
        ends = ("refused", "unknown")
        fits = last == cause if cause in ends else last not in ends
        self._expect(fits, Rule.LEGAL, f"cause {cause}", f"a cause that fits the last step, which is {last or 'none'}")
        back = not self.pivot or self.runs[self.pivot] == "refused"
        self._expect(back, Rule.PIVOT, f"cause {cause}", f"only forward after {self.pivot}")
        owed = [step for step in reversed(self.runs) if self.runs[step] in _TO_UNDO]
        self._expect(targets == owed, Rule.REVERSE, f"targets {targets}", f"{owed}")
        self.status, self.targets, self.blocked = "compensating", targets, False
        self.parked.clear()
        self.unheard.clear()
        self.paused = self.paused and cause != "cancelled"

    def _undo_started(self, event: Event) -> None:
        step = str(event["step"])
        free = self.status == "compensating" and not self.undo[0] and not self.paused
        self._expect(free, Rule.LEGAL, f"undo of {step}", "a compensating saga without an undo under way")
        self._expect(self.targets[:1] == [step], Rule.REVERSE, f"undo of {step}", f"of {self.targets[:1]}")
        self.undo, self.blocked = (step, "outstanding"), False
        self._attempt(f"{step}/undo", event, 1)

    def _undo_failed(self, event: Event) -> None:
        self._under_way(event, ("outstanding",))
        self._not_parked(f"{event['step']}/undo", event)
        self.undo = (self.undo[0], "backoff")

    def _undo_retried(self, event: Event) -> None:
        step = str(event["step"])
        self._expect(self.undo == (step, "backoff"), Rule.LEGAL, f"retry of undo {step}", "an undo in a backoff")
        self.undo = (step, "outstanding")
        self._attempt(f"{step}/undo", event, self.attempts[f"{step}/undo"] + 1)

    def _undo_done(self, event: Event) -> None:
        self._under_way(event, _OPEN)
        self.targets.remove(self.undo[0])
        self._asked_no_more(f"{self.undo[0]}/undo")
        self.undo, self.blocked, self.resolved = ("", ""), False, ""

    def _undo_skipped(self, event: Event) -> None:
        self._in_need(event)
        self._expect(self.targets[:1] == [event["step"]], Rule.REVERSE, f"undo of {event['step']} skipped", "the next")
        self.targets.remove(event["step"])
        self._asked_no_more(f"{event['step']}/undo")
        self.undo, self.blocked = ("", ""), False

    def _retry_ordered(self, event: Event) -> None:
        step, undone = str(event["step"]), event["direction"] == "undo"
        run = self.undo[1] if undone else self.runs.get(step, "")
        effect = f"{step}/{event['direction']}"
        needed = not self.paused and (self.blocked or run == "backoff" or effect in self.unheard)
        self._expect(needed, Rule.LEGAL, f"retry of {step} ordered", "something blocked, or in a backoff")
        self._asked_no_more(effect)
        if run in _OPEN and effect in self.sent:
            if undone:
                self.undo = (step, "backoff")
            else:
                self.runs[step] = "backoff"
        self.blocked = False

    def _resolved_by_hand(self, event: Event) -> None:
        self._in_need(event)
        self._expect(not self.resolved, Rule.LEGAL, f"{event['step']} resolved again", "resolved once")
        self.resolved = str(event["step"])

    def _in_need(self, event: Event) -> None:
        found = f"{event['type']} {event['step']} by {event['actor']}"
        needed = self.blocked or any(f"{event['step']}/{way}" in self.unheard for way in ("do", "undo"))
        self._expect(needed and not self.paused, Rule.LEGAL, found, "a saga that needs a person")

    def _under_way(self, event: Event, statuses: tuple[str, ...]) -> None:
        step = str(event["step"])
        fits = self.undo[0] == step and self.undo[1] in statuses
        self._expect(fits, Rule.LEGAL, f"{event['type']} {step}", f"the undo under way: {self.undo[0] or 'none'}")
        self._same_attempt(f"{step}/undo", event)

    def _taken_over(self, event: Event) -> None:
        step, undone = event["step"], event["direction"] == "undo"
        held = self.undo == (step, "outstanding") if undone else self.runs.get(step) == "outstanding"
        self._expect(held, Rule.LEGAL, f"{event['direction']} of {step} taken over", "an action under way")

    def _parked(self, event: Event) -> None:
        step, undone = event["step"], event["direction"] == "undo"
        open_ = self.undo == (step, "outstanding") if undone else self.runs.get(step) == "outstanding"
        turned = self.status == "compensating"
        effect = f"{step}/{event['direction']}"
        fits = open_ and undone == turned and effect in self.sent and not self.paused and not self.blocked
        self._expect(fits, Rule.LEGAL, f"{effect} parked", "a command that waits for its answer")
        over = self.parked.get(effect, 0) <= event["at"] < event["until"]
        self._expect(over, Rule.LEGAL, f"{effect} parked at {event['at']} until {event['until']}", "one after another")
        self.parked[effect] = event["until"]
        self.unheard.add(effect)

    def _released(self, event: Event) -> None:
        effect = f"{event['step']}/{event['direction']}"
        self._expect(effect in self.parked and not self.paused, Rule.LEGAL, f"{effect} released", "what is parked")
        del self.parked[effect]

    def _not_parked(self, effect: str, event: Event) -> None:
        spent = bool(event.get("timed_out")) and effect in self.parked
        self._expect(not spent, Rule.LEGAL, f"{effect} timed out", "no attempt spent while it is parked")
        self._asked_no_more(effect)

    def _asked_no_more(self, effect: str) -> None:
        self.parked.pop(effect, None)
        self.unheard.discard(effect)

    def _blocked(self, event: Event) -> None:
        self._expect(not self.blocked, Rule.LEGAL, "blocked again", "blocked once")
        self.blocked = True
        self.parked.clear()

    def _paused(self, event: Event) -> None:
        self._expect(not self.paused, Rule.LEGAL, "paused again", "paused once")
        self.paused = True

    def _resumed(self, event: Event) -> None:
        self.paused = self.blocked = False
        self.parked.clear()

    def _recorded(self, event: Event) -> None:
        count = event["count"]
        self._expect(count > 0, Rule.LEGAL, f"{count} domain events", "at least one")
        self.streams[event["stream"]] = self.streams.get(event["stream"], 0) + count

    def _completed(self, event: Event) -> None:
        over = self.status == "running" and {*self.runs.values()} <= {"done", "skipped"} and not self.paused
        self._expect(over, Rule.LEGAL, f"completed with {self.runs}", "every step done or skipped")
        self.status = "completed"

    def _compensated(self, event: Event) -> None:
        over = self.status == "compensating" and not self.undo[0] and not self.targets
        self._expect(over, Rule.LEGAL, f"compensated with {self.targets} to undo", "every target undone")
        self.status = "compensated"

    def _attempt(self, effect: str, event: Event, number: int) -> None:
        found = event["attempt"].get("number", 1)
        self._expect(found == number, Rule.LEGAL, f"attempt {found} of {effect}", f"attempt {number}")
        self.attempts[effect] = number
        if event.get("command") is not None:
            self.sent.add(effect)

    def _same_attempt(self, effect: str, event: Event) -> None:
        found, under_way = event["attempt"], self.attempts[effect]
        self._expect(found == under_way, Rule.LEGAL, f"attempt {found} of {effect} over", f"attempt {under_way}")

    _rules: ClassVar[Mapping[str, Callable[["Automaton", Event], None]]] = {
        "saga_started/1": _started,
        "step_started/1": _step_started,
        "step_skipped/1": _step_skipped,
        **dict.fromkeys(_OVER, _step_over),
        "step_retried/1": _step_retried,
        "step_settled/1": _step_settled,
        "compensation_started/1": _turned,
        "undo_started/1": _undo_started,
        "undo_failed/1": _undo_failed,
        "undo_retried/1": _undo_retried,
        "undo_done/1": _undo_done,
        "action_taken_over/1": _taken_over,
        "attempt_parked/1": _parked,
        "attempt_released/1": _released,
        "saga_blocked/1": _blocked,
        "saga_paused/1": _paused,
        "saga_resumed/1": _resumed,
        "retry_ordered/1": _retry_ordered,
        "resolved_by_hand/1": _resolved_by_hand,
        "undo_skipped/1": _undo_skipped,
        "domain_recorded/1": _recorded,
        "saga_completed/1": _completed,
        "saga_compensated/1": _compensated,
    }
