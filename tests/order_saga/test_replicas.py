"""Two replicas of each service on one server: nothing sold twice, no account overdrawn, nobody waiting in a ring."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import cycle
from typing import NamedTuple

import asyncpg
import pytest
from tests.eventually import eventually
from tests.order_saga.services import Services, ask, execute, open_services

from order_saga.application.commands import ProcessPayment, RefundPayment, ReleaseInventory, ReserveInventory
from order_saga.domain.order import OrderItem
from order_saga.participants import inventory, payment, scripted
from order_saga.participants.tx import Column, Tx
from unwind.core.barrier import Answer
from unwind.ports import Message
from unwind.settings import Database, Server

pytestmark = pytest.mark.integration

PATIENCE = 20.0
BLOCKED = "datname = current_database() and wait_event_type = 'Lock'"


@pytest.fixture
async def replicas(served: Mapping[str, Database]) -> AsyncIterator[tuple[Services, Services]]:
    async with open_services(served) as one, open_services(served) as other:
        yield one, other


@asynccontextmanager
async def held(database: Database, statement: str, *, waiting: int, commit: bool = False) -> AsyncIterator[None]:
    """What a third has written and not committed, until so many wait for it."""
    async with connected(database) as third:
        transaction = third.transaction()
        await transaction.start()
        await third.execute(statement)
        yield

        async def met() -> bool | None:
            # Asked anew each time: a transaction sees the activity as it was when it first looked.
            blocked = await execute(database, f"select 1 from pg_stat_activity where {BLOCKED}")
            return True if len(blocked) >= waiting else None

        await eventually(met, PATIENCE)
        await (transaction.commit() if commit else transaction.rollback())


def spread(replicas: tuple[Services, Services], messages: Sequence[Message]) -> list[asyncio.Task[Answer]]:
    """Each message alone, at one replica and the other in turn."""
    return [asyncio.create_task(replica.send(each)) for replica, each in zip(cycle(replicas), messages, strict=False)]


def outcomes(answers: Sequence[Answer]) -> Counter[str]:
    return Counter(given.outcome for given in answers)


def of(*products: str, quantity: int = 1) -> ReserveInventory:
    return ReserveInventory("o-1", tuple(OrderItem(product, quantity, 100) for product in products))


@pytest.mark.parametrize("commit", [False, True])
async def test_the_last_pieces_of_a_product_seen_for_the_first_time_are_sold_once(
    replicas: tuple[Services, Services], served: Mapping[str, Database], *, commit: bool
) -> None:
    seen = "insert into stock (product_id, on_hand) values ('product-scarce', 5)"
    async with held(served["inventory"], seen, waiting=4, commit=commit):
        asked = spread(replicas, [ask(f"saga-{number}", of("product-scarce")) for number in range(8)])
    answers = await asyncio.gather(*asked)
    assert outcomes(answers) == {"ok": 5, "refused": 3}
    assert {given.reason for given in answers} - {""} == {"product-scarce is out of stock: 0 of 1 available"}
    assert await execute(served["inventory"], "select on_hand, reserved from stock") == [(5, 5)]
    assert await execute(served["inventory"], "select count(*) from reservations") == [(5,)]


async def test_a_piece_that_is_let_go_meanwhile_is_had_by_who_waits_for_it(
    replicas: tuple[Services, Services], served: Mapping[str, Database]
) -> None:
    await replicas[0].ask("saga-0", of("product-scarce", quantity=5))
    async with held(served["inventory"], "select 1 from stock for update", waiting=1):
        freed = asyncio.create_task(replicas[0].ask("saga-0", ReleaseInventory("o-1")))
    await freed
    async with held(served["inventory"], "select 1 from stock for update", waiting=2):
        asked = spread(replicas, [ask("saga-1", of("product-scarce", quantity=3)), ask("saga-2", of("product-scarce"))])
    assert outcomes(await asyncio.gather(*asked)) == {"ok": 2}
    assert await execute(served["inventory"], "select reserved from stock") == [(4,)]


@pytest.mark.parametrize("commit", [False, True])
async def test_the_last_money_on_an_account_seen_for_the_first_time_is_taken_once(
    replicas: tuple[Services, Services], served: Mapping[str, Database], *, commit: bool
) -> None:
    opening = scripted.BALANCE["customer-456"]
    seen = f"insert into accounts (customer_id, opening, balance) values ('customer-456', {opening}, {opening})"
    async with held(served["payment"], seen, waiting=4, commit=commit):
        charge = ProcessPayment("o-1", "customer-456", opening // 4)
        asked = spread(replicas, [ask(f"saga-{number}", charge) for number in range(8)])
    assert outcomes(await asyncio.gather(*asked)) == {"ok": 4, "refused": 4}
    assert await execute(served["payment"], "select opening, balance from accounts") == [(opening, 0)]
    assert await execute(served["payment"], "select count(*), sum(amount) from ledger") == [(4, opening)]


async def test_a_command_that_reaches_both_replicas_is_done_once(
    replicas: tuple[Services, Services], served: Mapping[str, Database]
) -> None:
    batch = [ask(f"saga-{number}", of("p-1", "p-2")) for number in range(20)]
    async with held(served["inventory"], "insert into stock values ('p-1', 1000, 0)", waiting=2):
        both = [asyncio.create_task(replica.send_all(batch)) for replica in replicas]
    one, other = await asyncio.gather(*both)
    assert one == other
    assert outcomes(one) == {"ok": 20}
    assert await execute(served["inventory"], "select reserved from stock") == [(20,), (20,)]


NAMES = [f"x-{number}" for number in range(10)]
STOCK = "insert into stock (product_id, on_hand, reserved) select 'x-' || n, 100, 10 from generate_series(0, 9) as n"
ACCOUNTS = "insert into accounts select 'x-' || n, 100, 90 from generate_series(0, 9) as n"
ONE_STOCK = "select 1 from stock where product_id = 'x-5' for update"
ONE_ACCOUNT = "select 1 from accounts where customer_id = 'x-5' for update"
TENS = [10] * 10


class Meeting(NamedTuple):
    """A statement that two transactions run on the same rows."""

    service: str
    seed: str
    middle: str
    statement: str
    columns: Mapping[str, Column]


MEETINGS = {
    "look at stock": Meeting("inventory", STOCK, ONE_STOCK, inventory.LOOK, {"product_id": NAMES, "on_hand": TENS}),
    "look at accounts": Meeting(
        "payment", ACCOUNTS, ONE_ACCOUNT, payment.LOOK, {"customer_id": NAMES, "opening": TENS}
    ),
    "give back": Meeting("payment", ACCOUNTS, ONE_ACCOUNT, payment.GIVE_BACK, {"customer_id": NAMES, "amount": TENS}),
}


@pytest.mark.parametrize("meeting", MEETINGS)
@pytest.mark.usefixtures("replicas")
async def test_who_wants_the_same_rows_from_the_other_end_does_not_wait_in_a_ring(
    served: Mapping[str, Database], meeting: str
) -> None:
    service, seed, middle, statement, columns = MEETINGS[meeting]
    database = served[service]
    await execute(database, seed)

    async def run(given: Mapping[str, Column]) -> None:
        async with connected(database) as connection, connection.transaction():
            await Tx(connection).fetch(statement, **given)

    async with asyncio.TaskGroup() as tasks, held(database, middle, waiting=2):
        tasks.create_task(run(columns))
        tasks.create_task(run({name: column[::-1] for name, column in columns.items()}))


async def test_goods_are_let_go_in_order_whatever_the_order_of_the_sagas(
    replicas: tuple[Services, Services], served: Mapping[str, Database]
) -> None:
    database = served["inventory"]
    for name, products in (("a", NAMES), ("b", NAMES[::-1])):
        await replicas[0].send_all([ask(f"{name}-{product}", of(product)) for product in products])
    freed = [
        [ask(f"{name}-{product}", ReleaseInventory("o-1")) for product in products]
        for name, products in (("a", NAMES), ("b", NAMES[::-1]))
    ]
    async with held(database, ONE_STOCK, waiting=2):
        both = [asyncio.create_task(replica.send_all(each)) for replica, each in zip(replicas, freed, strict=True)]
    assert [outcomes(answers) for answers in await asyncio.gather(*both)] == [{"ok": 10}] * 2
    assert await execute(database, "select sum(reserved), count(*) from stock") == [(0, 10)]


async def test_charges_and_refunds_of_the_same_customers_cross(
    replicas: tuple[Services, Services], served: Mapping[str, Database]
) -> None:
    database = served["payment"]
    customers = ["customer-456", *NAMES]
    first = [ask(f"first-{customer}", ProcessPayment("o-1", customer, 100)) for customer in customers]
    again = [ask(f"again-{customer}", ProcessPayment("o-1", customer, 200)) for customer in reversed(customers)]
    undone = [ask(f"first-{customer}", RefundPayment("o-1")) for customer in reversed(customers)]
    await replicas[0].send_all(first)
    async with held(database, ONE_ACCOUNT, waiting=2):
        charged = asyncio.create_task(replicas[0].send_all(again))
        refunded = asyncio.create_task(replicas[1].send_all(undone))
    assert outcomes([*await charged, *await refunded]) == {"ok": 22}
    assert await execute(database, "select distinct opening - balance from accounts") == [(200,)]


@asynccontextmanager
async def connected(database: Database) -> AsyncIterator[asyncpg.Connection]:
    assert isinstance(database, Server)
    connection = await asyncpg.connect(database.url.reveal)
    try:
        yield connection
    finally:
        await connection.close()
