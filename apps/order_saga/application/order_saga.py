"""The order saga: four steps within five minutes, and the order's own events with them."""

from collections.abc import Sequence
from datetime import timedelta

from order_saga.application.context import OrderContext
from order_saga.application.steps import (
    CompleteOrderStep,
    CreateShipmentStep,
    ProcessPaymentStep,
    ReserveInventoryStep,
    recorded,
)
from order_saga.domain.order import OrderCancelled, OrderCreated
from unwind import Attribute, Record, Saga


def _created(order: OrderContext) -> Sequence[Record]:
    return recorded(order, OrderCreated(order.order_id, order.customer_id, order.items, order.total))


def _cancelled(order: OrderContext) -> Sequence[Record]:
    return recorded(order, OrderCancelled(order.order_id))


order_saga = Saga(
    "order_saga",
    version=1,
    context=OrderContext,
    steps=[ReserveInventoryStep(), ProcessPaymentStep(), CreateShipmentStep(), CompleteOrderStep()],
    deadline=timedelta(minutes=5),
    on_started=_created,
    on_compensated=_cancelled,
    attributes={
        "customer_id": Attribute(str, lambda order: order.customer_id),
        "order_id": Attribute(str, lambda order: order.order_id),
        "total": Attribute(int, lambda order: order.total, amount=True),  # in cents
    },
)
