"""What the runtime counts. Plain integers on the hot path, Prometheus metrics only when somebody scrapes."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unwind.core.events import (
    CompensationStarted,
    Event,
    SagaBlocked,
    SagaCompensated,
    SagaCompleted,
    SagaStarted,
    StepDone,
    StepFailed,
    StepRefused,
    StepUnknown,
    UndoDone,
)

_BY_SAGA: dict[type, tuple[str, str]] = {
    SagaStarted: ("saga_started", "Sagas accepted"),
    SagaCompleted: ("saga_completed", "Sagas that ended completed"),
    CompensationStarted: ("saga_failed", "Sagas that turned round"),
    SagaCompensated: ("saga_compensated", "Sagas that ended completely undone"),
    SagaBlocked: ("saga_blocked", "Times a saga needed a person"),
}
_BY_STEP: dict[type, tuple[str, str, str]] = {
    StepDone: ("step_completed", "Steps done", "done"),
    StepRefused: ("step_failed", "Steps refused, attempts failed, outcomes unknown", "refused"),
    StepFailed: ("step_failed", "", "retried"),
    StepUnknown: ("step_failed", "", "unknown"),
    UndoDone: ("step_undone", "Steps undone", "undone"),
}


class Telemetry(Collector):
    """Counts of one worker. `work` holds the engine's own figures by name (batches, conflicts, resends, …)."""

    def __init__(self) -> None:
        """Everything starts at zero."""
        self.work: Counter[str] = Counter()
        self.more: list[Callable[[], Iterable[Metric]]] = []
        """What other parts of the process have to tell at each scrape."""
        self.strangers: Mapping[str, int] = {}
        """Live sagas of definitions that this worker does not know, by revision, as far as they were counted."""
        self._events: dict[tuple[str, type, str], int] = {}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def saw(self, committed: Iterable[tuple[str, Sequence[Event]]]) -> None:
        """Count a batch's committed events, each saga's with the name of its definition."""
        counts = self._events
        for definition, events in committed:
            for event in events:
                kind = type(event)
                key = (definition, kind, event.step if kind in _BY_STEP else "")  # type: ignore[union-attr]
                counts[key] = counts.get(key, 0) + 1

    def render(self) -> bytes:
        """The Prometheus text exposition."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        families: dict[str, CounterMetricFamily] = {}
        for kind, (name, text) in _BY_SAGA.items():
            families[name] = family = CounterMetricFamily(name, text, labels=["definition"])
            totals: Counter[str] = Counter()
            for (definition, seen, _), count in self._events.items():
                totals[definition] += count if seen is kind else 0
            for definition, count in totals.items():
                family.add_metric([definition], count)
        for kind, (name, text, outcome) in _BY_STEP.items():
            if name not in families:
                families[name] = CounterMetricFamily(name, text, labels=["definition", "step", "outcome"])
            for (definition, seen, step), count in self._events.items():
                if seen is kind:
                    families[name].add_metric([definition, step, outcome], count)
        yield from families.values()
        work = CounterMetricFamily("unwind_work", "What the engine did", labels=["what"])
        for what, count in sorted(self.work.items()):
            work.add_metric([what], count)
        yield work
        for told in self.more:
            yield from told()
        text = "Live sagas of definitions that this worker does not know"
        strangers = GaugeMetricFamily("unwind_unknown_definition_sagas", text, labels=["revision"])
        for revision, count in sorted(self.strangers.items()):
            strangers.add_metric([revision], count)
        yield strangers
