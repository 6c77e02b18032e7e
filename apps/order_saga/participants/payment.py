"""The payment service: charges customers and refunds them."""

from pathlib import Path
from sqlite3 import Connection

from order_saga.application.commands import PaymentFailed, PaymentProcessed, ProcessPayment, RefundPayment
from order_saga.domain.money import from_cents
from order_saga.participants.scripted import BALANCE, CARD_SERVICE_DOWN, DEFAULT_BALANCE
from unwind import HandlerCall, Participant, TryAgain

SCHEMA = Path(__file__).with_name("payment.sql").read_text(encoding="utf-8")

payment = Participant[Connection]("payment")


@payment.handles(ProcessPayment)
def charge(tx: Connection, command: ProcessPayment, call: HandlerCall) -> PaymentProcessed | PaymentFailed:
    """Take the amount from the customer's account, unless there is less on it."""
    if call.attempt <= CARD_SERVICE_DOWN.get(command.customer_id, 0):
        raise TryAgain("the card service does not answer")
    opening = BALANCE.get(command.customer_id, DEFAULT_BALANCE)
    known = "insert into accounts (customer_id, opening, balance) values (?1, ?2, ?2) on conflict do nothing"
    tx.execute(known, (command.customer_id, opening))
    # Relative, never `set balance = a number worked out here`: charges commute.
    taken = "update accounts set balance = balance - ?2 where customer_id = ?1 and balance >= ?2"
    if not tx.execute(taken, (command.customer_id, command.amount)).rowcount:
        return PaymentFailed(f"insufficient balance: {from_cents(command.amount)} is more than is on the account")
    payment_id = f"payment-{call.saga_id}"
    tx.execute(
        "insert into ledger (saga_id, kind, payment_id, order_id, customer_id, amount)"
        " values (?, 'charge', ?, ?, ?, ?)",
        (call.saga_id, payment_id, command.order_id, command.customer_id, command.amount),
    )
    return PaymentProcessed(payment_id)


@payment.undoes(RefundPayment)
def refund(tx: Connection, _command: RefundPayment, call: HandlerCall) -> None:
    """Give back what was charged: a new row in the ledger, the old one stays."""
    refunded = (
        "insert into ledger (saga_id, kind, payment_id, order_id, customer_id, amount)"
        " select saga_id, 'refund', payment_id, order_id, customer_id, amount"
        " from ledger where saga_id = ? and kind = 'charge' returning customer_id, amount"
    )
    for customer, amount in tx.execute(refunded, (call.saga_id,)).fetchall():
        tx.execute("update accounts set balance = balance + ? where customer_id = ?", (amount, customer))
