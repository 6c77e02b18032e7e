"""What an audit finds: violations of named rules, each with the saga, what was found and what was expected."""

from enum import StrEnum
from typing import NamedTuple

import msgspec


class Rule(StrEnum):
    """What must hold when nothing is under way. The values are what the report shows."""

    ENDED = "every saga ends"
    GAPLESS = "versions have no gap"
    LEGAL = "the history is legal"
    TERMINAL = "one terminal event, the last"
    REVERSE = "undone in exact reverse order"
    BACKWARD = "no step forward after turning round"
    PIVOT = "no way back after the pivot"
    ROW = "the saga's row agrees with its log"
    ORDER = "the order's own events agree with the saga's"
    COMPLETED = "a completed saga has each effect once, as ordered"
    UNDONE = "a compensated saga leaves nothing"
    REFUND = "a refund gives back the charge"
    ONCE = "each effect at most once"
    ASKED = "no effect that the log did not ask for"
    BARRIER = "an effect and the barrier's answer agree"
    COMMAND = "a command asks for what was ordered"
    ANSWER = "the log has what the barrier answered"
    IDS = "an effect has the same id in every book"
    MONEY = "money taken is the total of the completed orders"
    ACCOUNT = "a balance is what the ledger leaves of the opening"
    STOCK = "reserved stock is what completed and open orders hold"


class Finding(NamedTuple):
    """A rule that does not hold."""

    rule: Rule
    found: str
    expected: str


class Violation(NamedTuple):
    """A finding and where: a saga's id, or the account, product or database it is about."""

    subject: str
    rule: Rule
    found: str
    expected: str


class Counts(NamedTuple):
    """What was there to be audited."""

    orders: int
    """Orders that were accepted: one saga each."""
    completed: int
    compensated: int
    live: int
    effects: int
    """Reservations, charges and shipments, and those that were undone once more."""
    tombstones: int
    """Commands that were undone before they arrived."""
    refusals: int
    """Other commands that were refused; those whose refusal is stored."""


class Report(NamedTuple):
    """The outcome of one audit."""

    counts: Counts
    unfinished: tuple[tuple[str, str], ...]
    """Id and status of the sagas that have not ended."""
    violations: tuple[Violation, ...]
    totals_compared: bool

    @property
    def clean(self) -> bool:
        """Nothing is wrong: the command exits with 0."""
        return not self.violations


def render(report: Report) -> str:
    """The report as text, one line for each violation and each unfinished saga."""
    counts = report.counts
    lines = [
        f"{violation.subject}: {violation.rule}: found {violation.found}; expected {violation.expected}"
        for violation in report.violations
    ]
    lines += [f"{saga_id}: unfinished: {status}" for saga_id, status in report.unfinished]
    lines.append(
        f"{counts.orders} sagas: {counts.completed} completed, {counts.compensated} compensated, "
        f"{counts.live} unfinished; {len(report.violations)} violations"
        + ("" if report.totals_compared else " (totals of money and stock not compared while sagas may run)")
    )
    return "\n".join(lines)


def render_json(report: Report) -> str:
    """The report for programs: one JSON object."""
    told = {
        "clean": report.clean,
        **report.counts._asdict(),
        "totals_compared": report.totals_compared,
        "unfinished": [{"saga_id": saga_id, "status": status} for saga_id, status in report.unfinished],
        "violations": [violation._asdict() for violation in report.violations],
    }
    return msgspec.json.encode(told).decode()
