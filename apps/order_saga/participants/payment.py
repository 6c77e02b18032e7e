"""The payment service: charges customers and refunds them."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from order_saga.application.commands import PaymentFailed, PaymentProcessed, ProcessPayment, RefundPayment
from order_saga.domain.money import from_cents
from order_saga.participants.scripted import BALANCE, BANK_DOWN, CARD_SERVICE_DOWN, CLOSED_ACCOUNTS, DEFAULT_BALANCE
from order_saga.participants.tx import Handle, Tx
from unwind import HandlerCall, Participant, Refused, TryAgain

SCHEMA = Path(__file__).with_name("payment.sql").read_text(encoding="utf-8")
POSTGRES_SCHEMA = Path(__file__).with_name("payment.postgres.sql").read_text(encoding="utf-8")

# Opens new accounts and locks known ones, always in the same order: replicas that charge the same customers wait for
# one another, never in a ring. What it says of an account holds until the commit.
LOOK = """
insert into accounts (customer_id, opening, balance)
select customer_id, opening, opening from given where true order by customer_id
    on conflict (customer_id) do update set balance = accounts.balance
returning customer_id, balance
"""
# Relative, never `set balance = a number worked out here`: charges commute.
TAKE = """
update accounts set balance = balance - given.amount from given where accounts.customer_id = given.customer_id
"""
CHARGE = """
insert into ledger (saga_id, kind, payment_id, order_id, customer_id, amount)
select saga_id, 'charge', payment_id, order_id, customer_id, amount from given
"""
REFUND = """
insert into ledger (saga_id, kind, payment_id, order_id, customer_id, amount)
select saga_id, 'refund', payment_id, order_id, customer_id, amount
  from ledger where kind = 'charge' and saga_id in (select saga_id from given)
returning customer_id, amount
"""
PAID_BY = "select saga_id, customer_id from ledger where kind = 'charge' and saga_id in (select saga_id from given)"
# An insert that always meets its rows: unlike an update of many it takes them in order.
GIVE_BACK = """
insert into accounts (customer_id, opening, balance)
select customer_id, amount, amount from given where true order by customer_id
    on conflict (customer_id) do update set balance = accounts.balance + excluded.balance
"""

payment = Participant[Handle]("payment")


@payment.handles_many(ProcessPayment)
async def charge(
    handle: Handle, commands: Sequence[ProcessPayment], calls: Sequence[HandlerCall]
) -> Sequence[PaymentProcessed | PaymentFailed]:
    """Take each amount from its customer's account, unless there is less on it; each has its turn as it came."""
    if any(call.attempt <= _failures(command) for command, call in zip(commands, calls, strict=True)):
        raise TryAgain("the card service does not answer")
    tx = Tx(handle)
    balance = await _balances(tx, {command.customer_id for command in commands})
    answers: list[PaymentProcessed | PaymentFailed] = []
    taken: list[tuple[str, ProcessPayment]] = []
    for command, call in zip(commands, calls, strict=True):
        if command.amount > balance[command.customer_id]:
            amount = from_cents(command.amount)
            answers.append(PaymentFailed(f"insufficient balance: {amount} is more than is on the account"))
            continue
        balance[command.customer_id] -= command.amount
        answers.append(PaymentProcessed(_payment_id(call.saga_id)))
        taken.append((call.saga_id, command))
    await _write(tx, taken)
    return answers


@payment.undoes_many(RefundPayment)
async def refund(
    handle: Handle, _commands: Sequence[RefundPayment], calls: Sequence[HandlerCall]
) -> Sequence[Refused | TryAgain | None]:
    """Give back what was charged: new rows in the ledger, the old ones stay. A closed account takes nothing."""
    tx = Tx(handle)
    paid_by = dict(await tx.fetch(PAID_BY, saga_id=[call.saga_id for call in calls]))
    answers = [_obstacle(paid_by.get(call.saga_id, ""), call.attempt) for call in calls]
    free = [call.saga_id for call, obstacle in zip(calls, answers, strict=True) if obstacle is None]
    owed = Counter[str]()
    for customer, amount in await tx.fetch(REFUND, saga_id=free):
        owed[customer] += amount
    await tx.fetch(GIVE_BACK, customer_id=list(owed), amount=list(owed.values()))
    return answers


def _failures(command: ProcessPayment) -> int:
    return CARD_SERVICE_DOWN.get(command.customer_id, 0)


def _obstacle(customer: str, attempt: int) -> Refused | TryAgain | None:
    """Why this customer cannot be refunded now, or ever; None: nothing is in the way."""
    if customer in CLOSED_ACCOUNTS:
        return Refused("the account is closed and takes no refund")
    if attempt <= BANK_DOWN.get(customer, 0):
        return TryAgain("the bank does not answer")
    return None


def _payment_id(saga_id: str) -> str:
    return f"payment-{saga_id}"


async def _balances(tx: Tx, customers: set[str]) -> dict[str, int]:
    """Cents on the accounts of these; nobody else can change that now."""
    asked = list(customers)
    opening = [BALANCE.get(customer, DEFAULT_BALANCE) for customer in asked]
    return dict(await tx.fetch(LOOK, customer_id=asked, opening=opening))


async def _write(tx: Tx, taken: Sequence[tuple[str, ProcessPayment]]) -> None:
    owed = Counter[str]()
    for _, command in taken:
        owed[command.customer_id] += command.amount
    await tx.fetch(TAKE, customer_id=list(owed), amount=list(owed.values()))
    await tx.fetch(
        CHARGE,
        saga_id=[saga_id for saga_id, _ in taken],
        payment_id=[_payment_id(saga_id) for saga_id, _ in taken],
        order_id=[command.order_id for _, command in taken],
        customer_id=[command.customer_id for _, command in taken],
        amount=[command.amount for _, command in taken],
    )
