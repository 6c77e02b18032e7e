"""The laws a schedule must keep, checked against a second, independent model of a saga folded from its events.

It shares no transition with the core: a rule that is lost there shows as a broken law here.
"""

from collections.abc import Sequence
from typing import Any

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core.saga import Saga
from unwind.core.steps import Kind

LIVE = ("running", "compensating")
RESEND = 2_000_000
LEASE = 6_000_000
SECOND = 1_000_000
LONGEST = 300 * SECOND
"""For which an attempt is parked."""
DRIVES = {"do": "running", "undo": "compensating"}


class Law(Exception):  # noqa: N818 - it is the law that was broken
    """A broken law, by name."""


class Model:
    """What a saga is by its events, as plain as can be."""

    def __init__(self, saga: Saga[Any]) -> None:
        """`saga` gives the names and kinds of the steps."""
        self.saga = saga
        self.names = [plan.name for plan in saga.plans]
        self.undoable = {plan.name for plan in saga.plans if plan.undoable}
        self.pivot = next((plan.name for plan in saga.plans if plan.kind is Kind.PIVOT), None)
        self.plans = {plan.name: plan for plan in saga.plans}
        self.version = 0
        self.status = "new"
        self.paused = False
        self.blocked: tuple[int, int] | None = None
        self.deadline: int | None = None
        self.begin_at = 0
        self.steps: dict[str, dict[str, Any]] = {}
        self.targets: list[str] = []
        self.undo: dict[str, Any] | None = None
        self.ended_at = 0
        self.notes = 0
        self.signals: set[str] = set()
        self.by_hand: set[str] = set()
        """Steps that a person did, undid or left out: what became of their effects is theirs to say."""

    # ------------------------------------------------------------------------------------------------------------ fold

    def apply(self, event: e.Event, failures: set[tuple[str, str, int]]) -> None:
        """One more event; raises Law when it may not happen now. `failures` are those that were really reported."""
        if self.status not in (*LIVE, "new"):
            raise Law("event_after_the_end")
        if isinstance(event, e.SagaStarted) != (self.status == "new"):
            raise Law("not_started_once")
        self.version += 1
        handler = getattr(self, "_" + type(event).__name__)
        handler(event) if type(event) not in _JUDGED else handler(event, failures)

    def _SagaStarted(self, event: e.SagaStarted) -> None:  # noqa: N802
        self.status, self.deadline, self.begin_at = "running", event.deadline, event.begin_at

    def _StepStarted(self, event: e.StepStarted) -> None:  # noqa: N802
        self._forward("step_started")
        if event.step in self.steps or event.step != self.names[len(self.steps)]:
            raise Law("step_out_of_order")
        if self.paused:
            raise Law("work_begun_while_paused")
        if event.at < self.begin_at:
            raise Law("begun_before_its_time")
        if any(step["st"] not in {"done", "skipped"} for step in self.steps.values()):
            raise Law("step_started_before_the_last_one_was_done")
        service = event.command.service if event.command else ""
        self.steps[event.step] = {"st": "out", "waits": event.waits, "service": service, **self._clock(event.attempt)}
        self.blocked = None

    def _StepSkipped(self, event: e.StepSkipped) -> None:  # noqa: N802
        self._forward("step_skipped")
        waits = self.steps.get(event.step, {}).get("waits")
        if event.actor and not waits:
            self._by_hand(event.step)
        if event.step not in self.steps:
            self.steps[event.step] = {"st": "skipped", "n": 0, "parked": 0, "unheard": False}
        elif waits:
            if not event.actor and event.at < self.steps[event.step]["expires"]:
                raise Law("skipped_before_its_time")
            self._end(event.step, "skipped", ("out",))
        elif not event.actor or (self.pivot or "") not in self.steps:
            raise Law("skipped_what_may_have_to_be_undone")
        else:
            self._end(event.step, "skipped", ("out", "backoff"))
        self.blocked = None

    def _StepDone(self, event: e.StepDone) -> None:  # noqa: N802
        self._forward("step_done")
        step = self._step(event.step)
        if step["waits"] == "sleep" and event.at < step["expires"]:
            raise Law("woken_before_its_time")
        if step["waits"] == "signal" and event.step not in self.signals | self.by_hand:
            raise Law("done_without_its_signal")
        self._end(event.step, "done", ("out", "backoff"))
        self.blocked = None

    def _StepRefused(self, event: e.StepRefused) -> None:  # noqa: N802
        self._forward("step_refused")
        self._end(event.step, "refused", ("out", "backoff"))
        self.blocked = None

    def _StepUnknown(self, event: e.StepUnknown, failures: set[tuple[str, str, int]]) -> None:  # noqa: N802
        self._over(event, "do", self._step(event.step), failures)
        self._forward("step_unknown")
        self._end(event.step, "unknown", ("out",))

    def _StepFailed(self, event: e.StepFailed, failures: set[tuple[str, str, int]]) -> None:  # noqa: N802
        step = self._step(event.step)
        self._over(event, "do", step, failures)
        self._end(event.step, "backoff", ("out",))
        step["retry"] = event.retry_at

    def _StepRetried(self, event: e.StepRetried) -> None:  # noqa: N802
        self._forward("step_retried")
        step = self._step(event.step)
        if step["st"] != "backoff" or event.attempt.number != step["n"] + 1:
            raise Law("retry_without_a_backoff")
        step.update(st="out", **self._clock(event.attempt))

    def _StepSettled(self, event: e.StepSettled) -> None:  # noqa: N802
        self._end(event.step, {"ok": "done", "refused": "refused", "failed": "unknown"}[event.outcome], ("out",))
        if event.outcome == "refused" and event.step in self.targets:
            self.targets.remove(event.step)

    def _CompensationStarted(self, event: e.CompensationStarted) -> None:  # noqa: N802
        self._forward("compensation_started")
        pivot = self.steps.get(self.pivot or "")
        if pivot is not None and pivot["st"] != "refused":
            raise Law("turned_round_past_the_pivot")
        expected = [
            name
            for name, step in reversed(self.steps.items())
            if step["st"] in {"done", "unknown", "out", "backoff"} and name in self.undoable
        ]
        if list(event.targets) != expected:
            raise Law("wrong_compensation_targets")
        self.status, self.targets, self.blocked = "compensating", expected, None
        self.paused = self.paused and event.cause != "cancelled"

    def _UndoStarted(self, event: e.UndoStarted) -> None:  # noqa: N802
        if self.status != "compensating" or self.undo is not None or self.targets[:1] != [event.step]:
            raise Law("undo_out_of_order")
        if self.paused:
            raise Law("work_begun_while_paused")
        do = self._step(event.step)
        if self.plans[event.step].shape == "action" and do["st"] == "out" and event.at < do["since"] + LEASE:
            raise Law("undo_begun_while_its_action_may_run")
        service = event.command.service if event.command else ""
        self.undo = {"step": event.step, "st": "out", "service": service, **self._clock(event.attempt)}
        self.blocked = None

    def _UndoFailed(self, event: e.UndoFailed, failures: set[tuple[str, str, int]]) -> None:  # noqa: N802
        undo = self._current_undo(event.step)
        self._over(event, "undo", undo, failures)
        undo.update(st="backoff", retry=event.retry_at, parked=0)

    def _UndoRetried(self, event: e.UndoRetried) -> None:  # noqa: N802
        undo = self._current_undo(event.step)
        if undo["st"] != "backoff" or event.attempt.number != undo["n"] + 1:
            raise Law("retry_without_a_backoff")
        undo.update(st="out", **self._clock(event.attempt))

    def _UndoDone(self, event: e.UndoDone) -> None:  # noqa: N802
        self._current_undo(event.step)
        if self.targets[:1] != [event.step]:
            raise Law("undone_out_of_order")
        self.targets.pop(0)
        self.undo, self.blocked = None, None

    def _ActionTakenOver(self, event: e.ActionTakenOver) -> None:  # noqa: N802
        run = self._current_undo(event.step) if event.direction == "undo" else self._step(event.step)
        if event.at < run["since"] + LEASE:
            raise Law("taken_over_within_the_lease")
        run["since"] = event.at

    def _AttemptParked(self, event: e.AttemptParked) -> None:  # noqa: N802
        run = self._asked(event)
        if self.paused or self.blocked is not None:
            raise Law("parked_what_is_not_driven")
        if event.at < (run["parked"] or run["expires"]):
            raise Law("parked_before_its_time")
        if not SECOND <= event.until - event.at <= LONGEST:
            raise Law("parked_for_too_long")
        run.update(parked=event.until, unheard=True)

    def _AttemptReleased(self, event: e.AttemptReleased) -> None:  # noqa: N802
        run = self._asked(event)
        if self.paused or not run["parked"]:
            raise Law("released_what_is_not_parked")
        self._anew(run, event.at)

    def _asked(self, event: e.AttemptParked | e.AttemptReleased) -> dict[str, Any]:
        """What has sent a command and waits for the answer."""
        run = self._current_undo(event.step) if event.direction == "undo" else self._step(event.step)
        if run["st"] != "out" or not run["service"] or self.status != DRIVES[event.direction]:
            raise Law("parked_what_nobody_was_asked_for")
        return run

    @staticmethod
    def _anew(run: dict[str, Any], at: int) -> None:
        run.update(expires=at + run["expires"] - run["since"], since=at, parked=0)

    def _SagaBlocked(self, event: e.SagaBlocked) -> None:  # noqa: N802
        self.blocked = (event.at, event.retry_every)
        for run in self._every_run():
            run["parked"] = 0

    def _SagaPaused(self, _: e.SagaPaused) -> None:  # noqa: N802
        self.paused = True

    def _SagaResumed(self, event: e.SagaResumed) -> None:  # noqa: N802
        self.paused, self.blocked = False, None
        for run in self._every_run():
            if run["st"] == "out" and run["expires"] is not None and run.get("waits") != "sleep":
                self._anew(run, event.at)

    def _RetryOrdered(self, event: e.RetryOrdered) -> None:  # noqa: N802
        run = self._current_undo(event.step) if event.direction == "undo" and self.undo else self.steps.get(event.step)
        if self.paused:
            raise Law("work_begun_while_paused")
        if self.blocked is None and (run is None or (run["st"] != "backoff" and not run["unheard"])):
            raise Law("retried_what_needs_nobody")
        if run is not None and run["st"] == "out" and self.plans[event.step].shape == "command":
            run.update(st="backoff", retry=event.at, parked=0)
        elif run is not None and run["st"] == "out" and run.get("waits") == "signal":
            run.update(since=event.at, expires=event.at + run["expires"] - run["since"])
        self.blocked = None

    def _SignalReceived(self, event: e.SignalReceived) -> None:  # noqa: N802
        self._forward("signal_received")
        if (event.step in self.signals and self.blocked is None) or self.steps.get(event.step, {}).get(
            "st", "out"
        ) != "out":
            raise Law("signal_heard_twice_or_too_late")
        self.signals.add(event.step)

    def _ResolvedByHand(self, event: e.ResolvedByHand) -> None:  # noqa: N802
        self._by_hand(event.step)

    def _UndoSkipped(self, event: e.UndoSkipped) -> None:  # noqa: N802
        self._by_hand(event.step)
        if self.targets[:1] != [event.step]:
            raise Law("undo_skipped_out_of_order")
        self.targets.pop(0)
        self.undo, self.blocked = None, None

    @property
    def unheard(self) -> bool:
        """Whether something was parked and has not been answered since: a person may take it over."""
        runs = self.steps.values() if self.status == "running" else [self.undo] if self.undo else []
        return any(run["unheard"] and run["st"] == "out" for run in runs)

    def _by_hand(self, step: str) -> None:
        if (self.blocked is None and not self.unheard) or self.paused:
            raise Law("done_by_hand_what_needs_nobody")
        self.by_hand.add(step)

    def _DomainRecorded(self, event: e.DomainRecorded) -> None:  # noqa: N802
        self.notes += event.count

    def _SagaCompleted(self, event: e.SagaCompleted) -> None:  # noqa: N802
        self._forward("saga_completed")
        if list(self.steps) != self.names or any(step["st"] not in {"done", "skipped"} for step in self.steps.values()):
            raise Law("completed_without_every_step_done")
        self.status, self.ended_at = "completed", event.at

    def _SagaCompensated(self, event: e.SagaCompensated) -> None:  # noqa: N802
        if self.status != "compensating" or self.targets or self.undo:
            raise Law("compensated_with_steps_left_to_undo")
        self.status, self.ended_at = "compensated", event.at

    # ------------------------------------------------------------------------------------------------------- judgements

    @staticmethod
    def _clock(attempt: m.Attempt) -> dict[str, Any]:
        clock = {"n": attempt.number, "since": attempt.at, "expires": attempt.expires, "resend": attempt.resend}
        return {**clock, "parked": 0, "unheard": False}

    def _every_run(self) -> list[dict[str, Any]]:
        return [*self.steps.values(), *([self.undo] if self.undo else [])]

    def _forward(self, what: str) -> None:
        if self.status != "running":
            raise Law(f"{what}_after_turning_round")

    def _end(self, name: str, status: str, allowed: Sequence[str]) -> None:
        if name not in self.steps or self.steps[name]["st"] not in allowed:
            raise Law(f"{status}_from_{self.steps.get(name, {}).get('st')}")
        self.steps[name].update(st=status, parked=0)

    def _step(self, name: str) -> dict[str, Any]:
        if name not in self.steps:
            raise Law("answer_for_a_step_that_was_never_started")
        return self.steps[name]

    def _current_undo(self, step: str) -> dict[str, Any]:
        if self.undo is None or self.undo["step"] != step:
            raise Law("answer_for_an_undo_that_is_not_outstanding")
        return self.undo

    def _over(
        self,
        event: e.StepFailed | e.StepUnknown | e.UndoFailed,
        direction: str,
        run: dict[str, Any],
        failures: set[tuple[str, str, int]],
    ) -> None:
        """An attempt ends by a failure reported for that very attempt, or because its time is up."""
        if run["expires"] is None:
            return
        if event.timed_out and (event.at < run["expires"] or run["parked"]):
            raise Law("timed_out_before_its_time")
        if not event.timed_out and (event.step, direction, run["n"]) not in failures:
            raise Law("attempt_ended_by_a_failure_of_another")

    def latest_wake(self, now: int) -> int | None:
        """When the saga must be awake at the latest, by rule; None: it needs no wake-up."""
        if self.status not in LIVE or self.paused:
            return None
        candidates: list[int] = []
        if self.blocked is not None:
            since, every = self.blocked
            candidates.append(_multiple(since, every, now))
        else:
            runs = self.steps.values() if self.status == "running" else [self.undo] if self.undo else []
            for run in runs:
                if run["st"] == "backoff":
                    candidates.append(run["retry"])
                elif (run.get("waits") or run["parked"]) and run["st"] == "out":
                    candidates.append(run["parked"] or run["expires"])
                elif run["st"] == "out":
                    candidates.append(_multiple(run["since"], run["resend"] or LEASE, now))
                    candidates.extend([] if run["expires"] is None else [run["expires"]])
            if self.status == "compensating" and self.undo is None and self.targets:
                candidates.append(_multiple(self.steps[self.targets[0]]["since"], LEASE, now))
        if self.deadline is not None and self.status == "running" and (self.pivot or "") not in self.steps:
            candidates.append(self.deadline)
        if not self.steps and self.status == "running":
            candidates.append(max(now, self.begin_at))
        return min(candidates, default=now)


_JUDGED = {e.StepUnknown, e.StepFailed, e.UndoFailed}


def _multiple(since: int, every: int, now: int) -> int:
    return since + every * (max(0, now - since) // every + 1)
