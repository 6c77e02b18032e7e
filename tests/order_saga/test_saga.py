"""The order saga by itself: which commands go out and what the order records, for every answer that can come."""

from collections.abc import Callable
from typing import Any

import pytest
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
from order_saga.application.order_saga import order_saga
from order_saga.application.steps import CompleteOrderStep, CreateShipmentStep, ProcessPaymentStep
from order_saga.domain.order import (
    OrderCancelled,
    OrderCompleted,
    OrderCreated,
    OrderItem,
    OrderPaid,
    OrderReserved,
    OrderShipped,
)
from unwind import Fail, Kind, Retry
from unwind.testing.scenario import Scenario, cancel, failed, ok, pause, refused, resume, undone

ITEMS = (OrderItem("p-1", 2, 1_999),)
ORDER = OrderContext("o-1", "c-1", ITEMS, 3_998)
RESERVED = ok("reserve_inventory", InventoryReserved("r-1"))
PAID = ok("process_payment", PaymentProcessed("p-1"))
SHIPPED = ok("create_shipment", ShipmentCreated("s-1"))


def begun() -> Scenario[OrderContext]:
    return Scenario(order_saga).given(ORDER)


def test_an_order_is_carried_through() -> None:
    (
        begun()
        .then(
            status="running",
            effects=[ReserveInventory("o-1", ITEMS)],
            records=[OrderCreated("o-1", "c-1", ITEMS, 3_998)],
        )
        .when(RESERVED)
        .then(effects=[ProcessPayment("o-1", "c-1", 3_998)], records=[OrderReserved("o-1", "r-1")])
        .when(PAID)
        .then(effects=[CreateShipment("o-1", "c-1", ITEMS)], records=[OrderPaid("o-1", "p-1", 3_998)])
        .when(SHIPPED)
        .then(
            status="completed",
            effects=[],
            records=[OrderShipped("o-1", "s-1"), OrderCompleted("o-1")],
            context=replace(ORDER, reservation_id="r-1", payment_id="p-1", shipment_id="s-1"),
        )
    )


def test_out_of_stock_leaves_nothing_to_undo() -> None:
    begun().when(refused("reserve_inventory", "out of stock")).then(
        status="compensated", effects=[], records=[OrderCancelled("o-1")]
    )


def test_insufficient_balance_releases_the_inventory() -> None:
    (
        begun()
        .when(RESERVED, refused("process_payment", "insufficient balance"))
        .then(status="compensating", effects=[ReleaseInventory("o-1")])
        .when(undone("reserve_inventory"))
        .then(status="compensated", effects=[], records=[OrderCancelled("o-1")])
    )


def test_an_undeliverable_order_is_refunded_before_it_is_released() -> None:
    (
        begun()
        .when(RESERVED, PAID, refused("create_shipment", "undeliverable"))
        .then(status="compensating", effects=[RefundPayment("o-1")])
        .when(undone("process_payment"))
        .then(effects=[ReleaseInventory("o-1")], records=[])
        .when(undone("reserve_inventory"))
        .then(status="compensated", effects=[], records=[OrderCancelled("o-1")])
    )


@pytest.mark.parametrize(
    ("before", "step", "retries", "undo"),
    [
        ([], "reserve_inventory", [(31, 30), (63, 61)], ReleaseInventory("o-1")),
        ([RESERVED], "process_payment", [(31, 30)], RefundPayment("o-1")),
        ([RESERVED, PAID], "create_shipment", [], CancelShipment("o-1")),
    ],
)
def test_a_silent_service_is_asked_as_often_as_the_step_says_then_the_unknown_is_undone(
    before: list[Any], step: str, retries: list[tuple[float, float]], undo: Any
) -> None:
    scenario = begun().when(*before)
    for again, _ in retries:
        scenario.at(again).then(effects=[f"{step}/do"])
    attempts = 1 + len(retries)
    run = scenario.state.run(step)
    assert run is not None
    assert run.attempt.number == attempts
    scenario.at((retries[-1][0] if retries else 0) + 30).then(status="compensating", effects=[undo])


def test_each_step_is_tried_as_the_contract_says() -> None:
    policies = {plan.name: (plan.timeout, plan.retry.attempts, plan.retry.factor) for plan in order_saga.plans[:3]}
    assert policies == {
        "reserve_inventory": (30_000_000, 3, 2.0),
        "process_payment": (30_000_000, 2, 1.0),
        "create_shipment": (30_000_000, 1, 1.0),
    }
    assert order_saga.plans[2].retry == Retry.none()
    assert order_saga.plans[3].kind is Kind.PIVOT
    assert not order_saga.plans[3].undoable
    assert order_saga.deadline == 300_000_000


def test_an_order_that_was_held_up_past_its_deadline_is_undone() -> None:
    (
        begun()
        .when(RESERVED, pause())
        .at(301)
        .then(status="paused")
        .when(resume())
        .at(302)
        .then(status="compensating", effects=[RefundPayment("o-1")])
    )


def test_a_service_that_fails_once_is_asked_again_with_the_same_command() -> None:
    (
        begun()
        .when(RESERVED, failed("process_payment", "the card service does not answer"))
        .then(status="running", effects=[])
        .at(1)
        .then(effects=[ProcessPayment("o-1", "c-1", 3_998)])
    )


def test_a_cancelled_order_undoes_what_is_outstanding_first() -> None:
    (
        begun()
        .when(RESERVED, PAID, cancel())
        .then(status="compensating", effects=[CancelShipment("o-1")])
        .when(SHIPPED)
        .nothing_happened()
        .when(undone("create_shipment"))
        .then(effects=[RefundPayment("o-1")])
        .when(undone("process_payment"), undone("reserve_inventory"))
        .then(status="compensated", records=[OrderCancelled("o-1")])
    )


def test_a_shipped_order_that_was_paused_can_still_be_cancelled() -> None:
    (
        begun()
        .when(RESERVED, PAID, pause(), SHIPPED)
        .then(status="paused", effects=[])
        .when(cancel())
        .then(status="compensating", effects=[CancelShipment("o-1")])
    )


def test_a_completed_order_cannot_be_cancelled() -> None:
    begun().when(RESERVED, PAID, SHIPPED).when(cancel()).then(verdict="ended", events=[])


@pytest.mark.parametrize(
    ("guard", "known", "reason"),
    [
        (ProcessPaymentStep().guard, "reservation_id", "the inventory is not reserved"),
        (CreateShipmentStep().guard, "payment_id", "the payment is not processed"),
        (CompleteOrderStep().guard, "shipment_id", "the shipment is not created"),
    ],
)
def test_a_step_goes_on_only_when_the_one_before_left_its_mark(
    guard: Callable[[OrderContext], Any], known: str, reason: str
) -> None:
    assert guard(ORDER) == Fail(reason)
    assert guard(replace(ORDER, **{known: "x-1"})) == "proceed"


def test_a_service_that_gives_no_reservation_gets_no_payment_out_of_the_customer() -> None:
    begun().when(ok("reserve_inventory", InventoryReserved(""))).then(
        status="compensating", effects=[ReleaseInventory("o-1")]
    )
