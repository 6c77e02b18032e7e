"""One pass over all sagas, then the totals, then what belongs to no saga. Linear; one saga in memory at a time."""

import sqlite3
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

from order_saga.audit.effects import PAY, RESERVE, SHIP, Effects, Participants, check_effects, read_effects
from order_saga.audit.history import Story, check_order, check_row, read_story
from order_saga.audit.report import Finding, Report, Rule, Violation


class AuditError(Exception):
    """The databases cannot be audited; says which and what to do."""


class _Totals:
    """What all sagas together should have done, and what those that are still open hold."""

    def __init__(self) -> None:
        self.statuses: Counter[str] = Counter()
        self.taken = 0
        self.held: Counter[str] = Counter()
        self.orders: set[str] = set()
        self.unfinished: list[tuple[str, str]] = []

    def add(self, story: Story, effects: Effects) -> None:
        self.statuses[story.status] += 1
        if story.status == "completed":
            self.taken += story.order["total"]
            self.held.update(story.contents)
        elif not story.ended:
            self.taken += effects.net
            self.held.update(effects.held)


def audit(engine: Path, inventory: Path, payment: Path, shipment: Path, *, allow_live: bool = False) -> Report:
    """Compare the saga log with the three services' databases; nothing is written.

    With `allow_live` sagas may be under way: they are listed instead of counted as violations, and the totals, which
    mean something only when all is quiet, are not compared. Raises AuditError when a database cannot be read.
    """
    paths = (engine, inventory, payment, shipment)
    try:
        with ExitStack() as stack:
            log, *services = [stack.enter_context(closing(_open(path))) for path in paths]
            return _audit(log, Participants(*services), allow_live=allow_live)
    except sqlite3.Error as error:
        raise AuditError(f"{' / '.join(map(str, paths))}: {error}; are these the files of one application?") from error


def _open(path: Path) -> sqlite3.Connection:
    if not path.is_file():
        raise AuditError(f"{path} does not exist; name the file, or start the application once")
    connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None)
    connection.execute("begin")
    connection.execute("select count(*) from sqlite_schema").fetchone()
    return connection


def _audit(log: sqlite3.Connection, services: Participants, *, allow_live: bool) -> Report:
    # The log was opened first: what has ended in its snapshot is whole in the services' later ones.
    totals = _Totals()
    violations = list(_check_sagas(log, services, totals, allow_live=allow_live))
    violations += _check_strays(log, totals)
    if not allow_live:
        violations += _check_money(services.payment, totals)
        violations += _check_stock(services.inventory, totals)
    violations += _check_accounts(services.payment)
    # Then the log as it is now, later than the services' snapshots: none of their effects can precede its saga.
    log.execute("commit")
    violations += _check_orphans(log, services)
    return Report(
        sum(totals.statuses.values()),
        totals.statuses["completed"],
        totals.statuses["compensated"],
        tuple(totals.unfinished),
        tuple(violations),
        totals_compared=not allow_live,
    )


# --------------------------------------------------------------------------------------------------------- saga by saga


def _check_sagas(
    log: sqlite3.Connection, services: Participants, totals: _Totals, *, allow_live: bool
) -> Iterator[Violation]:
    floors = {step: _floor(service) for step, service in zip((RESERVE, PAY, SHIP), services, strict=True)}
    rows = log.execute(
        "select stream_id, version, count, events from commits where category = 'saga' order by stream_id, version"
    )
    for saga_id, commits in groupby(rows, key=itemgetter(0)):
        story, findings = read_story(saga_id, (commit[1:] for commit in commits))
        try:
            order_stream = f"order-{story.order['order_id']}"
            effects = read_effects(services, saga_id)
            totals.add(story, effects)
            totals.orders.add(order_stream)
            if story.legal:
                findings += check_row(story, _row(log, saga_id))
                findings += check_order(story, _stream(log, order_stream))
            findings += check_effects(story, effects, floors)
        except (KeyError, TypeError, IndexError) as error:
            findings.append(Finding(Rule.LEGAL, f"a start of another shape ({error!r})", "the context of an order"))
        if not story.ended:
            totals.unfinished.append((saga_id, story.status))
            if not allow_live:
                findings.append(Finding(Rule.ENDED, story.status, "completed or compensated"))
        yield from _violations(saga_id, findings)


