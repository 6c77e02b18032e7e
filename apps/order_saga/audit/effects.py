"""What the three participants hold for one saga, compared with what its log says."""

import json
from collections.abc import Iterator, Sequence
from sqlite3 import Connection
from typing import Any, NamedTuple

from order_saga.audit.history import Story
from order_saga.audit.report import Finding, Rule

RESERVE, PAY, SHIP = "reserve_inventory", "process_payment", "create_shipment"


class Participants(NamedTuple):
    """The databases of the three services, each with its own snapshot."""

    inventory: Connection
    payment: Connection
    shipment: Connection


class Effects(NamedTuple):
    """The rows of one saga. Lists, not single values: that there is at most one is for the audit to say."""

    reservations: list[tuple[str, str, dict[str, int]]]
    """Order, status, quantity by product."""
    charges: list[tuple[str, str, int]]
    """Order, customer, cents."""
    refunds: list[tuple[str, str, int]]
    shipments: list[tuple[str, str, str, dict[str, int]]]
    """Order, customer, status, quantity by product."""
    answers: dict[str, tuple[str, int]]
    """The barrier: outcome and time stored, by `step/direction`."""

    @property
    def held(self) -> dict[str, int]:
        """Quantity by product in open reservations."""
        total: dict[str, int] = {}
        for _, status, lines in self.reservations:
            for product, quantity in lines.items() if status == "open" else ():
                total[product] = total.get(product, 0) + quantity
        return total

    @property
    def net(self) -> int:
        """Cents taken and not given back."""
        return sum(charge[2] for charge in self.charges) - sum(refund[2] for refund in self.refunds)


def read_effects(participants: Participants, saga_id: str) -> Effects:
    """Everything the participants have stored for a saga."""
    lines = dict(
        participants.inventory.execute(
            "select product_id, quantity from reservation_lines where saga_id = ?", (saga_id,)
        ).fetchall()
    )
    reservations = [
        (order, status, lines)
        for order, status in participants.inventory.execute(
            "select order_id, status from reservations where saga_id = ?", (saga_id,)
        )
    ]
    entries = participants.payment.execute(
        "select kind, order_id, customer_id, amount from ledger where saga_id = ?", (saga_id,)
    ).fetchall()
    shipments = [
        (order, customer, status, json.loads(contents))
        for order, customer, status, contents in participants.shipment.execute(
            "select order_id, customer_id, status, contents from shipments where saga_id = ?", (saga_id,)
        )
    ]
    answers: dict[str, tuple[str, int]] = {}
    for database, step in zip(participants, (RESERVE, PAY, SHIP), strict=True):
        answers.update(_answers(database, saga_id, step))
    return Effects(
        reservations,
        [(order, customer, amount) for kind, order, customer, amount in entries if kind == "charge"],
        [(order, customer, amount) for kind, order, customer, amount in entries if kind == "refund"],
        shipments,
        answers,
    )


def _answers(database: Connection, saga_id: str, step: str) -> Iterator[tuple[str, tuple[str, int]]]:
    rows = database.execute(
        "select effect_id, outcome, recorded_at from barrier where effect_id in (?, ?)",
        (f"{saga_id}/{step}/do", f"{saga_id}/{step}/undo"),
    )
    for effect, outcome, recorded_at in rows:
        yield effect.removeprefix(f"{saga_id}/"), (outcome, recorded_at)


def check_effects(story: Story, effects: Effects, floors: dict[str, int]) -> Iterator[Finding]:
    """Compare a saga's effects with its log. `floors`: by step, since when its participant's barrier is known whole."""
    yield from _at_most_once(effects)
    if story.legal:
        yield from _asked_for(story, effects)
    yield from _barrier(story, effects, floors)
    if story.status == "completed":
        yield from _as_ordered(story, effects)
    else:
        yield from _of_this_order(story, effects)
    if story.status == "compensated":
        yield from _nothing_left(effects)


def _at_most_once(effects: Effects) -> Iterator[Finding]:
    counts: dict[str, Sequence[object]] = {
        "reservations": effects.reservations,
        "charges": effects.charges,
        "refunds": effects.refunds,
        "shipments": effects.shipments,
    }
    for name, rows in counts.items():
        if len(rows) > 1:
            yield Finding(Rule.ONCE, f"{len(rows)} {name}: {rows}", "at most one")
    if effects.refunds and effects.refunds != effects.charges:
        yield Finding(Rule.REFUND, f"refunds {effects.refunds}", f"those of the charges {effects.charges}")


