"""The audit also sees what was done in the name of an order that was undone, and an order's total that is wrong."""

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from tests.order_saga.test_audit import altered, audited, both, build, log, sql
from tests.order_saga.world import ENGINE

from order_saga.audit import Rule

CONTEXT = {
    "order_id": "o-far",
    "customer_id": "customer-nowhere",
    "items": [{"product_id": "p-1", "quantity": 2, "price": 500}, {"product_id": "p-2", "quantity": 1, "price": 100}],
}


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undone")
    asyncio.run(build(folder))
    return folder


@pytest.fixture
def world(untouched: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(untouched, tmp_path / "world"))


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
def test_an_effect_that_was_undone_must_have_been_of_the_order(world: Path, tamper: Callable[[Path], None]) -> None:
    tamper(world)
    assert {violation.rule for violation in audited(world).violations} == {Rule.ASKED}


def test_a_total_must_be_the_sum_of_the_items_even_where_all_agree_on_it(world: Path) -> None:
    both(
        log("far", altered("saga_started/1", context={**CONTEXT, "total": 1})),
        log("order-o-far", altered("order.created/1", total=1)),
        sql("payment", "update ledger set amount = 1 where saga_id = 'far'"),
    )(world)
    found = audited(world).violations
    assert [(violation.subject, violation.rule, violation.expected) for violation in found] == [
        ("far", Rule.ORDER, "1100, the sum of the items")
    ]


def test_events_nested_without_end_are_a_finding(world: Path) -> None:
    with closing(sqlite3.connect(world / ENGINE)) as database, database:
        database.execute("drop trigger commits_are_never_changed")
        database.execute("update commits set events = ? where stream_id = 'none'", (b"[" * 200_000,))
    assert ("none", Rule.LEGAL) in {(violation.subject, violation.rule) for violation in audited(world).violations}
