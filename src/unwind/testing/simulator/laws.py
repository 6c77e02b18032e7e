"""The laws a schedule must keep, checked against a second, independent model of a saga folded from its events.

It shares no transition with the core: a rule that is lost there shows as a broken law here.
"""

from collections.abc import Sequence
from typing import Any

from unwind.core import events as e
from unwind.core import messages as m
from unwind.core.saga import Saga
from unwind.core.steps import Kind
from unwind.testing.simulator.order import Order

LIVE = ("running", "compensating")
RESEND = 2_000_000
LEASE = 6_000_000
SECOND = 1_000_000
LONGEST = 300 * SECOND
"""For which an attempt is parked."""
DRIVES = {"do": "running", "undo": "compensating"}


class Law(Exception):  # noqa: N818 - it is the law that was broken
    """A broken law, by name."""


class Model(Order):
    """What a saga is by its events, as plain as can be."""

    def __init__(self, saga: Saga[Any]) -> None:
        """`saga` gives the names and kinds of the steps."""
        super().__init__(saga)
        self.undoable = {plan.name for plan in saga.plans if plan.undoable}
        self.pivot = next((plan.name for plan in saga.plans if plan.kind is Kind.PIVOT), None)
        self.version = 0
        self.status, self.paused = "new", False
        self.turning = False
        self.deadline: int | None = None
        self.begin_at = 0
        self.targets: list[str] = []
        self.undos: dict[str, dict[str, Any]] = {}
        self.ended_at = 0
        self.notes = 0
        self.signals: set[str] = set()
        self.by_hand: set[str] = set()
        """Steps that a person did, undid or left out: what became of their effects is theirs to say."""

    # ------------------------------------------------------------------------------------------------------------ fold

    def apply(self, event: e.Event, failures: set[tuple[str, str, int]]) -> None:
        """One more event; raises Law when it may not happen now. `failures` are those that were really reported."""
        unwound = isinstance(event, e.CompensationStarted) and event.cause == "unwound" and self.status == "completed"
        if self.status not in (*LIVE, "new") and not unwound:
            raise Law("event_after_the_end")
        if isinstance(event, e.SagaStarted) != (self.status == "new"):
            raise Law("not_started_once")
        self.version += 1
        handler = getattr(self, "_" + type(event).__name__)
        handler(event) if type(event) not in _JUDGED else handler(event, failures)

    def _SagaStarted(self, event: e.SagaStarted) -> None:  # noqa: N802
        self.status, self.deadline, self.begin_at = "running", event.deadline, event.begin_at

    def _StepStarted(self, event: e.StepStarted) -> None:  # noqa: N802
        self._begins(event.step, event.at)
        service = event.command.service if event.command else ""
        self.steps[event.step] = {"st": "out", "waits": event.waits, "service": service, **self._clock(event.attempt)}
        if len(self.under_way(event.step)) > self.at_once(event.step):
            raise Law("more_items_at_once_than_allowed")

    def _ItemsListed(self, event: e.ItemsListed) -> None:  # noqa: N802
        self._begins(event.step, event.at)
        self.items[event.step] = [key for key, _ in event.items]

    def _begins(self, step: str, at: int) -> None:
        self._forward("step_started")
        if step in self.steps or step in self.items or not self.known(step):
            raise Law("step_out_of_order")
        if self.paused:
            raise Law("work_begun_while_paused")
        if self.turning:
            raise Law("step_started_after_another_had_failed")
        if at < self.begin_at:
            raise Law("begun_before_its_time")
        if not all(self.over(name) for name in self.every_step() if self.stands_before(name, step)):
            raise Law("step_started_before_the_last_one_was_done")
        self._calm(step, "do")

    def _StepSkipped(self, event: e.StepSkipped) -> None:  # noqa: N802
        self._forward("step_skipped")
        waits = self.steps.get(event.step, {}).get("waits")
        if event.actor and not waits:
            self._by_hand(event.step)
        if event.step not in self.steps:
            self._begins(event.step, event.at)
            self.steps[event.step] = {"st": "skipped", "n": 0, "parked": 0, "unheard": False}
        elif waits:
            if not event.actor and event.at < self.steps[event.step]["expires"]:
                raise Law("skipped_before_its_time")
            self._end(event.step, "skipped", ("out",))
        elif not event.actor or (self.pivot or "") not in self.steps:
            raise Law("skipped_what_may_have_to_be_undone")
        else:
            self._end(event.step, "skipped", ("out", "backoff"))
        self._calm(event.step, "do")

    def _StepDone(self, event: e.StepDone) -> None:  # noqa: N802
        self._forward("step_done")
        step = self._step(event.step)
        if step["waits"] == "sleep" and event.at < step["expires"]:
            raise Law("woken_before_its_time")
        if step["waits"] == "signal" and event.step not in self.signals | self.by_hand:
            raise Law("done_without_its_signal")
        self._end(event.step, "done", ("out", "backoff"))
        self._calm(event.step, "do")

    def _StepRefused(self, event: e.StepRefused) -> None:  # noqa: N802
        self._forward("step_refused")
        self._end(event.step, "refused", ("out", "backoff"))
        self._calm(event.step, "do")

    def _StepUnknown(self, event: e.StepUnknown, failures: set[tuple[str, str, int]]) -> None:  # noqa: N802
        self._attempt_over(event, "do", self._step(event.step), failures)
        self._forward("step_unknown")
        self._end(event.step, "unknown", ("out",))

    def _StepFailed(self, event: e.StepFailed, failures: set[tuple[str, str, int]]) -> None:  # noqa: N802
        step = self._step(event.step)
        self._attempt_over(event, "do", step, failures)
        self._end(event.step, "backoff", ("out",))
        step["retry"] = event.retry_at

    def _StepRetried(self, event: e.StepRetried) -> None:  # noqa: N802
        self._forward("step_retried")
        if self.turning:
            raise Law("step_tried_again_after_another_had_failed")
        step = self._step(event.step)
        if step["st"] != "backoff" or event.attempt.number != step["n"] + 1:
            raise Law("retry_without_a_backoff")
        step.update(st="out", **self._clock(event.attempt))

    def _StepSettled(self, event: e.StepSettled) -> None:  # noqa: N802
        self._end(event.step, {"ok": "done", "refused": "refused", "failed": "unknown"}[event.outcome], ("out",))
        if event.outcome == "refused" and event.step in self.targets:
            self.targets.remove(event.step)

    def _TurningRound(self, event: e.TurningRound) -> None:  # noqa: N802
        self._forward("turning_round")
        if self.turning or not self.settling():
            raise Law("settles_though_nothing_is_under_way")
        self.turning = True

    def _CompensationStarted(self, event: e.CompensationStarted) -> None:  # noqa: N802
        if event.cause != "unwound":
            self._forward("compensation_started")
        pivot = self.steps.get(self.pivot or "")
        if pivot is not None and pivot["st"] != "refused":
            raise Law("turned_round_past_the_pivot")
        if event.cause not in {"cancelled", "deadline", "unwound"} and self.settling():
            raise Law("turned_round_before_the_others_had_settled")
        expected = [
            name
            for name, step in reversed(self.steps.items())
            if step["st"] in {"done", "unknown", "out", "backoff"} and self.template(name) in self.undoable
        ]
        if list(event.targets) != expected:
            raise Law("wrong_compensation_targets")
        self.status, self.targets, self.blocks, self.turning = "compensating", expected, {}, False
        self.paused = self.paused and event.cause not in {"cancelled", "unwound"}

    def _UndoStarted(self, event: e.UndoStarted) -> None:  # noqa: N802
        held = any(self.stands_before(event.step, other) for other in self.targets)
        if self.status != "compensating" or event.step in self.undos or event.step not in self.targets or held:
            raise Law("undo_out_of_order")
        if self.paused:
            raise Law("work_begun_while_paused")
        do = self._step(event.step)
        if self.plan(event.step).shape == "action" and do["st"] == "out" and event.at < do["since"] + LEASE:
            raise Law("undo_begun_while_its_action_may_run")
        service = event.command.service if event.command else ""
        self.undos[event.step] = {"st": "out", "service": service, **self._clock(event.attempt)}
        self._calm(event.step, "undo")

    def _UndoFailed(self, event: e.UndoFailed, failures: set[tuple[str, str, int]]) -> None:  # noqa: N802
        undo = self._current_undo(event.step)
        self._attempt_over(event, "undo", undo, failures)
        undo.update(st="backoff", retry=event.retry_at, parked=0)

    def _UndoRetried(self, event: e.UndoRetried) -> None:  # noqa: N802
        undo = self._current_undo(event.step)
        if undo["st"] != "backoff" or event.attempt.number != undo["n"] + 1:
            raise Law("retry_without_a_backoff")
        undo.update(st="out", **self._clock(event.attempt))

    def _UndoDone(self, event: e.UndoDone) -> None:  # noqa: N802
        self._current_undo(event.step)
        self._undone(event.step)

    def _undone(self, step: str) -> None:
        if any(self.stands_before(step, other) for other in self.targets):
            raise Law("undone_out_of_order")
        self.targets.remove(step)
        self.undos.pop(step, None)
        self._calm(step, "undo")

    def _ActionTakenOver(self, event: e.ActionTakenOver) -> None:  # noqa: N802
        run = self._current_undo(event.step) if event.direction == "undo" else self._step(event.step)
        if event.at < run["since"] + LEASE:
            raise Law("taken_over_within_the_lease")
        run["since"] = event.at

    def _AttemptParked(self, event: e.AttemptParked) -> None:  # noqa: N802
        run = self._asked(event)
        if self.paused or self.turning or (event.step, event.direction) in self.blocks:
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
        self.blocks[event.step, event.direction] = (event.at, event.retry_every)
        run = self.undos.get(event.step) if event.direction == "undo" else self.steps.get(event.step)
        if run is not None:
            run["parked"] = 0

    def _SagaPaused(self, _: e.SagaPaused) -> None:  # noqa: N802
        self.paused = True

    def _SagaResumed(self, event: e.SagaResumed) -> None:  # noqa: N802
        self.paused, self.blocks = False, {}
        for run in self._every_run():
            if run["st"] == "out" and run["expires"] is not None and run.get("waits") != "sleep":
                self._anew(run, event.at)

    def _RetryOrdered(self, event: e.RetryOrdered) -> None:  # noqa: N802
        run = self.undos.get(event.step) if event.direction == "undo" else self.steps.get(event.step)
        if self.paused:
            raise Law("work_begun_while_paused")
        if self.turning:
            raise Law("step_tried_again_after_another_had_failed")
        if (event.step, event.direction) not in self.in_need and (run is None or run["st"] != "backoff"):
            raise Law("retried_what_needs_nobody")
        if run is not None and run["st"] == "out" and self.plan(event.step).shape in {"command", "saga"}:
            run.update(st="backoff", retry=event.at, parked=0)
        elif run is not None and run["st"] == "out" and run.get("waits") == "signal":
            run.update(since=event.at, expires=event.at + run["expires"] - run["since"])
        self._calm(event.step, event.direction)

    def _SignalReceived(self, event: e.SignalReceived) -> None:  # noqa: N802
        self._forward("signal_received")
        blocked = (event.step, "do") in self.blocks
        if (
            self.turning
            or (event.step in self.signals and not blocked)
            or self.steps.get(event.step, {}).get("st", "out") != "out"
        ):
            raise Law("signal_heard_twice_or_too_late")
        self.signals.add(event.step)

    def _ResolvedByHand(self, event: e.ResolvedByHand) -> None:  # noqa: N802
        self._by_hand(event.step, event.direction)

    def _UndoSkipped(self, event: e.UndoSkipped) -> None:  # noqa: N802
        self._by_hand(event.step, "undo")
        self._undone(event.step)

    @property
    def in_need(self) -> list[tuple[str, str]]:
        """The steps and undos that a person may take over: blocked, or parked and not answered since."""
        way, runs = ("do", self.steps) if self.status == "running" else ("undo", self.undos)
        unheard = [(name, way) for name, run in runs.items() if run["unheard"] and run["st"] == "out"]
        return [*self.blocks, *unheard]

    def _by_hand(self, step: str, direction: str = "do") -> None:
        if (step, direction) not in self.in_need or self.paused:
            raise Law("done_by_hand_what_needs_nobody")
        self.by_hand.add(step)

    def _DomainRecorded(self, event: e.DomainRecorded) -> None:  # noqa: N802
        self.notes += event.count

    def _SagaCompleted(self, event: e.SagaCompleted) -> None:  # noqa: N802
        self._forward("saga_completed")
        if not all(self.over(name) for name in self.every_step()):
            raise Law("completed_without_every_step_done")
        self.status, self.ended_at = "completed", event.at

    def _SagaCompensated(self, event: e.SagaCompensated) -> None:  # noqa: N802
        if self.status != "compensating" or self.targets or self.undos:
            raise Law("compensated_with_steps_left_to_undo")
        self.status, self.ended_at = "compensated", event.at

    # ------------------------------------------------------------------------------------------------------- judgements

    @staticmethod
    def _clock(attempt: m.Attempt) -> dict[str, Any]:
        clock = {"n": attempt.number, "since": attempt.at, "expires": attempt.expires, "resend": attempt.resend}
        return {**clock, "parked": 0, "unheard": False}

    def _every_run(self) -> list[dict[str, Any]]:
        return [*self.steps.values(), *self.undos.values()]

    def _forward(self, what: str) -> None:
        if self.status != "running":
            raise Law(f"{what}_after_turning_round")

    def _end(self, name: str, status: str, allowed: Sequence[str]) -> None:
        if name not in self.steps or self.steps[name]["st"] not in allowed:
            raise Law(f"{status}_from_{self.steps.get(name, {}).get('st')}")
        self.steps[name].update(st=status, parked=0)

    def _calm(self, step: str, direction: str) -> None:
        self.blocks.pop((step, direction), None)

    def _step(self, name: str) -> dict[str, Any]:
        if name not in self.steps:
            raise Law("answer_for_a_step_that_was_never_started")
        return self.steps[name]

    def _current_undo(self, step: str) -> dict[str, Any]:
        if step not in self.undos:
            raise Law("answer_for_an_undo_that_is_not_outstanding")
        return self.undos[step]

    def _attempt_over(
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
        candidates = [_multiple(since, every, now) for since, every in self.blocks.values()]
        forward = self.status == "running"
        for name, run in (self.steps if forward else self.undos).items():
            if (name, "do" if forward else "undo") in self.blocks:
                continue
            if self.turning and name not in self.settling():
                continue
            if run["st"] == "backoff":
                candidates.append(run["retry"])
            elif (run.get("waits") or run["parked"]) and run["st"] == "out":
                candidates.append(run["parked"] or run["expires"])
            elif run["st"] == "out":
                candidates.append(_multiple(run["since"], run["resend"] or LEASE, now))
                candidates.extend([] if run["expires"] is None else [run["expires"]])
        if not forward:
            acting = [name for name in self.targets if self.plan(name).shape == "action" and name not in self.undos]
            since = [self.steps[name]["since"] for name in acting if self.steps[name]["st"] == "out"]
            candidates += [_multiple(at, LEASE, now) for at in since]
        if self.deadline is not None and self.status == "running" and (self.pivot or "") not in self.steps:
            candidates.append(self.deadline)
        if not self.steps and self.status == "running":
            candidates.append(max(now, self.begin_at))
        return min(candidates, default=now)


_JUDGED = {e.StepUnknown, e.StepFailed, e.UndoFailed}


def _multiple(since: int, every: int, now: int) -> int:
    return since + every * (max(0, now - since) // every + 1)
