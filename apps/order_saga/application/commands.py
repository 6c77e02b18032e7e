"""What the order saga asks of the three services, and what they answer. A tag is `service.name`."""

from msgspec import Struct

from order_saga.domain.order import OrderItem
from unwind import Command, Refusal


class ReserveInventory(Command, frozen=True, tag="inventory.reserve"):
    """Hold these items for the order."""

    order_id: str
    items: tuple[OrderItem, ...]


class InventoryReserved(Struct, frozen=True, tag="inventory.reserved"):
    """Every item is held."""

    reservation_id: str


class ReservationFailed(Refusal, frozen=True, tag="inventory.reservation_failed"):
    """The items cannot be had."""


class ReleaseInventory(Command, frozen=True, tag="inventory.release"):
    """Let go of what is held for the order."""

    order_id: str


class ProcessPayment(Command, frozen=True, tag="payment.process"):
    """Charge the customer."""

    order_id: str
    customer_id: str
    amount: int
    """In cents."""


class PaymentProcessed(Struct, frozen=True, tag="payment.processed"):
    """The customer is charged."""

    payment_id: str


class PaymentFailed(Refusal, frozen=True, tag="payment.failed"):
    """The customer cannot be charged."""


class RefundPayment(Command, frozen=True, tag="payment.refund"):
    """Give back what was charged for the order."""

    order_id: str


class CreateShipment(Command, frozen=True, tag="shipment.create"):
    """Send the items to the customer."""

    order_id: str
    customer_id: str
    items: tuple[OrderItem, ...]


class ShipmentCreated(Struct, frozen=True, tag="shipment.created"):
    """A carrier has the items."""

    shipment_id: str


class ShipmentFailed(Refusal, frozen=True, tag="shipment.failed"):
    """The items cannot be delivered."""


class CancelShipment(Command, frozen=True, tag="shipment.cancel"):
    """Call the order's shipment off."""

    order_id: str
