"""What the runtime counts. Plain integers on the hot path, Prometheus metrics only when somebody scrapes.

One pass over a batch, after its commit. docs/metrics.md says what each figure means, and what counting costs.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from unwind.core.events import SagaStarted, StepDone, StepStarted
from unwind.runtime.figures import BY_DURATION, BY_SAGA, BY_STEP, TOTALS, UNCOUNTED, Figures
from unwind.runtime.histograms import DURATIONS, SIZES, Cells, add, cells, family
from unwind.runtime.limits import SECOND
from unwind.runtime.unit import Decided
from unwind.runtime.work import WORK

NOTED = 8_192
"""Decisions after which the durations that were only noted are sorted in."""
_STEP = ["definition", "step", "outcome"]
_SAGA = ["definition", "outcome"]


class Telemetry(Collector):
    """Counts of one worker. `work` holds the engine's own figures by name (conflicts, resends, …)."""

    def __init__(self) -> None:
        """Everything starts at zero."""
        self.work: Counter[str] = Counter()
        self.more: list[Callable[[], Iterable[Metric]]] = []
        """What other parts of the process have to tell at each scrape."""
        self.looks: list[Callable[[], Awaitable[None]]] = []
        """What is to be asked before a scrape is answered; each bounds its own time, and does not raise."""
        self.hear: list[Callable[[Sequence[Decided]], None]] = []
        """Who else is told what each batch has made durable."""
        self.strangers: Mapping[str, int] = {}
        """Live sagas of definitions that this worker does not know, by revision, as far as they were counted."""
        self._figures: dict[str, Figures] = {}
        self._noted = 0
        self._batches = cells(SIZES)
        self._registry = CollectorRegistry()
        self._registry.register(self)

    # ------------------------------------------------------------------------------------------------------ is counted

    def expect(self, definitions: Iterable[str]) -> None:
        """Sagas of these may come: told as zeros until then, or their first one would not be seen as a rise."""
        for name in definitions:
            self._figures.setdefault(name, Figures())

    def wrote(self, sagas: int) -> None:
        """A batch with the decisions on so many sagas was written."""
        add(self._batches, SIZES, sagas)

    @property
    def batches(self) -> int:
        """Batches written so far."""
        return sum(self._batches[:-1])

    @property
    def units(self) -> int:
        """Decisions written so far."""
        return self._batches[-1]

    def saw(self, settled: Sequence[Decided]) -> None:
        """Count what a batch has made durable. What each step brings stands inline: a call would double its cost."""
        saga = None
        for made in settled:
            if made.saga is not saga:
                saga = made.saga
                figures = self._figures.get(saga.name) or self._figures.setdefault(saga.name, Figures())
                note_done = figures.note_done
            for event in made.events:
                kind = type(event)
                if kind is StepStarted:
                    continue
                if kind is StepDone:
                    step: str = event.step  # type: ignore[union-attr]
                    runs = made.after.runs
                    run = runs[-1]
                    # As a rule it is the last but one: the next step begins with the end of it.
                    if run.step != step and (run := runs[-2]).step != step:
                        run = made.after.run(step) or run
                    if step in note_done:
                        note_done[step](event.at - run.attempt.at)
                    else:
                        figures.first_done(step)(event.at - run.attempt.at)
                elif kind is SagaStarted:
                    figures.started += 1
                elif kind not in UNCOUNTED:
                    figures.count(kind, event, made)
        self._noted += len(settled)
        if self._noted >= NOTED:
            self._noted = 0
            for figures in self._figures.values():
                figures.sort_in()
        for hears in self.hear:
            hears(settled)

    # --------------------------------------------------------------------------------------------------------- is told

    async def scrape(self) -> bytes:
        """The Prometheus text exposition, after asking what has to be asked for it."""
        for look in self.looks:
            await look()
        return self.render()

    def render(self) -> bytes:
        """The Prometheus text exposition of what is known here."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called at each scrape."""
        yield from self._counts()
        yield from self._durations()
        yield family(
            "unwind_batch_sagas", "Sagas whose decisions were written together", [], {(): self._batches}, SIZES, 1
        )
        for what in sorted({*WORK, *self.work}):
            yield CounterMetricFamily(f"unwind_{what}", WORK.get(what, what), self.work[what])
        for told in self.more:
            yield from told()
        text = "Live sagas of definitions that this worker does not know"
        strangers = GaugeMetricFamily("unwind_unknown_definition_sagas", text, labels=["revision"])
        for revision, count in sorted(self.strangers.items()):
            strangers.add_metric([revision], count)
        yield strangers

    def _counts(self) -> Iterator[Metric]:
        """Zeros too: a rise is not seen of what was not there before."""
        families: dict[str, CounterMetricFamily] = {}
        for name, (text, total) in TOTALS.items():
            families[name] = CounterMetricFamily(name, text, labels=["definition"])
            for definition, figures in self._figures.items():
                families[name].add_metric([definition], total(figures))
        for kind, (name, text) in BY_SAGA.items():
            families[name] = CounterMetricFamily(name, text, labels=["definition"])
            for definition, figures in self._figures.items():
                families[name].add_metric([definition], figures.events[kind].get("", 0))
        for name, text, outcome, durations in BY_DURATION:
            families[name] = CounterMetricFamily(name, text, labels=_STEP)
            for definition, figures in self._figures.items():
                for step, took in durations(figures).items():
                    families[name].add_metric([definition, step, outcome], took.count())
        for kind, (name, text, outcome) in BY_STEP.items():
            if name not in families:
                families[name] = CounterMetricFamily(name, text, labels=_STEP)
            for definition, figures in self._figures.items():
                for step, count in figures.events[kind].items():
                    families[name].add_metric([definition, step, outcome], count)
        yield from families.values()

    def _durations(self) -> Iterator[Metric]:
        sagas: dict[tuple[str, ...], Cells] = {}
        windows: dict[tuple[str, ...], Cells] = {}
        steps: dict[tuple[str, ...], Cells] = {}
        for name, figures in self._figures.items():
            sagas[name, "completed"] = figures.completed.counted()
            sagas[name, "compensated"] = figures.compensated.counted()
            windows[name, "completed"] = figures.completed_window.counted()
            windows[name, "compensated"] = figures.compensated_window.counted()
            for _, _, outcome, durations in BY_DURATION:
                steps |= {(name, step, outcome): took.counted() for step, took in durations(figures).items()}
        for name, text, labels, counts in (
            ("saga_duration_seconds", "From the beginning of sagas to their end", _SAGA, sagas),
            ("saga_inconsistency_seconds", "From the first effect that was asked for to the end", _SAGA, windows),
            (
                "step_duration_seconds",
                "From the beginning of the attempt that was answered to the answer",
                _STEP,
                steps,
            ),
        ):
            yield family(name, text, labels, counts, DURATIONS, SECOND)
