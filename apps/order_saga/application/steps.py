"""The four steps of an order: reserve inventory → process payment → create shipment → complete order."""

from datetime import timedelta

from msgspec import Struct
from msgspec.structs import replace

from order_saga.application.commands import (
    CancelShipment,
    CreateShipment,
    InventoryReserved,
    PaymentProcessed,
    ProcessPayment,
    RefundPayment,
    ReleaseInventory,
    ReserveInventory,
    ShipmentCreated,
)
from order_saga.application.context import OrderContext
from order_saga.domain.order import (
    CATEGORY,
    OrderCompleted,
    OrderPaid,
    OrderReserved,
    OrderShipped,
    order_stream,
)
from unwind import PROCEED, Command, CommandStep, Fail, Kind, Outcome, Record, RecordStep, Retry, Verdict


def recorded(order: OrderContext, event: Struct) -> tuple[Record]:
    """An event for the order's own stream."""
    return (Record(order_stream(order.order_id), CATEGORY, event),)


class ReserveInventoryStep(CommandStep[OrderContext, InventoryReserved]):
    """Hold the items. Undone by releasing them."""

    name = "reserve_inventory"
    timeout = timedelta(seconds=30)
    retry = Retry.exponential(attempts=3, initial=timedelta(seconds=1))

    def execute(self, order: OrderContext) -> Command:
        return ReserveInventory(order.order_id, order.items)

    def succeeded(self, order: OrderContext, reply: InventoryReserved) -> Outcome[OrderContext]:
        event = OrderReserved(order.order_id, reply.reservation_id)
        return Outcome(replace(order, reservation_id=reply.reservation_id), recorded(order, event))

    def compensate(self, order: OrderContext) -> Command:
        return ReleaseInventory(order.order_id)


class ProcessPaymentStep(CommandStep[OrderContext, PaymentProcessed]):
    """Charge the customer. Undone by a refund."""

    name = "process_payment"
    timeout = timedelta(seconds=30)
    retry = Retry.fixed(attempts=2, delay=timedelta(seconds=1))

    def guard(self, order: OrderContext) -> Verdict:
        return PROCEED if order.reservation_id else Fail("the inventory is not reserved")

    def execute(self, order: OrderContext) -> Command:
        return ProcessPayment(order.order_id, order.customer_id, order.total)

    def succeeded(self, order: OrderContext, reply: PaymentProcessed) -> Outcome[OrderContext]:
        event = OrderPaid(order.order_id, reply.payment_id, order.total)
        return Outcome(replace(order, payment_id=reply.payment_id), recorded(order, event))

    def compensate(self, order: OrderContext) -> Command:
        return RefundPayment(order.order_id)


class CreateShipmentStep(CommandStep[OrderContext, ShipmentCreated]):
    """Hand the items to the carrier. Undone by calling the shipment off."""

    name = "create_shipment"
    timeout = timedelta(seconds=30)
    retry = Retry.none()

    def guard(self, order: OrderContext) -> Verdict:
        return PROCEED if order.payment_id else Fail("the payment is not processed")

    def execute(self, order: OrderContext) -> Command:
        return CreateShipment(order.order_id, order.customer_id, order.items)

    def succeeded(self, order: OrderContext, reply: ShipmentCreated) -> Outcome[OrderContext]:
        event = OrderShipped(order.order_id, reply.shipment_id)
        return Outcome(replace(order, shipment_id=reply.shipment_id), recorded(order, event))

    def compensate(self, order: OrderContext) -> Command:
        return CancelShipment(order.order_id)


class CompleteOrderStep(RecordStep[OrderContext]):
    """Publish that the order is completed: the final step, and the point of no return."""

    name = "complete_order"
    kind = Kind.PIVOT

    def guard(self, order: OrderContext) -> Verdict:
        return PROCEED if order.shipment_id else Fail("the shipment is not created")

    def record(self, order: OrderContext) -> Outcome[OrderContext]:
        return Outcome(order, recorded(order, OrderCompleted(order.order_id)))
