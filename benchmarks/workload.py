"""The two workloads, and their saga: four trivial in-process actions, each recorded durably before the next.

A: all four succeed. B: the third is refused, and the two before it are undone. With `recorded`, each step also writes
an event of the order to the order's own stream, in the same transaction.
"""

from typing import Literal

from msgspec import Struct

from unwind import ActionCall, ActionStep, Outcome, Record, Refusal, Refused, Saga

Workload = Literal["A", "B"]


class Item(Struct, frozen=True):
    """A line of the order."""

    sku: str
    qty: int


class Order(Struct, frozen=True):
    """The context: a small order."""

    id: str
    items: tuple[Item, ...]
    amount: str
    currency: str
    customer: str


class Result(Struct, frozen=True):
    """What each step answers."""

    step: str
    ref: str


ORDER = Order("o-1", tuple(Item(f"SKU-{number:04}", number) for number in range(3)), "129.90", "EUR", "c-1234567")
NAMES = ("reserve_inventory", "process_payment", "create_shipment", "complete_order")


class OrderMoved(Struct, frozen=True, tag="bench.order_moved/1"):
    """What the order's own stream holds."""

    order_id: str
    step: str
    ref: str


def moved(order: Order, step: str, ref: str) -> tuple[Record]:
    """An event of the order."""
    return (Record(f"order-{order.id}", "order", OrderMoved(order.id, step, ref)),)


class Trivial(ActionStep[Order, Result]):
    """An action that costs nothing but being recorded."""

    def __init__(self, name: str, *, refused: bool = False) -> None:
        """`refused`: it says no."""
        self.name = name  # type: ignore[misc]
        self.refused = refused

    async def run(self, context: Order, call: ActionCall) -> Result | Refusal:
        return Refused("no carrier") if self.refused else Result(self.name, context.id)

    async def compensate(self, context: Order, call: ActionCall) -> None:
        return None


class Recorded(Trivial):
    """The same, and the order hears of it."""

    def succeeded(self, context: Order, reply: Result) -> Outcome[Order]:
        return Outcome(context, moved(context, reply.step, reply.ref))


def saga(workload: Workload, *, recorded: bool = False) -> Saga[Order]:
    """The saga of a workload."""
    shape = Recorded if recorded else Trivial
    steps = [shape(name, refused=workload == "B" and name == "create_shipment") for name in NAMES]
    if not recorded:
        return Saga(f"bench_{workload.lower()}", context=Order, steps=steps)
    return Saga(
        f"bench_{workload.lower()}_recorded",
        context=Order,
        steps=steps,
        on_started=lambda order: moved(order, "created", order.id),
        on_compensated=lambda order: moved(order, "cancelled", order.id),
    )
