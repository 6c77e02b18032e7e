"""The audit also sees what was done in the name of an order that was undone, and an order's total that is wrong."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

import pytest
from tests.order_saga.services import files
from tests.order_saga.tampering import Books, Event, Mend, Tamper, altered, both, log, sql
from tests.order_saga.test_audit import audited, build

from order_saga.audit import Rule
from unwind.settings import Database

CONTEXT = {
    "order_id": "o-far",
    "customer_id": "customer-nowhere",
    "items": [{"product_id": "p-1", "quantity": 2, "price": 500}, {"product_id": "p-2", "quantity": 1, "price": 100}],
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Database]:
    databases = files(tmp_path_factory.mktemp("undone"))
    asyncio.run(build(databases))
    return databases


@pytest.fixture
def world(untouched: Mapping[str, Database], tmp_path: Path) -> Books:
    return Books(untouched, tmp_path)


@pytest.mark.parametrize(
    "tamper",
    [
        sql("payment", "update ledger set amount = amount + 1 where saga_id = 'far'"),
        sql("payment", "update ledger set customer_id = 'c-2' where saga_id = 'far'"),
        sql("payment", "update ledger set order_id = 'o-none' where saga_id = 'far'"),
        sql("inventory", "update reservation_lines set quantity = 7 where saga_id = 'far' and product_id = 'p-1'"),
        sql("shipment", "update shipments set contents = '{}' where saga_id = 'unheard'"),
    ],
    ids=["amount", "customer", "order", "quantity", "contents"],
)
def test_an_effect_that_was_undone_must_have_been_of_the_order(world: Books, tamper: Tamper) -> None:
    tamper(world)
    assert {violation.rule for violation in audited(world).violations} == {Rule.ASKED}


def charging(cents: int) -> Mend:
    """The command that charges asks for another amount."""

    def change(events: list[Event]) -> list[Event]:
        charges = [event["command"] for event in events if event.get("command", {}).get("name") == "payment.process"]
        for command in charges:
            command["payload"]["amount"] = cents
        assert charges
        return events

    return change


def test_a_total_must_be_the_sum_of_the_items_even_where_all_agree_on_it(world: Books) -> None:
    both(
        log("far", altered("saga_started/1", context={**CONTEXT, "total": 1})),
        log("far", charging(1)),
        log("order-o-far", altered("order.created/1", total=1)),
        log("order-o-far", altered("order.paid/1", amount=1)),
        sql("payment", "update ledger set amount = 1 where saga_id = 'far'"),
    )(world)
    found = audited(world).violations
    assert [(violation.subject, violation.rule, violation.expected) for violation in found] == [
        ("far", Rule.ORDER, "1100, the sum of the items")
    ]


def test_events_nested_without_end_are_a_finding(world: Books) -> None:
    sql("engine", ("update commits set events = $1 where stream_id = 'none'", b"[" * 200_000))(world)
    assert ("none", Rule.LEGAL) in {(violation.subject, violation.rule) for violation in audited(world).violations}
