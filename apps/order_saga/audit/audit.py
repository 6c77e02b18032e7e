"""One pass over all sagas, some hundreds at a time; then the totals, then what belongs to no saga. Linear."""

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from itertools import groupby
from operator import itemgetter
from typing import Any

from order_saga.audit.agreement import check_agreement
from order_saga.audit.books import Book, names, open_book, pages
from order_saga.audit.effects import STEPS, Effects, Participants, check_effects, read_effects
from order_saga.audit.history import Commit, Story, check_order, check_row, read_commits, read_story
from order_saga.audit.report import Finding, Report, Rule, Violation
from order_saga.audit.strays import check_log_strays, check_orphans
from order_saga.audit.totals import Totals, check_accounts, check_money, check_stock
from unwind.cli import Database

_SAGAS = """
select distinct stream_id from commits where category = 'saga' and stream_id > $1 order by stream_id limit 500
"""
_COMMITS = """
select stream_id, version, count, events, position
  from commits where stream_id in (select key from json_each($1)) order by stream_id, version
"""
_ROWS = "select id, status, revision, wake_at, ended_at from sagas where id in (select key from json_each($1))"
_FLOOR = "select min(recorded_at) from barrier"
_OF_AN_ORDER = ("order_id", "customer_id", "items", "total")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


async def audit(
    log: Database, inventory: Database, payment: Database, shipment: Database, *, allow_live: bool = False
) -> Report:
    """Compare the saga log with the three services' databases; nothing is written.

    With `allow_live` sagas may be under way: they are listed instead of counted as violations, and the totals, which
    mean something only when all is quiet, are not compared. Raises AuditError when a database cannot be read.
    """
    async with AsyncExitStack() as stack:
        # The log first: what has ended in its moment is whole in the services' later ones.
        book = await stack.enter_async_context(open_book("the saga log", log))
        services = [
            await stack.enter_async_context(open_book(name, database))
            for name, database in (("inventory", inventory), ("payment", payment), ("shipment", shipment))
        ]
        return await _Audit(book, Participants(*services), allow_live=allow_live).report()


class _Audit:
    """One audit of open books."""

    def __init__(self, log: Book, services: Participants, *, allow_live: bool) -> None:
        self._log = log
        self._services = services
        self._allow_live = allow_live
        self._totals = Totals()
        self._sagas: set[str] = set()
        self._orders: set[str] = set()
        self._floors: dict[str, int] = {}

    async def report(self) -> Report:
        violations = [each async for each in self._violations()]
        totals = self._totals
        return Report(
            totals.counts(), tuple(totals.unfinished), tuple(violations), totals_compared=not self._allow_live
        )

    async def _violations(self) -> AsyncIterator[Violation]:
        log, services, totals = self._log, self._services, self._totals
        for step, service in zip(STEPS, services, strict=True):
            self._floors[step] = await _floor(service)
        async for rows in pages(log, _SAGAS):
            for violation in await self._sagas_checked([saga_id for (saga_id,) in rows]):
                yield violation
        checks = [check_log_strays(log, self._orders)]
        if not self._allow_live:
            checks += [check_money(services.payment, totals), check_stock(services.inventory, totals)]
        checks.append(check_accounts(services.payment))
        for check in checks:
            async for violation in check:
                yield violation
        # Then the log as it is now, later than the services' moments: none of their effects can precede its saga.
        await log.renew()
        async for violation in check_orphans(log, services, self._sagas):
            yield violation

    # ----------------------------------------------------------------------------------------------------- saga by saga

    async def _sagas_checked(self, saga_ids: Sequence[str]) -> list[Violation]:
        log = self._log
        stories = {
            saga_id: read_story(saga_id, commits) for saga_id, commits in (await _commits(log, saga_ids)).items()
        }
        streams = {saga_id: _order_stream(story) for saga_id, (story, _) in stories.items()}
        orders = await _commits(log, list(streams.values()))
        rows = {saga_id: tuple(row) for saga_id, *row in await log.fetch(_ROWS, names(saga_ids))}
        effects = await read_effects(self._services, saga_ids)
        self._sagas.update(saga_ids)
        self._orders.update(streams.values())
        violations = []
        for saga_id, (story, findings) in stories.items():
            order = orders.get(streams[saga_id], ())
            found = [*findings, *self._saga(story, order, rows.get(saga_id), effects[saga_id])]
            violations += [Violation(saga_id, *finding) for finding in found]
        return violations

    def _saga(self, story: Story, order: Sequence[Commit], row: Any, effects: Effects) -> list[Finding]:
        findings: list[Finding] = []
        try:
            list(map(story.order.__getitem__, _OF_AN_ORDER))  # or KeyError: there is nothing to compare with
            self._totals.add(story, effects)
            events, damage = read_commits(order)
            if story.legal:
                findings += check_row(story, row)
                findings += check_order(story, events) if damage is None else [damage]
                findings += check_agreement(story, events, effects)
            findings += check_effects(story, effects, self._floors)
        except (KeyError, TypeError, IndexError, AttributeError) as error:
            findings.append(Finding(Rule.LEGAL, f"a start of another shape ({error!r})", "the context of an order"))
        if not story.ended:
            self._totals.unfinished.append((story.saga_id, story.status))
            if not self._allow_live:
                findings.append(Finding(Rule.ENDED, story.status, "completed or compensated"))
        return findings


async def _commits(log: Book, streams: Sequence[str]) -> dict[str, list[Commit]]:
    rows = await log.fetch(_COMMITS, names(streams))
    return {stream: [row[1:] for row in group] for stream, group in groupby(rows, key=itemgetter(0))}


def _order_stream(story: Story) -> str:
    order: object = story.order
    return f"order-{order.get('order_id')}" if isinstance(order, dict) else ""


async def _floor(service: Book) -> int:
    """Since when nothing can have been purged from a barrier: its oldest row; never, when it has none."""
    ((oldest,),) = await service.fetch(_FLOOR)
    if isinstance(oldest, datetime):
        return (oldest - _EPOCH) // timedelta(microseconds=1)
    return sys.maxsize if oldest is None else int(oldest)
