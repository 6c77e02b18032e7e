"""One saga's effects in every book that tells of them: command, stored answer, business row, log, order."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from order_saga.audit.effects import PAY, RESERVE, SHIP, Effects
from order_saga.audit.history import Story
from order_saga.audit.report import Finding, Rule

_COMMANDS = {
    f"{RESERVE}/do": ("inventory", "inventory.reserve", ("order_id", "items")),
    f"{RESERVE}/undo": ("inventory", "inventory.release", ("order_id",)),
    f"{PAY}/do": ("payment", "payment.process", ("order_id", "customer_id", "amount")),
    f"{PAY}/undo": ("payment", "payment.refund", ("order_id",)),
    f"{SHIP}/do": ("shipment", "shipment.create", ("order_id", "customer_id", "items")),
    f"{SHIP}/undo": ("shipment", "shipment.cancel", ("order_id",)),
}
"""The command of each effect: service, name, and what it tells of the order."""
_IDS = {
    RESERVE: ("reservation_id", "order.reserved/1"),
    PAY: ("payment_id", "order.paid/1"),
    SHIP: ("shipment_id", "order.shipped/1"),
}
"""What an effect's id is called, and which of the order's events has it."""


def check_agreement(story: Story, order_events: list[dict[str, Any]], effects: Effects) -> Iterator[Finding]:
    """Compare the books about one saga with one another. What a book does not tell is not missed here."""
    yield from _commands(story)
    yield from _answers(story, effects)
    for step, (name, event) in _IDS.items():
        found = dict(_ids(story, effects, step, name))
        found.update((event, each.get(name)) for each in order_events if each.get("type") == event)
        if any(each != other for each, other in pairwise(found.values())):
            yield Finding(Rule.IDS, f"{name} {found}", "the same in all")


def _commands(story: Story) -> Iterator[Finding]:
    """A command is frozen in the log: what goes out is what stands there, however often it is sent."""
    known = {**story.order, "amount": story.order["total"]}
    for effect, command in story.asked.items():
        if effect.partition("/")[0] in story.by_hand:
            continue
        expected = None
        if effect in _COMMANDS:
            service, name, fields = _COMMANDS[effect]
            payload = {"type": name, **{field: known[field] for field in fields}}
            expected = {"service": service, "name": name, "payload": payload}
        if command != expected:
            yield Finding(Rule.COMMAND, f"{effect} asked for with {command}", f"{expected}")


def _answers(story: Story, effects: Effects) -> Iterator[Finding]:
    for effect, told in story.answered.items():
        stored = effects.answers.get(effect)
        if stored is not None and stored.outcome == told.outcome and stored.reply != told.reply:
            yield Finding(Rule.ANSWER, f"{effect} answered {told.reply} in the log", f"{stored.reply}")


def _ids(story: Story, effects: Effects, step: str, name: str) -> Iterator[tuple[str, Any]]:
    """Where an id of a step's effect stands, and which."""
    for number, business_id in enumerate(effects.ids[step], 1):
        yield f"row {number}", business_id
    answer, told = effects.answers.get(f"{step}/do"), story.answered.get(f"{step}/do")
    if answer is not None and answer.outcome == "ok":
        yield "barrier", _field(answer.reply, name)
    if told is not None and told.outcome == "ok":
        yield "log", _field(told.reply, name)
        yield "context", _field(story.known, name)


def _field(said: Any, name: str) -> Any:
    return said.get(name) if isinstance(said, dict) else None
