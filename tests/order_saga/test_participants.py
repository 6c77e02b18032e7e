"""The three services on real databases: nothing oversold, nothing charged twice, scripted failures as documented."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Mapping
from itertools import count
from pathlib import Path

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.order_saga.services import Services, ask, execute, open_services

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
from order_saga.domain.order import OrderItem
from order_saga.participants import scripted
from unwind.core.barrier import Answer
from unwind.core.steps import Command
from unwind.settings import Database

SAGA = "saga-1"
ITEMS = (OrderItem("p-1", 2, 500), OrderItem("p-2", 1, 100), OrderItem("p-1", 3, 500))
RESERVE, RELEASE = ReserveInventory("o-1", ITEMS), ReleaseInventory("o-1")
CHARGE, REFUND = ProcessPayment("o-1", "c-1", 2_600), RefundPayment("o-1")
SHIP, CANCEL = CreateShipment("o-1", "c-1", ITEMS), CancelShipment("o-1")
PAIRS: list[tuple[Command, Command]] = [(RESERVE, RELEASE), (CHARGE, REFUND), (SHIP, CANCEL)]


@pytest.fixture
async def services(databases: Mapping[str, Database]) -> AsyncIterator[Services]:
    async with open_services(databases) as opened:
        yield opened


def of(product: str, quantity: int = 1) -> ReserveInventory:
    return ReserveInventory("o-1", (OrderItem(product, quantity, 100),))


async def left(services: Services) -> dict[str, object]:
    """What the services hold for the saga, and whether stock and balances are as before."""
    return {
        "reserved": await services.rows("inventory", "select product_id, reserved from stock where reserved <> 0"),
        "open": await services.rows("inventory", "select saga_id from reservations where status = 'open'"),
        "owed": await services.rows("payment", "select customer_id from accounts where balance <> opening"),
        "active": await services.rows("shipment", "select saga_id from shipments where status = 'active'"),
    }


NOTHING: dict[str, object] = {"reserved": [], "open": [], "owed": [], "active": []}


# -------------------------------------------------------------------------------------------------------- what they do


async def test_items_are_held_each_product_once(services: Services) -> None:
    given_ = await services.ask(SAGA, RESERVE)
    assert msgspec.json.decode(given_.payload, type=InventoryReserved).reservation_id == "reservation-saga-1"
    lines = "select product_id, quantity from reservation_lines order by 1"
    assert await services.rows("inventory", lines) == [("p-1", 5), ("p-2", 1)]
    assert await services.rows("inventory", "select product_id, reserved from stock order by 1") == [
        ("p-1", 5),
        ("p-2", 1),
    ]


async def test_a_charge_is_taken_from_the_balance_and_written_to_the_ledger(services: Services) -> None:
    given_ = await services.ask(SAGA, CHARGE)
    assert msgspec.json.decode(given_.payload, type=PaymentProcessed).payment_id == "payment-saga-1"
    assert await services.rows("payment", "select kind, customer_id, amount from ledger") == [("charge", "c-1", 2_600)]
    assert await services.rows("payment", "select opening - balance from accounts") == [(2_600,)]


async def test_a_shipment_holds_what_was_ordered(services: Services) -> None:
    given_ = await services.ask(SAGA, SHIP)
    assert msgspec.json.decode(given_.payload, type=ShipmentCreated).shipment_id == "shipment-saga-1"
    rows = await services.rows("shipment", "select customer_id, contents, status from shipments")
    assert rows == [("c-1", '{"p-1":5,"p-2":1}', "active")]


async def test_a_refund_is_a_new_row_and_the_charge_stays(services: Services) -> None:
    await services.ask(SAGA, CHARGE)
    await services.ask(SAGA, REFUND)
    rows = await services.rows("payment", "select kind, amount from ledger order by kind")
    assert rows == [("charge", 2_600), ("refund", 2_600)]


async def test_a_batch_is_served_in_its_turn_and_only_as_far_as_it_goes(services: Services) -> None:
    asked = [ask(f"saga-{number}", of("product-scarce", pieces)) for number, pieces in enumerate((2, 4, 3, 1))]
    answers = await services.send_all(asked)
    assert [given_.outcome for given_ in answers] == ["ok", "refused", "ok", "refused"]
    assert answers[1].reason == "product-scarce is out of stock: 3 of 4 available"
    assert await services.rows("inventory", "select saga_id from reservations order by 1") == [("saga-0",), ("saga-2",)]
    assert await services.rows("inventory", "select reserved from stock") == [(5,)]
    charges = [
        ask(f"saga-{cents}", ProcessPayment("o", "customer-456", cents)) for cents in (900_000, 200_000, 100_000)
    ]
    assert [given_.outcome for given_ in await services.send_all(charges)] == ["ok", "refused", "ok"]
    assert await services.rows("payment", "select balance from accounts") == [(0,)]
    await services.send_all([ask("saga-900000", REFUND), ask("saga-100000", REFUND)])
    await services.send_all([ask("saga-0", RELEASE), ask("saga-2", RELEASE)])
    assert await left(services) == NOTHING


async def test_one_that_fails_on_purpose_does_not_take_the_others_of_its_batch_along(services: Services) -> None:
    answers = await services.send_all(
        [ask("saga-1", RESERVE), ask("saga-2", of("product-flaky")), ask("saga-3", RESERVE)]
    )
    assert [given_.outcome for given_ in answers] == ["ok", "failed", "ok"]
    assert await services.rows("inventory", "select saga_id from reservations order by 1") == [("saga-1",), ("saga-3",)]


# -------------------------------------------------------------------------------------------- repeated, reversed, late


@pytest.mark.parametrize(("do", "undo"), PAIRS)
async def test_what_was_done_and_undone_leaves_nothing(services: Services, do: Command, undo: Command) -> None:
    assert (await services.ask(SAGA, do)).outcome == "ok"
    assert await left(services) != NOTHING
    assert (await services.ask(SAGA, undo)).outcome == "ok"
    assert await left(services) == NOTHING


@pytest.mark.parametrize(("do", "undo"), PAIRS)
async def test_a_repeated_command_gets_the_same_reply_and_does_nothing(
    services: Services, do: Command, undo: Command
) -> None:
    first = await services.ask(SAGA, do)
    held = await left(services)
    assert await services.ask(SAGA, do, attempt=2) == first
    assert await left(services) == held
    undone = await services.ask(SAGA, undo)
    assert await services.ask(SAGA, undo, attempt=2) == undone
    assert await services.ask(SAGA, do, attempt=3) == first
    assert await left(services) == NOTHING


@pytest.mark.parametrize(("do", "undo"), PAIRS)
async def test_an_undo_that_overtakes_its_do_leaves_nothing(services: Services, do: Command, undo: Command) -> None:
    assert (await services.ask(SAGA, undo)).outcome == "ok"
    assert (await services.ask(SAGA, do)).outcome == "refused"
    assert await left(services) == NOTHING


async def test_a_refusal_stays_a_refusal_and_its_undo_does_nothing(services: Services) -> None:
    refusal = await services.ask(SAGA, of("product-out-of-stock"))
    assert await services.ask(SAGA, of("product-out-of-stock"), attempt=2) == refusal
    assert (await services.ask(SAGA, RELEASE)).outcome == "ok"
    assert await left(services) == NOTHING


# ------------------------------------------------------------------------------------------------- what cannot happen


COMMANDS = st.tuples(
    st.sampled_from(["saga-1", "saga-2", "saga-3"]),
    st.one_of(
        st.builds(
            lambda quantities: ReserveInventory(
                "o-1", tuple(OrderItem(product, quantity, 1) for product, quantity in quantities)
            ),
            st.lists(st.tuples(st.sampled_from(["product-scarce", "p-1"]), st.integers(1, 4)), min_size=1, max_size=3),
        ),
        st.just(RELEASE),
        st.builds(lambda amount: ProcessPayment("o-1", "customer-456", amount), st.integers(0, 700_000)),
        st.just(REFUND),
    ),
    st.integers(1, 3),
)


_examples = count()
"""One example's sagas are not another's; stock and accounts are."""


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMANDS, max_size=20))
def test_no_sequence_of_commands_oversells_or_overdraws(
    databases: Mapping[str, Database], commands: list[tuple[str, Command, int]]
) -> None:
    example = next(_examples)

    async def run() -> None:
        async with open_services(databases) as services:
            for saga, command, attempt in commands:
                first = await services.ask(f"{saga}-{example}", command, attempt)
                assert await services.ask(f"{saga}-{example}", command, attempt) == first
            await check_books(services)

    asyncio.run(run())


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(COMMANDS, min_size=1, max_size=30))
def test_no_batch_of_commands_oversells_or_overdraws(
    databases: Mapping[str, Database], commands: list[tuple[str, Command, int]]
) -> None:
    example = next(_examples)

    async def run() -> None:
        async with open_services(databases) as services:
            for service in ("inventory", "payment"):
                batch = [ask(f"{saga}-{example}", command, attempt) for saga, command, attempt in commands]
                batch = [message for message in batch if message.name.startswith(service)]
                if batch:
                    first = await services.send_all(batch)
                    assert await services.send_all(batch) == first
            await check_books(services)

    asyncio.run(run())


async def check_books(services: Services) -> None:
    """Stock is what open reservations hold, balances are what the ledger leaves, none is below nothing."""
    held = (
        "select product_id, cast(sum(quantity) as bigint) from reservation_lines join reservations using (saga_id)"
        " where status = 'open' group by product_id"
    )
    reserved = dict(await services.rows("inventory", "select product_id, reserved from stock"))
    open_lines = dict(await services.rows("inventory", held))
    assert reserved == {product: open_lines.get(product, 0) for product in reserved}
    assert reserved.get("product-scarce", 0) <= scripted.STOCK["product-scarce"]
    taken = "select cast(sum(case kind when 'charge' then amount else -amount end) as bigint) from ledger"
    ((net,),) = await services.rows("payment", taken)
    for opening, balance in await services.rows("payment", "select opening, balance from accounts"):
        assert balance == opening - (net or 0) >= 0


@pytest.mark.parametrize(
    ("file", "statement"),
    [
        ("inventory", "update stock set reserved = on_hand + 1"),
        ("inventory", "update stock set on_hand = -1, reserved = 0"),
        ("inventory", "insert into reservations (saga_id, reservation_id, order_id) values ('saga-1', 'r-2', 'o-1')"),
        ("payment", "update accounts set balance = -1"),
        ("payment", "insert into ledger values ('saga-1', 'charge', 'p-2', 'o-1', 'c-1', 1)"),
        ("payment", "update ledger set amount = 1"),
        ("payment", "delete from ledger"),
        ("shipment", "insert into shipments values ('saga-1', 's-2', 'o-1', 'c-1', '{}', 'active')"),
    ],
)
async def test_the_database_itself_refuses_what_must_not_be(
    databases: Mapping[str, Database], file: str, statement: str
) -> None:
    async with open_services(databases) as services:
        for command in (RESERVE, CHARGE, SHIP):
            await services.ask(SAGA, command)
    with pytest.raises((sqlite3.IntegrityError, asyncpg.IntegrityConstraintViolationError)):
        await execute(databases[file], statement)


# ---------------------------------------------------------------------------------------------------- fails on purpose


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        (of("product-out-of-stock"), "product-out-of-stock is out of stock: 0 of 1 available"),
        (of("product-scarce", 6), "product-scarce is out of stock: 5 of 6 available"),
        (ProcessPayment("o", "customer-456", 100_000_000), "insufficient balance: 1000000.00 is more than is on"),
        (ProcessPayment("o", "customer-broke", 1), "insufficient balance: 0.01 is more than is on the account"),
        (CreateShipment("o", "customer-nowhere", ITEMS), "no carrier delivers to the address of customer-nowhere"),
        (
            CreateShipment("o", "c-1", (OrderItem("product-undeliverable", 1, 1),)),
            "no carrier takes product-undeliverable",
        ),
    ],
)
async def test_a_scripted_refusal_says_why_and_leaves_nothing(
    services: Services, command: Command, reason: str
) -> None:
    given_ = await services.ask(SAGA, command)
    assert given_.outcome == "refused"
    assert given_.reason.startswith(reason)
    assert await left(services) == NOTHING


async def test_what_was_held_before_the_missing_item_is_let_go(services: Services) -> None:
    items = (OrderItem("p-1", 1, 1), OrderItem("product-out-of-stock", 1, 1))
    assert (await services.ask(SAGA, ReserveInventory("o-1", items))).outcome == "refused"
    assert await left(services) == NOTHING


@pytest.mark.parametrize(
    ("command", "failures", "reason"),
    [
        (of("product-flaky"), 2, "the warehouse does not answer"),
        (ProcessPayment("o", "customer-card-down", 1), 1, "the card service does not answer"),
    ],
)
async def test_a_flaky_service_works_after_as_many_attempts_as_documented(
    services: Services, command: Command, failures: int, reason: str
) -> None:
    for attempt in range(1, failures + 1):
        assert await services.ask(SAGA, command, attempt) == Answer("failed", reason=reason)
        assert await left(services) == NOTHING
    assert (await services.ask(SAGA, command, failures + 1)).outcome == "ok"


async def test_a_bank_that_is_down_puts_off_its_own_refund_and_no_other(services: Services) -> None:
    assert (await services.ask("saga-1", ProcessPayment("o-1", "customer-bank-down", 500))).outcome == "ok"
    assert (await services.ask("saga-2", ProcessPayment("o-2", "c-2", 700))).outcome == "ok"
    answers = await services.send_all([ask("saga-1", REFUND), ask("saga-2", REFUND)])
    assert [given_.outcome for given_ in answers] == ["failed", "ok"]
    assert answers[0].reason == "the bank does not answer"
    outcomes = [(await services.ask("saga-1", REFUND, attempt)).outcome for attempt in (2, 3, 4)]
    assert outcomes == ["failed", "failed", "ok"]
    assert await left(services) == NOTHING


async def test_a_closed_account_takes_no_refund_and_keeps_no_other_from_theirs(services: Services) -> None:
    assert (await services.ask("saga-1", ProcessPayment("o-1", "customer-closed", 500))).outcome == "ok"
    assert (await services.ask("saga-2", ProcessPayment("o-2", "c-2", 700))).outcome == "ok"
    refused = await services.ask("saga-1", RefundPayment("o-1"))
    assert (refused.outcome, refused.reason) == ("refused", "the account is closed and takes no refund")
    assert (await services.ask("saga-2", RefundPayment("o-2"))).outcome == "ok"
    assert (await services.ask("saga-1", RefundPayment("o-1"))).outcome == "refused"
    assert await services.rows("payment", "select saga_id from ledger where kind = 'refund'") == [("saga-2",)]


async def test_the_slow_carrier_is_waited_for_outside_of_the_transaction(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[float] = []

    async def wait(seconds: float) -> None:
        waited.append(seconds)
        assert (await services.ask("saga-2", SHIP)).outcome == "ok"

    monkeypatch.setattr(asyncio, "sleep", wait)
    slow = CreateShipment("o-1", "c-1", (OrderItem("product-slow", 1, 1),))
    assert (await services.ask(SAGA, slow)).outcome == "ok"
    assert waited == [3.0]


def test_every_scripted_name_is_documented_and_every_documented_name_is_scripted() -> None:
    text = (Path(__file__).parents[2] / "docs" / "scripted-failures.md").read_text()
    documented = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `")}
    tables = (
        scripted.STOCK,
        scripted.BALANCE,
        scripted.UNDELIVERABLE_CUSTOMERS,
        scripted.UNDELIVERABLE_PRODUCTS,
        scripted.CLOSED_ACCOUNTS,
        scripted.FLAKY_PRODUCTS,
        scripted.CARD_SERVICE_DOWN,
        scripted.BANK_DOWN,
        scripted.SLOW_PRODUCTS,
    )
    assert documented == {name for table in tables for name in table}