def _floor(service: sqlite3.Connection) -> int:
    """Since when nothing can have been purged from a barrier: its oldest row; never, when it has none."""
    oldest: int | None = service.execute("select min(recorded_at) from barrier").fetchone()[0]
    return sys.maxsize if oldest is None else oldest


def _violations(subject: str, findings: Iterable[Finding]) -> Iterator[Violation]:
    return (Violation(subject, *finding) for finding in findings)


class _Row(NamedTuple):
    status: str
    revision: str
    wake_at: int | None
    ended_at: int | None


def _row(log: sqlite3.Connection, saga_id: str) -> _Row | None:
    row = log.execute("select status, revision, wake_at, ended_at from sagas where id = ?", (saga_id,)).fetchone()
    return None if row is None else _Row(*row)


def _stream(log: sqlite3.Connection, stream: str) -> list[tuple[int, int, bytes]]:
    found = "select version, count, events from commits where stream_id = ? order by version"
    return log.execute(found, (stream,)).fetchall()


# ------------------------------------------------------------------------------------------------------------ together


def _check_strays(log: sqlite3.Connection, totals: _Totals) -> Iterator[Violation]:
    """Rows without a log, and orders that no saga speaks of."""
    rows = log.execute("select id from sagas where not exists (select 1 from commits where stream_id = sagas.id)")
    for (saga_id,) in rows:
        yield Violation(saga_id, Rule.ROW, "a row without a log", "no row")
    for (stream,) in log.execute("select distinct stream_id from commits where category = 'order'"):
        if stream not in totals.orders:
            yield Violation(stream, Rule.ORDER, "the stream of an order without a saga", "no such stream")


def _check_money(payment: sqlite3.Connection, totals: _Totals) -> Iterator[Violation]:
    entries = "select coalesce(sum(case kind when 'charge' then amount else -amount end), 0) from ledger"
    taken: int = payment.execute(entries).fetchone()[0]
    if taken != totals.taken:
        yield Violation("payment", Rule.MONEY, f"{taken} cents taken", f"{totals.taken}")


def _check_accounts(payment: sqlite3.Connection) -> Iterator[Violation]:
    rows = payment.execute(
        "select customer_id, balance, opening - coalesce(net, 0) from accounts left join ("
        " select customer_id, sum(case kind when 'charge' then amount else -amount end) as net from ledger"
        " group by customer_id) using (customer_id)"
        " where balance <> opening - coalesce(net, 0) or balance < 0"
    )
    for customer, balance, expected in rows:
        yield Violation(customer, Rule.ACCOUNT, f"a balance of {balance} cents", f"{max(expected, 0)}")


def _check_stock(inventory: sqlite3.Connection, totals: _Totals) -> Iterator[Violation]:
    for product, on_hand, reserved in inventory.execute("select product_id, on_hand, reserved from stock"):
        expected = totals.held.pop(product, 0)
        if reserved != expected:
            yield Violation(product, Rule.STOCK, f"{reserved} reserved", f"{expected}")
        if not 0 <= reserved <= on_hand:
            yield Violation(product, Rule.STOCK, f"{reserved} reserved of {on_hand} on hand", "no more than there is")
    for product, held in totals.held.items():
        yield Violation(product, Rule.STOCK, "a product without stock", f"{held} reserved")


def _check_orphans(log: sqlite3.Connection, services: Participants) -> Iterator[Violation]:
    known = "select 1 from commits where stream_id = ? limit 1"
    answers = "select distinct substr(effect_id, 1, instr(effect_id, '/') - 1), 'stored answer' from barrier"
    sources = (
        (services.inventory, "select saga_id, 'reservation' from reservations"),
        (services.payment, "select saga_id, kind from ledger"),
        (services.shipment, "select saga_id, 'shipment' from shipments"),
        *((service, answers) for service in services),
    )
    for service, effects in sources:
        for saga_id, kind in service.execute(effects):
            if log.execute(known, (saga_id,)).fetchone() is None:
                yield Violation(saga_id, Rule.ASKED, f"a {kind} of this saga", "none: the log does not know the saga")
