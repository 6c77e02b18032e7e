"""What the three participants hold for one saga, compared with what its log says."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from order_saga.audit.books import Book, names
from order_saga.audit.history import Story
from order_saga.audit.report import Finding, Rule

RESERVE, PAY, SHIP = STEPS = "reserve_inventory", "process_payment", "create_shipment"

_RESERVATIONS = """
select saga_id, reservation_id, order_id, status from reservations where saga_id in (select key from json_each($1))
"""
_LINES = """
select saga_id, product_id, quantity from reservation_lines where saga_id in (select key from json_each($1))
"""
_LEDGER = """
select saga_id, kind, payment_id, order_id, customer_id, amount
  from ledger where saga_id in (select key from json_each($1))
"""
_SHIPMENTS = """
select saga_id, shipment_id, order_id, customer_id, status, contents
  from shipments where saga_id in (select key from json_each($1))
"""
_ANSWERS = """
select effect_id, outcome, name, reply from barrier where effect_id in (select key from json_each($1))
"""


class Participants(NamedTuple):
    """The databases of the three services, each with its own snapshot."""

    inventory: Book
    payment: Book
    shipment: Book


class Reservation(NamedTuple):
    """A row of the inventory service, with its lines as quantity by product."""

    id: str
    order: str
    status: str
    lines: dict[str, int]


class Entry(NamedTuple):
    """A row of the payment service's ledger."""

    id: str
    order: str
    customer: str
    cents: int


class Shipment(NamedTuple):
    """A row of the shipment service; contents are quantity by product."""

    id: str
    order: str
    customer: str
    status: str
    contents: dict[str, int]


class Answer(NamedTuple):
    """A row of a barrier."""

    outcome: str
    name: str
    reply: Any


class Effects(NamedTuple):
    """The rows of one saga. Lists, not single values: that there is at most one is for the audit to say."""

    reservations: list[Reservation]
    charges: list[Entry]
    refunds: list[Entry]
    shipments: list[Shipment]
    answers: dict[str, Answer]
    """By `step/direction`."""

    @property
    def held(self) -> dict[str, int]:
        """Quantity by product in open reservations."""
        total: dict[str, int] = {}
        for reservation in self.reservations:
            for product, quantity in reservation.lines.items() if reservation.status == "open" else ():
                total[product] = total.get(product, 0) + quantity
        return total

    @property
    def ids(self) -> dict[str, list[str]]:
        """What the services call the effects, by step."""
        return {
            RESERVE: [row.id for row in self.reservations],
            PAY: [row.id for row in (*self.charges, *self.refunds)],
            SHIP: [row.id for row in self.shipments],
        }

    @property
    def net(self) -> int:
        """Cents taken and not given back."""
        return sum(charge.cents for charge in self.charges) - sum(refund.cents for refund in self.refunds)

    def refused(self, step: str) -> bool:
        """Whether a refusal of the step is stored."""
        answer = self.answers.get(f"{step}/do")
        return answer is not None and answer.outcome == "refused"

    @property
    def happened(self) -> dict[str, bool]:
        """Which effects show in the business tables."""
        return {
            f"{RESERVE}/do": bool(self.reservations),
            f"{RESERVE}/undo": any(row.status == "released" for row in self.reservations),
            f"{PAY}/do": bool(self.charges),
            f"{PAY}/undo": bool(self.refunds),
            f"{SHIP}/do": bool(self.shipments),
            f"{SHIP}/undo": any(row.status == "cancelled" for row in self.shipments),
        }


