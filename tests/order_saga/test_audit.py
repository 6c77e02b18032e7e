"""The audit: silent about sagas that ran, and naming exactly what was tampered with."""

import asyncio
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.order_saga.world import ENGINE, START, World, open_world

from order_saga.application.context import OrderContext
from order_saga.audit import AuditError, Report, Rule, audit, render
from order_saga.domain.order import OrderItem
from unwind.core.messages import Cancel, Pause

ITEMS = (OrderItem("p-1", 2, 500), OrderItem("p-2", 1, 100))


def order(name: str, customer: str = "c-1", items: tuple[OrderItem, ...] = ITEMS) -> OrderContext:
    total = sum(item.quantity * item.price for item in items)
    return OrderContext(f"o-{name}", customer, items, total)


async def build(folder: Path) -> None:
    """One saga for every road there is."""
    async with open_world(folder) as world:
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
    for service in ("inventory", "payment", "shipment"):
        # The services' clock is the machine's; the story's is not. As if all had been answered at its start:
        with closing(sqlite3.connect(folder / f"{service}.db")) as database, database:
            database.execute("update barrier set recorded_at = ?", (START,))


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    asyncio.run(build(folder))
    return folder


@pytest.fixture
def world(untouched: Path, tmp_path: Path) -> Path:
    return shutil.copytree(untouched, tmp_path / "world")


def audited(folder: Path, *, allow_live: bool = False) -> Report:
    names = (ENGINE, "inventory.db", "payment.db", "shipment.db")
    return audit(*(folder / name for name in names), allow_live=allow_live)


# ------------------------------------------------------------------------------------------------------- what is clean


def test_sagas_that_ran_are_clean(world: Path) -> None:
    report = audited(world)
    assert report.violations == ()
    assert report.clean
    assert (report.sagas, report.completed, report.compensated, report.unfinished) == (9, 3, 6, ())
    assert render(report) == "9 sagas: 3 completed, 6 compensated, 0 unfinished; 0 violations"


def test_nothing_is_written(world: Path) -> None:
    before = {path.name: path.read_bytes() for path in world.glob("*.db")}
    audited(world)
    assert {path.name: path.read_bytes() for path in world.glob("*.db")} == before


def test_answers_that_were_purged_are_not_missed(world: Path) -> None:
    for service in ("inventory", "payment", "shipment"):
        with Tampered(world / f"{service}.db") as database:
            database.execute("delete from barrier where effect_id not like 'cancelled/%'")
            database.execute("update barrier set recorded_at = ?", (2 * START,))
    assert audited(world).violations == ()


async def test_a_saga_under_way_is_a_violation_unless_that_is_allowed(tmp_path: Path) -> None:
    async with open_world(tmp_path) as opened:
        await under_way(opened)
        held = audited(tmp_path)
        allowed = audited(tmp_path, allow_live=True)
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


def test_a_file_that_is_not_there_is_reported(world: Path) -> None:
    (world / "payment.db").unlink()
    with pytest.raises(AuditError, match=r"payment\.db does not exist"):
        audited(world)


def test_files_of_another_kind_are_reported(world: Path) -> None:
    shutil.copy(world / "inventory.db", world / "payment.db")
    with pytest.raises(AuditError, match="no such table: ledger"):
        audited(world)


# --------------------------------------------------------------------------------------------- what was tampered with


