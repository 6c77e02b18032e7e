"""The audit: silent about sagas that ran, and naming exactly what was tampered with; on files and on servers."""

import asyncio
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import Raw
from tests.order_saga.conftest import BOTH
from tests.order_saga.services import SERVICES, execute, files
from tests.order_saga.tampering import (
    Books,
    Mend,
    Tamper,
    altered,
    appended,
    doubled,
    inserted,
    log,
    run,
    sql,
    undos_swapped,
    without,
)
from tests.order_saga.world import START, World, open_world

from order_saga.application.commands import RefundPayment
from order_saga.application.context import OrderContext
from order_saga.audit import Counts, Report, Rule, audit, render, render_json
from order_saga.domain.order import OrderItem
from unwind.core.messages import Cancel, Input, Pause, ResolveStep, RetryStep, SkipStep
from unwind.settings import Database

ITEMS = (OrderItem("p-1", 2, 500), OrderItem("p-2", 1, 100))


def order(name: str, customer: str = "c-1", items: tuple[OrderItem, ...] = ITEMS) -> OrderContext:
    total = sum(item.quantity * item.price for item in items)
    return OrderContext(f"o-{name}", customer, items, total)


async def build(databases: Mapping[str, Database]) -> None:
    """One saga for every road there is."""
    async with open_world(databases) as world:
        for name, context in {
            "done-1": order("done-1"),
            "done-2": order("done-2", "c-2"),
            "poor": order("poor", "customer-456", (OrderItem("p-1", 100, 1_000_000),)),
            "far": order("far", "customer-nowhere"),
            "none": order("none", "c-1", (OrderItem("product-out-of-stock", 1, 1),)),
            "flaky": order("flaky", "customer-card-down", (OrderItem("product-flaky", 1, 1),)),
        }.items():
            await world.start(name, context)
            await world.finish(name)
        await world.start("unheard", order("unheard"))
        await world.finish("unheard", {"create_shipment/do": "unheard"})
        await world.start("lost", order("lost"))
        await world.finish("lost", {"reserve_inventory/do": "lost"})
        await world.start("cancelled", order("cancelled"))
        await world.deliver("cancelled")
        await world.put("cancelled", Cancel("alice"))
        await world.finish("cancelled")
        mends: dict[str, Input] = {
            "by-hand": ResolveStep("bob", step="process_payment", evidence="a cheque"),
            "left": SkipStep("bob", "a cent"),
        }
        for name, mend in mends.items():
            await world.start(name, order(name, "customer-closed"))
            await world.until_blocked(name)
            await world.put(name, RetryStep("bob", command=Raw(msgspec.json.encode(RefundPayment("another")))))
            await world.until_blocked(name)
            await world.put(name, mend)
            await world.finish(name)
    for service in SERVICES:
        # The services' clock is the machine's; the story's is not. As if all had been answered at its start:
        await execute(databases[service], f"update barrier set recorded_at = {instant(databases[service], START)}")


def instant(database: Database, micros: int) -> str:
    return str(micros) if isinstance(database, Path) else f"to_timestamp({micros // 1_000_000})"


@pytest.fixture(scope="module", params=BOTH)
def untouched(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Database]:
    server = request.param == "postgres"
    databases: Mapping[str, Database] = (
        request.getfixturevalue("used_databases") if server else files(tmp_path_factory.mktemp("world"))
    )
    asyncio.run(build(databases))
    return databases


@pytest.fixture
def world(untouched: Mapping[str, Database], tmp_path: Path) -> Iterator[Books]:
    books = Books(untouched, tmp_path)
    yield books
    books.drop()


def audited(databases: Mapping[str, Database], *, allow_live: bool = False) -> Report:
    return asyncio.run(audit(*in_order(databases), allow_live=allow_live))


def in_order(databases: Mapping[str, Database]) -> tuple[Database, Database, Database, Database]:
    return databases["engine"], databases["inventory"], databases["payment"], databases["shipment"]


# ------------------------------------------------------------------------------------------------------- what is clean