async def read_effects(participants: Participants, saga_ids: Sequence[str]) -> dict[str, Effects]:
    """Everything the participants have stored for some sagas; one question for each table."""
    inventory, payment, shipment = participants
    given = names(saga_ids)
    found = {saga_id: Effects([], [], [], [], {}) for saga_id in saga_ids}
    lines: dict[str, dict[str, int]] = {}
    for saga_id, product, quantity in await inventory.fetch(_LINES, given):
        lines.setdefault(saga_id, {})[product] = quantity
    for saga_id, reservation, order, status in await inventory.fetch(_RESERVATIONS, given):
        found[saga_id].reservations.append(Reservation(reservation, order, status, lines.get(saga_id, {})))
    for saga_id, kind, *row in await payment.fetch(_LEDGER, given):
        effects = found[saga_id]
        (effects.charges if kind == "charge" else effects.refunds).append(Entry(*row))
    for saga_id, sent, order, customer, status, contents in await shipment.fetch(_SHIPMENTS, given):
        found[saga_id].shipments.append(Shipment(sent, order, customer, status, _read(contents)))
    for book, step in zip(participants, STEPS, strict=True):
        effect_ids = (f"{saga_id}/{step}/{direction}" for saga_id in saga_ids for direction in ("do", "undo"))
        for effect_id, outcome, name, reply in await book.fetch(_ANSWERS, names(effect_ids)):
            saga_id, _, direction = effect_id.rsplit("/", 2)
            found[saga_id].answers[f"{step}/{direction}"] = Answer(outcome, name, _read(reply))
    return found


def _read(stored: str | bytes) -> Any:
    """What stored JSON says; what is no JSON stays as it is."""
    try:
        return msgspec.json.decode(stored)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return stored


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
        yield from _nothing_left(story, effects)


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
    for effect, happened in effects.happened.items():
        if happened and effect not in story.asked:
            yield Finding(Rule.ASKED, f"an effect of {effect}", "none: the log never asked for it")


def _barrier(story: Story, effects: Effects, floors: dict[str, int]) -> Iterator[Finding]:
    """Each answer stands with its effect, refusals and tombstones with none; and the log was told the same."""
    happened = effects.happened
    for step in STEPS:
        do, undo = (_outcome(effects, f"{step}/{direction}") for direction in ("do", "undo"))
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
            told = story.answered.get(f"{step}/{direction}")
            if told is not None and stored != told.outcome and (stored or whole):
                found = f"{step}/{direction} answered {stored or 'nothing'}"
                yield Finding(Rule.BARRIER, found, f"{told.outcome}, as logged")


def _outcome(effects: Effects, effect: str) -> str:
    answer = effects.answers.get(effect)
    return "" if answer is None else answer.outcome


def _as_ordered(story: Story, effects: Effects) -> Iterator[Finding]:
    order, customer, contents = story.order["order_id"], story.order["customer_id"], story.contents
    pairs: list[tuple[str, str, list[Any], list[Any]]] = [
        (RESERVE, "reservations", effects.reservations, [(order, "open", contents)]),
        (PAY, "charges", effects.charges, [(order, customer, story.order["total"])]),
        (PAY, "refunds", effects.refunds, []),
        (SHIP, "shipments", effects.shipments, [(order, customer, "active", contents)]),
    ]
    for step, name, rows, expected in pairs:
        found = [row[1:] for row in rows]
        if found != expected and step not in story.by_hand:
            yield Finding(Rule.COMPLETED, f"{name} {found}", f"{expected}")


def _of_this_order(story: Story, effects: Effects) -> Iterator[Finding]:
    """What was held, taken and sent is what was ordered, whatever became of it since."""
    order, customer, contents = story.order["order_id"], story.order["customer_id"], story.contents
    kinds: list[tuple[str, str, list[Any], Any]] = [
        (RESERVE, "reservation", [(row.order, row.lines) for row in effects.reservations], (order, contents)),
        (PAY, "charge", [row[1:] for row in effects.charges], (order, customer, story.order["total"])),
        (
            SHIP,
            "shipment",
            [(row.order, row.customer, row.contents) for row in effects.shipments],
            (order, customer, contents),
        ),
    ]
    for step, name, found, expected in kinds:
        for row in found:
            if row != expected and step not in story.by_hand:
                yield Finding(Rule.ASKED, f"a {name} of {row}", f"{expected}")


def _nothing_left(story: Story, effects: Effects) -> Iterator[Finding]:
    open_reservations = [row for row in effects.reservations if row.status == "open"]
    active_shipments = [row for row in effects.shipments if row.status == "active"]
    kept = [] if effects.refunds else effects.charges
    left = (
        (RESERVE, "open reservations", open_reservations),
        (PAY, "charges", kept),
        (SHIP, "shipments", active_shipments),
    )
    for step, name, rows in left:
        if rows and step not in story.by_hand:
            yield Finding(Rule.UNDONE, f"{name} {rows}", "none")