class Tampered:
    """A database without its guards."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path)

    def __enter__(self) -> sqlite3.Connection:
        database = self._database
        database.execute("pragma ignore_check_constraints = on")
        database.execute("pragma foreign_keys = off")
        triggers = database.execute("select name from sqlite_master where type = 'trigger'").fetchall()
        for (name,) in triggers:
            database.execute(f'drop trigger "{name}"')
        return database

    def __exit__(self, *_: object) -> None:
        self._database.commit()
        self._database.close()


Event = dict[str, Any]
Mend = Callable[[list[Event]], list[Event]]


def sql(file: str, *statements: str) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        with Tampered(folder / f"{file}.db") as database:
            for statement in statements:
                changed = database.execute(statement)
                assert changed.rowcount != 0, f"nothing changed: {statement}"

    return tamper


def both(*tampers: Callable[[Path], None]) -> Callable[[Path], None]:
    def tamper(folder: Path) -> None:
        for each in tampers:
            each(folder)

    return tamper


def log(stream: str, change: Mend) -> Callable[[Path], None]:
    """Rewrite a stream as one commit with other events."""

    def tamper(folder: Path) -> None:
        with Tampered(folder / ENGINE) as database:
            rows = database.execute("select events from commits where stream_id = ? order by version", (stream,))
            events = [event for (data,) in rows for event in json.loads(data)]
            changed = change(events)
            database.execute("delete from commits where stream_id = ? and version > 1", (stream,))
            database.execute(
                "update commits set events = ?, count = ? where stream_id = ?",
                (json.dumps(changed).encode(), len(changed), stream),
            )

    return tamper


def without(name: str, step: str = "", key: str = "step") -> Mend:
    def change(events: list[Event]) -> list[Event]:
        kept = [event for event in events if event["type"] != name or (step and event.get(key) != step)]
        assert len(kept) < len(events)
        return kept

    return change


def altered(name: str, **fields: object) -> Mend:
    def change(events: list[Event]) -> list[Event]:
        number = next(place for place, event in enumerate(events) if event["type"] == name)
        return [*events[:number], events[number] | fields, *events[number + 1 :]]

    return change


def inserted(before: str, *new: Event) -> Mend:
    def change(events: list[Event]) -> list[Event]:
        number = next(place for place, event in enumerate(events) if event["type"] == before)
        return [*events[:number], *new, *events[number:]]

    return change


def appended(*new: Event) -> Mend:
    return lambda events: [*events, *new]


def undos_swapped(events: list[Event]) -> list[Event]:
    """The second undo goes first, as if compensation ran forward."""
    first = next(place for place, event in enumerate(events) if event["type"] == "undo_started/1")
    return [*events[:first], *events[first + 2 : first + 4], *events[first : first + 2], *events[first + 4 :]]


AT = {"at": START}
TURNED = {**AT, "type": "compensation_started/1", "cause": "cancelled", "targets": []}
UNCHECKED = (
    "create table bare as select * from {0}",
    "drop table {0}",
    "alter table bare rename to {0}",
)


def bare(table: str) -> tuple[str, ...]:
    return tuple(statement.format(table) for statement in UNCHECKED)


PLANTED: dict[str, tuple[Callable[[Path], None], set[tuple[str, Rule]]]] = {
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
        sql("engine", "update commits set events = x'746f726e' where stream_id = 'none' and version > 1"),
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
            *bare("ledger"),
            "insert into ledger select * from ledger where saga_id = 'done-2'",
            "update accounts set balance = balance - 1100 where customer_id = 'c-2'",
        ),
        {("done-2", Rule.ONCE), ("done-2", Rule.COMPLETED), ("payment", Rule.MONEY)},
    ),
    "a second refund": (
        sql(
            "payment",
            *bare("ledger"),
            "insert into ledger select * from ledger where saga_id = 'far' and kind = 'refund'",
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
    "an answer that the saga was not told": (
        sql("payment", "update barrier set outcome = 'ok' where effect_id = 'poor/process_payment/do'"),
        {("poor", Rule.BARRIER)},
    ),
}


@pytest.mark.parametrize("planted", PLANTED)
def test_what_was_tampered_with_is_named_and_nothing_else(world: Path, planted: str) -> None:
    tamper, expected = PLANTED[planted]
    tamper(world)
    report = audited(world)
    assert {(violation.subject, violation.rule) for violation in report.violations} == expected, render(report)
    assert not report.clean


def test_a_violation_is_told_with_what_was_found_and_expected(world: Path) -> None:
    PLANTED["a charge of another amount"][0](world)
    told = render(audited(world)).splitlines()
    assert told[0] == (
        "done-2: a completed saga has each effect once, as ordered: found charges [('o-done-2', 'c-2', 1)]; "
        "expected [('o-done-2', 'c-2', 1100)]"
    )
    assert told[-1].endswith("0 unfinished; 2 violations")


def test_every_rule_is_planted_against() -> None:
    assert {rule for _, expected in PLANTED.values() for _, rule in expected} == set(Rule)
