"""What waits in one process, or on the bus for it, as figures."""

from collections.abc import Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from unwind.runtime.actions import ActionPool
from unwind.runtime.inbox import Inbox
from unwind.runtime.intake import Intake
from unwind.runtime.participant_service import ParticipantService


def depths(inbox: Inbox, intake: Intake, pool: ActionPool) -> Iterator[Metric]:
    """How deep the worker's queues are now."""
    yield GaugeMetricFamily("unwind_inbox_sagas", "Sagas whose inputs wait to be decided", len(inbox))
    yield GaugeMetricFamily("unwind_in_flight_sagas", "Sagas in a batch that is decided or written", inbox.in_flight)
    yield GaugeMetricFamily("unwind_actions_waiting", "Actions that wait for a place to run", pool.waiting)
    yield GaugeMetricFamily("unwind_actions_running", "Actions that run", pool.running)
    text = "Deliveries of replies that waited on the bus when some were fetched last"
    yield GaugeMetricFamily("unwind_bus_replies_waiting", text, intake.behind)


def commands_waiting(services: Sequence[ParticipantService]) -> Iterator[Metric]:
    """How much waits on the bus for the services of this process."""
    text = "Deliveries of commands that waited on the bus when some were fetched last"
    waiting = GaugeMetricFamily("unwind_bus_commands_waiting", text, labels=["service"])
    for each in services:
        waiting.add_metric([each.service], each.behind)
    yield waiting