def _asked_for(story: Story, effects: Effects) -> Iterator[Finding]:
    for effect, happened in _happened(effects).items():
        if happened and effect not in story.asked:
            yield Finding(Rule.ASKED, f"an effect of {effect}", "none: the log never asked for it")


def _happened(effects: Effects) -> dict[str, bool]:
    """Which effects show in the business tables."""
    return {
        f"{RESERVE}/do": bool(effects.reservations),
        f"{RESERVE}/undo": any(status == "released" for _, status, _ in effects.reservations),
        f"{PAY}/do": bool(effects.charges),
        f"{PAY}/undo": bool(effects.refunds),
        f"{SHIP}/do": bool(effects.shipments),
        f"{SHIP}/undo": any(status == "cancelled" for _, _, status, _ in effects.shipments),
    }


def _barrier(story: Story, effects: Effects, floors: dict[str, int]) -> Iterator[Finding]:
    """Each answer stands with its effect, refusals and tombstones with none; and the log was told the same."""
    happened = _happened(effects)
    for step in (RESERVE, PAY, SHIP):
        do, undo = (effects.answers.get(f"{step}/{direction}", ("", 0))[0] for direction in ("do", "undo"))
        done, undone = happened[f"{step}/do"], happened[f"{step}/undo"]
        # What was stored before the barrier's oldest row may have been purged: absence then says nothing.
        whole = story.events[0]["at"] >= floors[step]
        if (do == "ok") != done and (do or whole):
            yield Finding(Rule.BARRIER, f"{step}/do answered {do or 'nothing'}, effect: {done}", "both or none")
        elif (undo == "ok" and do == "ok") != undone and (undo or whole):
            yield Finding(Rule.BARRIER, f"{step}/undo answered {undo or 'nothing'}, effect: {undone}", "both or none")
        elif undo and not do and whole:
            yield Finding(Rule.BARRIER, f"{step}/undo answered before {step}/do", "a tombstone for the do")
        for direction, stored in (("do", do), ("undo", undo)):
            told = story.answered.get(f"{step}/{direction}", "")
            if told and stored != told and (stored or whole):
                yield Finding(Rule.BARRIER, f"{step}/{direction} answered {stored or 'nothing'}", f"{told}, as logged")


def _as_ordered(story: Story, effects: Effects) -> Iterator[Finding]:
    order, customer, contents = story.order["order_id"], story.order["customer_id"], story.contents
    pairs: list[tuple[str, list[Any], list[Any]]] = [
        ("reservations", effects.reservations, [(order, "open", contents)]),
        ("charges", effects.charges, [(order, customer, story.order["total"])]),
        ("refunds", effects.refunds, []),
        ("shipments", effects.shipments, [(order, customer, "active", contents)]),
    ]
    for name, found, expected in pairs:
        if found != expected:
            yield Finding(Rule.COMPLETED, f"{name} {found}", f"{expected}")


def _of_this_order(story: Story, effects: Effects) -> Iterator[Finding]:
    """What was held, taken and sent is what was ordered, whatever became of it since."""
    order, customer, contents = story.order["order_id"], story.order["customer_id"], story.contents
    triples: list[tuple[str, list[Any], Any]] = [
        ("reservation", [(order, lines) for order, _, lines in effects.reservations], (order, contents)),
        ("charge", effects.charges, (order, customer, story.order["total"])),
        ("shipment", [(order, to, inside) for order, to, _, inside in effects.shipments], (order, customer, contents)),
    ]
    for name, found, expected in triples:
        for row in found:
            if row != expected:
                yield Finding(Rule.ASKED, f"a {name} of {row}", f"{expected}")


def _nothing_left(effects: Effects) -> Iterator[Finding]:
    open_reservations = [row for row in effects.reservations if row[1] == "open"]
    active_shipments = [row for row in effects.shipments if row[2] == "active"]
    kept = [] if effects.refunds else effects.charges
    for name, rows in (("open reservations", open_reservations), ("charges", kept), ("shipments", active_shipments)):
        if rows:
            yield Finding(Rule.UNDONE, f"{name} {rows}", "none")
