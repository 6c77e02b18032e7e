"""What the log says about one saga: its commits, judged by the automaton, and what follows from them."""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from order_saga.audit.automaton import TERMINAL, Automaton, RejectedError
from order_saga.audit.report import Finding, Rule

Commit = tuple[int, int, bytes, int]
"""Version of the first event, number of events, the events, position in the log."""

_ANSWERED = {"step_done/1": ("do", "ok"), "step_refused/1": ("do", "refused"), "undo_done/1": ("undo", "ok")}
_ASKED = {"step_started/1": "do", "undo_started/1": "undo"}
_BY_HAND = ("resolved_by_hand/1", "undo_skipped/1", "step_skipped/1", "retry_ordered/1")
_ORDER_EVENT = {
    "reserve_inventory": "order.reserved/1",
    "process_payment": "order.paid/1",
    "create_shipment": "order.shipped/1",
    "complete_order": "order.completed/1",
}


class Told(NamedTuple):
    """An answer as the log has it."""

    outcome: str
    reply: Any


class Story(NamedTuple):
    """A saga as its log tells it."""

    saga_id: str
    status: str
    """As it should stand in the saga's row."""
    legal: bool
    """Gapless and accepted by the automaton: what is derived from it can be compared."""
    events: list[dict[str, Any]]
    order: dict[str, Any]
    """The context with which the saga began."""
    known: Any
    """The context as the steps have left it."""
    asked: dict[str, Any]
    """Effects that were asked for, as `step/direction`, and the command that asks; None where there is none."""
    answered: dict[str, Told]
    """What was answered to them."""
    streams: dict[str, int]
    """Number of domain events by stream."""
    by_hand: frozenset[str]
    """Steps that a person did, undid, changed or left out: what became of their effects is theirs to say."""

    @property
    def ended(self) -> bool:
        """Completed or compensated."""
        return self.status in TERMINAL.values()

    @property
    def contents(self) -> dict[str, int]:
        """Ordered quantity by product."""
        wanted: dict[str, int] = {}
        for item in self.order["items"]:
            wanted[item["product_id"]] = wanted.get(item["product_id"], 0) + item["quantity"]
        return wanted

    def order_events(self) -> list[str]:
        """Names of the events that the order's own stream must have."""
        done = [event["step"] for event in self.events if event["type"] == "step_done/1"]
        names = ["order.created/1", *(_ORDER_EVENT[step] for step in done)]
        return [*names, "order.cancelled/1"] if self.status == "compensated" else names


def read_story(saga_id: str, commits: Iterable[Commit]) -> tuple[Story, list[Finding]]:
    """Read a saga's log; the findings say what is wrong with it in itself."""
    events, damage = read_commits(commits)
    automaton = Automaton(saga_id)
    findings = [] if damage is None else [damage]
    if damage is None:
        findings = _judge(automaton, events)
    known = order = events[0].get("context", {}) if events else {}
    ending, asked, answered = "", {}, {}
    by_hand: set[str] = set()
    for event in events:
        name, step = str(event.get("type")), event.get("step")
        ending = ending or TERMINAL.get(name, "")
        if name in _BY_HAND and event.get("actor") and (name != "retry_ordered/1" or event.get("command")):
            by_hand.add(str(step))
        if name in _ASKED:
            asked[f"{step}/{_ASKED[name]}"] = event.get("command")
        elif name in _ANSWERED:
            direction, outcome = _ANSWERED[name]
            if step not in by_hand:
                answered[f"{step}/{direction}"] = Told(outcome, event.get("reply"))
            known = event.get("context") or known
    status = ending or automaton.shown_status
    hands, streams = frozenset(by_hand), automaton.streams
    return Story(saga_id, status, not findings, events, order, known, asked, answered, streams, hands), findings


def _judge(automaton: Automaton, events: list[dict[str, Any]]) -> list[Finding]:
    try:
        automaton.read(events)
    except RejectedError as error:
        return [error.finding]
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        return [Finding(Rule.LEGAL, f"an event of another shape ({error!r})", "events as the engine writes them")]
    return []


def read_commits(commits: Iterable[Commit]) -> tuple[list[dict[str, Any]], Finding | None]:
    """The events of a stream, and what is wrong with how they are stored. Positions may have gaps, versions may not."""
    events: list[dict[str, Any]] = []
    gap: Finding | None = None
    before = 0
    for version, count, data, position in commits:
        following = len(events) + 1
        try:
            batch = [dict(event) for event in msgspec.json.decode(data)]
        except (msgspec.DecodeError, ValueError, TypeError, RecursionError) as error:
            found = f"unreadable events at version {version} ({error})"
            return events, Finding(Rule.LEGAL, found, "a JSON list of events")
        if gap is None and (version != following or count != len(batch)):
            found = f"a commit of {len(batch)} events, counted as {count}, at version {version}"
            gap = Finding(Rule.GAPLESS, found, f"one at version {following}")
        if gap is None and position <= before:
            gap = Finding(Rule.GAPLESS, f"version {version} at position {position}", f"one after {before}")
        before = position
        events += batch
    return events, gap


def check_row(story: Story, row: tuple[str, str, int | None, int | None] | None) -> Iterator[Finding]:
    """Compare a legal log with the saga's row: status, revision, wake-up, end."""
    if row is None:
        yield Finding(Rule.ROW, "no row", f"one that says {story.status}")
        return
    status, revision, wake_at, ended_at = row
    first, last = story.events[0], story.events[-1]
    if status != story.status:
        yield Finding(Rule.ROW, f"status {status}", f"status {story.status}")
    bound = f"{first['definition']}@{first['definition_version']}#{first['definition_hash']}"
    if revision != bound:
        yield Finding(Rule.ROW, f"revision {revision}", f"revision {bound}")
    if (wake_at is None) != (story.ended or story.status == "paused"):
        yield Finding(Rule.ROW, f"wake-up {wake_at}", "one exactly while the saga is neither ended nor paused")
    if ended_at != (last["at"] if story.ended else None):
        yield Finding(Rule.ROW, f"ended at {ended_at}", f"{last['at'] if story.ended else None}")


def check_order(story: Story, events: list[dict[str, Any]]) -> Iterator[Finding]:
    """Compare a legal log with the order's own stream: which events, how many, what the first says."""
    names, expected = [event.get("type") for event in events], story.order_events()
    if names != expected:
        yield Finding(Rule.ORDER, f"{names}", f"{expected}")
        return
    if sum(story.streams.values()) != len(events):
        yield Finding(Rule.ORDER, f"{len(events)} domain events", f"{story.streams} as the saga counted")
    for field in ("order_id", "customer_id", "items", "total"):
        if events[0].get(field) != story.order[field]:
            yield Finding(Rule.ORDER, f"created with {field} {events[0].get(field)}", f"{story.order[field]}")
    paid = [event.get("amount") for event in events if event["type"] == "order.paid/1"]
    if paid and paid != [story.order["total"]]:
        yield Finding(Rule.ORDER, f"paid {paid}", f"{story.order['total']}")
    due = sum(item["quantity"] * item["price"] for item in story.order["items"])
    if story.order["total"] != due:
        yield Finding(Rule.ORDER, f"a total of {story.order['total']}", f"{due}, the sum of the items")
    foreign = {event.get("order_id") for event in events} - {story.order["order_id"]}
    if foreign:
        yield Finding(Rule.ORDER, f"events of {foreign}", f"events of {story.order['order_id']}")