def test_sagas_that_ran_are_clean(world: Books) -> None:
    report = audited(world)
    assert report.violations == ()
    assert report.clean
    assert report.unfinished == ()
    assert report.counts == Counts(orders=11, completed=3, compensated=8, live=0, effects=29, tombstones=2, refusals=5)
    assert render(report) == "11 sagas: 3 completed, 8 compensated, 0 unfinished; 0 violations"


def test_books_of_both_kinds_are_compared(
    untouched: Mapping[str, Database], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    mixed = {**untouched, "payment": tmp_path / "payment.db"}
    asyncio.run(build({**files(tmp_path)}))
    assert audited(mixed).clean


def test_nothing_is_written(world: Books) -> None:
    def written() -> list[Any]:
        return [
            each.read_bytes() if isinstance(each, Path) else run(each, "select pg_current_xact_id_if_assigned()")
            for each in world.values()
        ]

    before = written()
    audited(world)
    assert written() == before


def test_answers_that_were_purged_are_not_missed(world: Books) -> None:
    for service in SERVICES:
        database = world.changed(service)
        purged = "delete from barrier where effect_id not like 'cancelled/%'"
        asyncio.run(execute(database, purged, f"update barrier set recorded_at = {instant(database, 2 * START)}"))
    assert audited(world).violations == ()


async def test_a_saga_under_way_is_a_violation_unless_that_is_allowed(databases: Mapping[str, Database]) -> None:
    async with open_world(databases) as opened:
        await under_way(opened)
        held = await audit(*in_order(databases))
        allowed = await audit(*in_order(databases), allow_live=True)
    assert {(found.subject, found.rule, found.found) for found in held.violations} == {
        ("open", Rule.ENDED, "running"),
        ("paused", Rule.ENDED, "paused"),
    }
    assert allowed.clean
    assert allowed.unfinished == held.unfinished == (("open", "running"), ("paused", "paused"))
    assert "2 unfinished; 0 violations (totals of money and stock not compared" in render(allowed)


async def under_way(opened: World) -> None:
    for name in ("open", "paused"):
        await opened.start(name, order(name))
        await opened.deliver(name)
        await opened.deliver(name)
    await opened.put("paused", Pause("alice"))


# --------------------------------------------------------------------------------------------- what was tampered with


AT = {"at": START}
TURNED = {**AT, "type": "compensation_started/1", "cause": "cancelled", "targets": []}
RESERVE_DONE_1 = {
    "service": "inventory",
    "name": "inventory.reserve",
    "payload": {
        "type": "inventory.reserve",
        "order_id": "o-done-1",
        "items": [
            {"product_id": "p-1", "quantity": 2, "price": 500},
            {"product_id": "p-2", "quantity": 1, "price": 100},
        ],
    },
}
OTHER_REPLY = '{"type":"inventory.reserved","reservation_id":"r-x"}'


def release_command(order_id: str) -> dict[str, Any]:
    payload = {"type": "inventory.release", "order_id": order_id}
    return {"service": "inventory", "name": "inventory.release", "payload": payload}


def pivot_with(command: dict[str, Any]) -> Mend:
    """The step that only records sends something all the same."""
    return lambda events: [
        {**event, "command": command} if (event["type"], event.get("step")) == RECORDS else event for event in events
    ]


RECORDS = ("step_started/1", "complete_order")
PLANTED: dict[str, tuple[Tamper, set[tuple[str, Rule]]]] = {
    # The log in itself.
    "a version left out": (
        sql("engine", "update commits set version = version + 1 where stream_id = 'done-1' and version > 5"),
        {("done-1", Rule.GAPLESS)},
    ),
    "a commit lost": (
        sql("engine", "delete from commits where stream_id = 'done-1' and version = 4"),
        {("done-1", Rule.GAPLESS)},
    ),
    "a commit counted wrongly": (
        sql("engine", "update commits set count = count + 1 where stream_id = 'done-1' and version = 1"),
        {("done-1", Rule.GAPLESS)},
    ),
    "events that are no events": (
        sql("engine", ("update commits set events = $1 where stream_id = 'none' and version > 1", b"torn")),
        {("none", Rule.LEGAL), ("none", Rule.ENDED)},
    ),
    "an unknown event": (log("none", altered("step_refused/1", type="step_lost/1")), {("none", Rule.LEGAL)}),
    "an event of another shape": (log("none", altered("domain_recorded/1", count="1")), {("none", Rule.LEGAL)}),
    "a start without an order": (
        log("none", altered("saga_started/1", context={})),
        {("none", Rule.LEGAL), ("order-o-none", Rule.ORDER)},
    ),
    "a start inside a start": (log("none", appended({**AT, "type": "saga_started/1"})), {("none", Rule.TERMINAL)}),
    "another saga's start": (log("none", altered("saga_started/1", saga_id="far")), {("none", Rule.LEGAL)}),
    "two ends": (log("done-1", appended({**AT, "type": "saga_compensated/1"})), {("done-1", Rule.TERMINAL)}),
    "something after the end": (
        log("far", appended({**AT, "type": "saga_resumed/1", "actor": "alice"})),
        {("far", Rule.TERMINAL)},
    ),
    "an attempt that was not the one under way": (
        log("flaky", altered("step_failed/1", attempt=2)),
        {("flaky", Rule.LEGAL)},
    ),
    "a retry without a failure": (log("flaky", without("step_failed/1")), {("flaky", Rule.LEGAL)}),
    "an answer nobody gave": (
        log("done-1", without("step_done/1", "create_shipment")),
        {("done-1", Rule.LEGAL)},
    ),
    "an undo left out": (log("poor", without("undo_done/1")), {("poor", Rule.LEGAL)}),
    "targets in the order of their start": (
        log("far", altered("compensation_started/1", targets=["reserve_inventory", "process_payment"])),
        {("far", Rule.REVERSE)},
    ),
    "an unknown step that is not undone": (
        log("unheard", altered("compensation_started/1", targets=["process_payment", "reserve_inventory"])),
        {("unheard", Rule.REVERSE)},
    ),
    "undos in the order of the steps' start": (log("far", undos_swapped), {("far", Rule.REVERSE)}),
    "a step forward after turning round": (
        log(
            "poor",
            inserted("undo_started/1", {**AT, "type": "step_started/1", "step": "more", "attempt": {"at": START}}),
        ),
        {("poor", Rule.BACKWARD)},
    ),
    "a way back after the pivot": (log("done-1", inserted("saga_completed/1", TURNED)), {("done-1", Rule.PIVOT)}),
    "commits in another order": (
        sql("engine", "update commits set position = position + 1000 where stream_id = 'done-1' and version = 1"),
        {("done-1", Rule.GAPLESS)},
    ),
    "a command for something else": (
        log("done-1", altered("step_started/1", command={**RESERVE_DONE_1, "payload": {"order_id": "o-done-1"}})),
        {("done-1", Rule.COMMAND)},
    ),
    "a command to another service": (
        log("done-1", altered("step_started/1", command={**RESERVE_DONE_1, "service": "payment"})),
        {("done-1", Rule.COMMAND)},
    ),
    "an undo of another order": (
        log("lost", altered("undo_started/1", command=release_command("o-far"))),
        {("lost", Rule.COMMAND)},
    ),
    "a step that records and sends a command": (
        log("done-1", pivot_with(RESERVE_DONE_1)),
        {("done-1", Rule.COMMAND)},
    ),
    # The row and the order beside the log.
    "a row that says something else": (
        sql("engine", "update sagas set status = 'compensated' where id = 'done-1'"),
        {("done-1", Rule.ROW)},
    ),
    "an ended saga that is woken": (
        sql("engine", "update sagas set wake_at = 1 where id = 'done-1'"),
        {("done-1", Rule.ROW)},
    ),
    "a row with another end": (
        sql("engine", "update sagas set ended_at = 1 where id = 'done-1'"),
        {("done-1", Rule.ROW)},
    ),
    "a row of another definition": (
        sql("engine", "update sagas set revision = 'order_saga@2#0' where id = 'done-1'"),
        {("done-1", Rule.ROW)},
    ),
    "a row lost": (sql("engine", "delete from sagas where id = 'done-1'"), {("done-1", Rule.ROW)}),
    "a row without a saga": (
        sql("engine", "update sagas set id = 'ghost' where id = 'done-1'"),
        {("done-1", Rule.ROW), ("ghost", Rule.ROW)},
    ),
    "an order that lags": (
        sql("engine", "delete from commits where stream_id = 'order-o-done-1' and version > 3"),
        {("done-1", Rule.ORDER)},
    ),
    "an order that leads": (
        log("order-o-none", appended({"type": "order.cancelled/1", "order_id": "o-none"})),
        {("none", Rule.ORDER)},
    ),
    "an order with a version left out": (
        sql("engine", "update commits set version = version + 1 where stream_id = 'order-o-none' and version > 1"),
        {("none", Rule.GAPLESS)},
    ),
    "an order of another total": (log("order-o-none", altered("order.created/1", total=2)), {("none", Rule.ORDER)}),
    "an order that was paid with less": (
        log("order-o-done-1", altered("order.paid/1", amount=1)),
        {("done-1", Rule.ORDER)},
    ),
    "another order's event": (
        log("order-o-none", altered("order.cancelled/1", order_id="o-far")),
        {("none", Rule.ORDER)},
    ),
    "domain events counted wrongly": (log("none", altered("domain_recorded/1", count=2)), {("none", Rule.ORDER)}),
    "an order without a saga": (
        sql("engine", "update commits set stream_id = 'order-o-ghost' where stream_id = 'order-o-none'"),
        {("none", Rule.ORDER), ("order-o-ghost", Rule.ORDER)},
    ),
    # The services against the log.
    "a second charge": (
        sql(
            "payment",
            *doubled("ledger", "saga_id = 'done-2'"),
            "update accounts set balance = balance - 1100 where customer_id = 'c-2'",
        ),
        {("done-2", Rule.ONCE), ("done-2", Rule.COMPLETED), ("payment", Rule.MONEY)},
    ),
    "a second refund": (
        sql(
            "payment",
            *doubled("ledger", "saga_id = 'far' and kind = 'refund'"),
            "update accounts set balance = balance + 1100 where customer_id = 'customer-nowhere'",
        ),
        {("far", Rule.ONCE), ("far", Rule.REFUND), ("payment", Rule.MONEY)},
    ),
    "a refund that never came": (
        sql(
            "payment",
            "delete from ledger where saga_id = 'far' and kind = 'refund'",
            "update accounts set balance = balance - 1100 where customer_id = 'customer-nowhere'",
        ),
        {("far", Rule.UNDONE), ("far", Rule.BARRIER), ("payment", Rule.MONEY)},
    ),
    "a refund of less": (
        sql(
            "payment",
            "update ledger set amount = 1000 where saga_id = 'far' and kind = 'refund'",
            "update accounts set balance = balance - 100 where customer_id = 'customer-nowhere'",
        ),
        {("far", Rule.REFUND), ("payment", Rule.MONEY)},
    ),
    "a refund of a completed order": (
        sql(
            "payment",
            "insert into ledger select saga_id, 'refund', payment_id, order_id, customer_id, amount"
            " from ledger where saga_id = 'done-2'",
            "update accounts set balance = balance + 1100 where customer_id = 'c-2'",
        ),
        {("done-2", Rule.ASKED), ("done-2", Rule.BARRIER), ("done-2", Rule.COMPLETED), ("payment", Rule.MONEY)},
    ),
    "a charge of another amount": (
        sql(
            "payment",
            "update ledger set amount = 1 where saga_id = 'done-2'",
            "update accounts set balance = balance + 1099 where customer_id = 'c-2'",
        ),
        {("done-2", Rule.COMPLETED), ("payment", Rule.MONEY)},
    ),
    "another customer's charge": (
        sql(
            "payment",
            "update ledger set customer_id = 'c-1' where saga_id = 'done-2'",
            "update accounts set balance = balance + 1100 where customer_id = 'c-2'",
            "update accounts set balance = balance - 1100 where customer_id = 'c-1'",
        ),
        {("done-2", Rule.COMPLETED)},
    ),
    "a balance beside the ledger": (
        sql("payment", "update accounts set balance = balance - 1 where customer_id = 'c-2'"),
        {("c-2", Rule.ACCOUNT)},
    ),
    "an overdrawn account": (
        sql("payment", "update accounts set opening = 0, balance = -1100 where customer_id = 'c-2'"),
        {("c-2", Rule.ACCOUNT)},
    ),
    "a reservation that stayed": (
        sql(
            "inventory",
            "update reservations set status = 'open' where saga_id = 'poor'",
            "update stock set reserved = reserved + 100 where product_id = 'p-1'",
        ),
        {("poor", Rule.UNDONE), ("poor", Rule.BARRIER), ("p-1", Rule.STOCK)},
    ),
    "a completed order without its goods": (
        sql("inventory", "update reservation_lines set quantity = 1 where saga_id = 'done-2' and product_id = 'p-1'"),
        {("done-2", Rule.COMPLETED)},
    ),
    "stock held for nobody": (
        sql("inventory", "update stock set reserved = reserved + 1 where product_id = 'p-2'"),
        {("p-2", Rule.STOCK)},
    ),
    "stock that was sold twice": (
        sql("inventory", "update stock set on_hand = 3 where product_id = 'p-1'"),
        {("p-1", Rule.STOCK)},
    ),
    "a product that is not there": (
        sql("inventory", "delete from stock where product_id = 'p-1'"),
        {("p-1", Rule.STOCK)},
    ),
    "a shipment that stayed": (
        sql("shipment", "update shipments set status = 'active' where saga_id = 'unheard'"),
        {("unheard", Rule.UNDONE), ("unheard", Rule.BARRIER)},
    ),
    "a completed order without its shipment": (
        sql("shipment", "delete from shipments where saga_id = 'done-1'"),
        {("done-1", Rule.COMPLETED), ("done-1", Rule.BARRIER)},
    ),
    "a shipment of something else": (
        sql("shipment", """update shipments set contents = '{"p-9": 1}' where saga_id = 'done-1'"""),
        {("done-1", Rule.COMPLETED)},
    ),
    "an effect of a step that never began": (
        sql("shipment", "insert into shipments values ('none', 's-x', 'o-none', 'c-1', '{}', 'cancelled')"),
        {("none", Rule.ASKED), ("none", Rule.BARRIER)},
    ),
    "a shipment without a saga": (
        sql("shipment", "insert into shipments values ('ghost', 's-x', 'o-x', 'c-1', '{}', 'active')"),
        {("ghost", Rule.ASKED)},
    ),
    "an answer without a saga": (
        sql(
            "payment",
            "update barrier set effect_id = 'ghost/x/do' where effect_id = 'poor/process_payment/do'",
        ),
        {("ghost", Rule.ASKED), ("poor", Rule.BARRIER)},
    ),
    "a tombstone with an effect": (
        sql("inventory", "insert into reservations values ('lost', 'r-x', 'o-lost', 'released')"),
        {("lost", Rule.BARRIER), ("lost", Rule.ASKED)},
    ),
    "an undo before its do without a tombstone": (
        sql("inventory", "delete from barrier where effect_id = 'lost/reserve_inventory/do'"),
        {("lost", Rule.BARRIER)},
    ),
    "an effect without an answer": (
        sql("payment", "delete from barrier where effect_id = 'done-2/process_payment/do'"),
        {("done-2", Rule.BARRIER)},
    ),
    "an answer to a step of another service": (
        sql("payment", "update barrier set effect_id = 'done-2/create_shipment/do' where effect_id like 'done-2/%'"),
        {("done-2", Rule.ASKED), ("done-2", Rule.BARRIER)},
    ),
    "a charge and a refund without a saga": (
        sql(
            "payment",
            "insert into ledger values ('ghost', 'charge', 'p-x', 'o-x', 'c-1', 7)",
            "insert into ledger values ('ghost', 'refund', 'p-x', 'o-x', 'c-1', 7)",
        ),
        {("ghost", Rule.ASKED)},
    ),
    "a reservation without a saga": (
        sql("inventory", "insert into reservations values ('ghost', 'r-x', 'o-x', 'released')"),
        {("ghost", Rule.ASKED)},
    ),
    # One effect, several books.
    "another id of a reservation": (
        sql("inventory", "update reservations set reservation_id = 'r-x' where saga_id = 'far'"),
        {("far", Rule.IDS)},
    ),
    "another id of a shipment": (
        sql("shipment", "update shipments set shipment_id = 's-x' where saga_id = 'unheard'"),
        {("unheard", Rule.IDS)},
    ),
    "another id of a payment": (
        sql("payment", "update ledger set payment_id = 'p-x' where saga_id = 'done-1'"),
        {("done-1", Rule.IDS)},
    ),
    "a refund of another payment": (
        sql("payment", "update ledger set payment_id = 'p-x' where saga_id = 'far' and kind = 'refund'"),
        {("far", Rule.IDS), ("far", Rule.REFUND)},
    ),
    "another id in the order's event": (
        log("order-o-done-1", altered("order.shipped/1", shipment_id="s-x")),
        {("done-1", Rule.IDS)},
    ),
    "another id in the context": (
        log("poor", altered("step_done/1", context={"reservation_id": "r-x"})),
        {("poor", Rule.IDS)},
    ),
    "another id in the barrier": (
        sql(
            "inventory", ("update barrier set reply = $1 where effect_id = 'done-1/reserve_inventory/do'", OTHER_REPLY)
        ),
        {("done-1", Rule.IDS), ("done-1", Rule.ANSWER)},
    ),
    "another reason in the barrier": (
        sql("payment", ("update barrier set reply = $1 where effect_id = 'poor/process_payment/do'", OTHER_REPLY)),
        {("poor", Rule.ANSWER)},
    ),
    "another id in the log": (
        log("far", altered("step_done/1", reply={"type": "inventory.reserved", "reservation_id": "r-x"})),
        {("far", Rule.IDS), ("far", Rule.ANSWER)},
    ),
    "an answer that the saga was not told": (
        sql("payment", "update barrier set outcome = 'ok' where effect_id = 'poor/process_payment/do'"),
        {("poor", Rule.BARRIER)},
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_was_tampered_with_is_named_and_nothing_else(world: Books, planted: str) -> None:
    tamper, expected = PLANTED[planted]
    tamper(world)
    report = audited(world)
    assert {(violation.subject, violation.rule) for violation in report.violations} == expected, render(report)
    assert not report.clean


def test_a_violation_is_told_with_what_was_found_and_expected(world: Books) -> None:
    PLANTED["a charge of another amount"][0](world)
    told = render(audited(world)).splitlines()
    assert told[0] == (
        "done-2: a completed saga has each effect once, as ordered: found charges [('o-done-2', 'c-2', 1)]; "
        "expected [('o-done-2', 'c-2', 1100)]"
    )
    assert told[-1].endswith("0 unfinished; 2 violations")


def test_the_report_for_programs_says_the_same(world: Books) -> None:
    PLANTED["a charge of another amount"][0](world)
    assert msgspec.json.decode(render_json(audited(world))) == {
        "clean": False,
        "orders": 11,
        "completed": 3,
        "compensated": 8,
        "live": 0,
        "effects": 29,
        "tombstones": 2,
        "refusals": 5,
        "totals_compared": True,
        "unfinished": [],
        "violations": [
            {
                "subject": "done-2",
                "rule": "a completed saga has each effect once, as ordered",
                "found": "charges [('o-done-2', 'c-2', 1)]",
                "expected": "[('o-done-2', 'c-2', 1100)]",
            },
            {"subject": "payment", "rule": str(Rule.MONEY), "found": "3302 cents taken", "expected": "4401"},
        ],
    }


def test_every_rule_is_planted_against() -> None:
    assert {rule for _, expected in PLANTED.values() for _, rule in expected} == set(Rule)
