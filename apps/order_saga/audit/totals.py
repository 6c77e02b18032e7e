"""All sagas together: what they should have taken and hold, compared with what the services' accounts and stock say."""

from collections import Counter
from collections.abc import AsyncIterator

from order_saga.audit.books import Book, pages
from order_saga.audit.effects import STEPS, Effects
from order_saga.audit.history import Story
from order_saga.audit.report import Counts, Rule, Violation

_TAKEN = "select coalesce(sum(case kind when 'charge' then amount else -amount end), 0) from ledger"
_ACCOUNTS = """
select customer_id, balance, opening - coalesce(net, 0)
  from accounts
  left join (select customer_id, sum(case kind when 'charge' then amount else -amount end) as net
               from ledger group by customer_id) as taken using (customer_id)
 where balance <> opening - coalesce(net, 0) or balance < 0
"""
_STOCK = "select product_id, on_hand, reserved from stock where product_id > $1 order by product_id limit 1000"
_LATE = "refused"
"""Name of the answer that an undo leaves for a do that it has overtaken; refusals of a service have their own."""


class Totals:
    """What all sagas together should have done, and what those that are still open hold."""

    def __init__(self) -> None:
        """Of no saga yet."""
        self.statuses: Counter[str] = Counter()
        self.effects = 0
        self.tombstones = 0
        self.refusals = 0
        self.taken = 0
        self.held: Counter[str] = Counter()
        self.unfinished: list[tuple[str, str]] = []

    def add(self, story: Story, effects: Effects) -> None:
        """Count a saga in."""
        self.statuses[story.status] += 1
        self.effects += sum(effects.happened.values())
        refused = [effects.answers[f"{step}/do"].name for step in STEPS if effects.refused(step)]
        self.tombstones += refused.count(_LATE)
        self.refusals += len(refused) - refused.count(_LATE)
        if story.by_hand:
            self.taken += effects.net
            self.held.update(effects.held)
        elif story.status == "completed":
            self.taken += story.order["total"]
            self.held.update(story.contents)
        elif not story.ended:
            self.taken += effects.net
            self.held.update(effects.held)

    def counts(self) -> Counts:
        """What was counted."""
        completed, compensated = self.statuses["completed"], self.statuses["compensated"]
        sagas = self.statuses.total()
        live = sagas - completed - compensated
        return Counts(sagas, completed, compensated, live, self.effects, self.tombstones, self.refusals)


async def check_money(payment: Book, totals: Totals) -> AsyncIterator[Violation]:
    """Compare what the ledger says was taken with what the sagas should have taken."""
    ((taken,),) = await payment.fetch(_TAKEN)
    if taken != totals.taken:
        yield Violation("payment", Rule.MONEY, f"{taken} cents taken", f"{totals.taken}")


async def check_accounts(payment: Book) -> AsyncIterator[Violation]:
    """Compare balances with the ledger; holds at any moment."""
    for customer, balance, expected in await payment.fetch(_ACCOUNTS):
        yield Violation(customer, Rule.ACCOUNT, f"a balance of {balance} cents", f"{max(expected, 0)}")


async def check_stock(inventory: Book, totals: Totals) -> AsyncIterator[Violation]:
    """Compare what is reserved with what completed and open orders hold."""
    missing = dict(totals.held)
    async for rows in pages(inventory, _STOCK):
        for product, on_hand, reserved in rows:
            expected = missing.pop(product, 0)
            if reserved != expected:
                yield Violation(product, Rule.STOCK, f"{reserved} reserved", f"{expected}")
            if not 0 <= reserved <= on_hand:
                yield Violation(
                    product, Rule.STOCK, f"{reserved} reserved of {on_hand} on hand", "no more than there is"
                )
    for product, held in missing.items():
        yield Violation(product, Rule.STOCK, "a product without stock", f"{held} reserved")
