"""The ways that an order may go, by the names that fail on purpose: to be tried by hand, or by thousands."""

from msgspec import Struct


class Road(Struct, frozen=True):
    """One way that an order may go; what its names do is told in docs/scripted-failures.md."""

    name: str
    text: str
    customer_id: str = "customer-1"
    product_id: str = "product-1"
    quantity: str = "1"
    price: str = "19.99"


ROADS = (
    Road("happy", "All goes well"),
    Road("nowhere", "Nobody delivers there: refunded and released", "customer-nowhere"),
    Road(
        "bank",
        "Nobody delivers there, and the bank answers the fourth attempt at refunding: undone while you watch",
        "customer-bank-down",
    ),
    Road("closed", "Nobody delivers there, and the refund is refused: blocked, needs a person", "customer-closed"),
    Road("broke", "The account is empty: the reservation is released", "customer-broke"),
    Road("poor", "Not enough money: the reservation is released", "customer-456", quantity="100", price="10000"),
    Road("stock", "Out of stock: nothing to undo", product_id="product-out-of-stock"),
    Road("scarce", "There are five, six are wanted: refused", product_id="product-scarce", quantity="6"),
    Road("undeliverable", "No carrier takes it: refunded and released", product_id="product-undeliverable"),
    Road("flaky", "Two attempts at reserving fail: retried", product_id="product-flaky"),
    Road("card", "The first charge fails: retried", "customer-card-down"),
    Road("slow", "The carrier takes its time: time to cancel it", product_id="product-slow"),
)
