"""The two workloads, and their saga: four trivial in-process actions, each recorded durably before the next.

A: all four succeed. B: the third is refused, and the two before it are undone.
"""

from typing import Literal

from msgspec import Struct

from unwind import ActionCall, ActionStep, Refusal, Refused, Saga

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


def saga(workload: Workload) -> Saga[Order]:
    """The saga of a workload."""
    names = ("reserve_inventory", "process_payment", "create_shipment", "complete_order")
    steps = [Trivial(name, refused=workload == "B" and name == "create_shipment") for name in names]
    return Saga(f"bench_{workload.lower()}", context=Order, steps=steps)
