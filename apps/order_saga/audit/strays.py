"""What belongs to no saga: rows and orders that no log tells of, effects and answers that nobody asked for."""

from collections.abc import AsyncIterator, Collection, Iterable

from order_saga.audit.books import Book, names, pages
from order_saga.audit.effects import STEPS, Participants
from order_saga.audit.report import Rule, Violation

_ROWS = """
select id from sagas where id > $1 and not exists (select 1 from commits where stream_id = sagas.id)
 order by id limit 1000
"""
_ORDERS = """
select distinct stream_id from commits where category = 'order' and stream_id > $1 order by stream_id limit 1000
"""
_KNOWN = "select distinct stream_id from commits where stream_id in (select key from json_each($1))"
_EFFECTS = (
    ("reservation", "select saga_id, order_id from reservations where saga_id > $1 order by saga_id limit 1000"),
    ("charge", "select saga_id, min(order_id) from ledger where saga_id > $1 group by 1 order by 1 limit 1000"),
    ("shipment", "select saga_id, order_id from shipments where saga_id > $1 order by saga_id limit 1000"),
)
"""One for each participant."""
_ANSWERS = "select effect_id from barrier where effect_id > $1 order by effect_id limit 1000"


async def check_log_strays(log: Book, orders: Collection[str]) -> AsyncIterator[Violation]:
    """Rows without a log, and streams of orders that no saga speaks of."""
    async for rows in pages(log, _ROWS):
        for (saga_id,) in rows:
            yield Violation(saga_id, Rule.ROW, "a row without a log", "no row")
    async for rows in pages(log, _ORDERS):
        for (stream,) in rows:
            if stream not in orders:
                yield Violation(stream, Rule.ORDER, "the stream of an order without a saga", "no such stream")


async def check_orphans(log: Book, services: Participants, sagas: Collection[str]) -> AsyncIterator[Violation]:
    """Effects and answers of sagas that the log does not know, besides `sagas`. It must be later than the services."""
    for service, step, (what, effects) in zip(services, STEPS, _EFFECTS, strict=True):
        async for rows in pages(service, effects):
            strange = [(saga_id, f"a {what} for {order}") for saga_id, order in rows if saga_id not in sagas]
            for violation in await _unknown(log, strange):
                yield violation
        async for rows in pages(service, _ANSWERS):
            strange = []
            for (effect_id,) in rows:
                saga_id, _, of = effect_id.rpartition("/")[0].rpartition("/")
                if saga_id not in sagas:
                    strange.append((saga_id, f"a stored answer to {effect_id}"))
                elif of != step:
                    yield Violation(saga_id, Rule.ASKED, f"a stored answer to {effect_id}", f"only answers to {step}")
            for violation in await _unknown(log, strange):
                yield violation


async def _unknown(log: Book, strange: Iterable[tuple[str, str]]) -> list[Violation]:
    """Of effects, by saga, those whose saga has not begun meanwhile."""
    found = list(strange)
    if not found:
        return []
    known = {stream for (stream,) in await log.fetch(_KNOWN, names(saga_id for saga_id, _ in found))}
    return [
        Violation(saga_id, Rule.ASKED, effect, "none: the log does not know the saga")
        for saga_id, effect in found
        if saga_id not in known
    ]
