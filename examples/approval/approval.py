"""An expense is paid once somebody has approved it; a no, or silence, gives the money back to the budget."""

import asyncio
import tempfile
from datetime import timedelta
from pathlib import Path
from sqlite3 import Connection

from msgspec import Raw, Struct
from msgspec.json import encode
from msgspec.structs import replace

from unwind import Command, CommandStep, HandlerCall, Kind, Participant, Refused, Saga, SignalStep
from unwind.bootstrap import Embedded, open_worker
from unwind.cli import Settings


class Expense(Struct, frozen=True):
    employee: str
    cents: int
    approved_by: str = ""


class Hold(Command, frozen=True, tag="budget.hold"):
    cents: int


class Release(Command, frozen=True, tag="budget.release"):
    cents: int


class Pay(Command, frozen=True, tag="budget.pay"):
    employee: str
    cents: int


class Verdict(Struct, frozen=True):
    """What the signal says."""

    approved: bool
    by: str


class HoldBudget(CommandStep[Expense, None]):
    name = "hold_budget"

    def execute(self, expense: Expense) -> Command:
        return Hold(expense.cents)

    def compensate(self, expense: Expense) -> Command:
        return Release(expense.cents)


class Approval(SignalStep[Expense, Verdict]):
    """Waits for `POST /api/v1/sagas/{id}/signals/approval`, or `engine.signal`."""

    name = "approval"
    timeout = timedelta(seconds=1)  # days, in earnest

    def succeeded(self, expense: Expense, verdict: Verdict) -> Expense | Refused:
        return replace(expense, approved_by=verdict.by) if verdict.approved else Refused(f"{verdict.by} says no")


class PayOut(CommandStep[Expense, None]):
    name = "pay_out"
    kind = Kind.PIVOT

    def execute(self, expense: Expense) -> Command:
        return Pay(expense.employee, expense.cents)


expense_saga = Saga("expense", context=Expense, steps=[HoldBudget(), Approval(), PayOut()])
budget = Participant[Connection]("budget")
TABLES = "create table if not exists held (saga_id text primary key, cents integer not null)"


@budget.handles(Hold)
def hold(tx: Connection, command: Hold, call: HandlerCall) -> None:
    tx.execute("insert into held values (?, ?)", (call.saga_id, command.cents))


@budget.undoes(Release)
def release(tx: Connection, command: Release, call: HandlerCall) -> None:
    tx.execute("delete from held where saga_id = ?", (call.saga_id,))


@budget.handles(Pay)
def pay(tx: Connection, command: Pay, call: HandlerCall) -> None:
    tx.execute("delete from held where saga_id = ?", (call.saga_id,))


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(data_dir=Path(folder), database=Path(folder) / "unwind.db")
        async with open_worker(settings, [expense_saga], [Embedded(budget, TABLES)]) as worker:
            for employee, verdict in (("Ada", Verdict(True, "Grace")), ("Bob", Verdict(False, "Grace")), ("Eve", None)):
                started = await worker.engine.start(expense_saga, Expense(employee, 4_200))
                if verdict is not None:
                    await worker.engine.signal(started.saga_id, "approval", Raw(encode(verdict)))
                ended = await worker.engine.ended(started.saga_id)
                history = await worker.queries.history(started.saga_id)
                wait = next(entry for entry in history.entries if entry.step_name == "approval")
                print(
                    f"{employee}: {ended.status}, approval {wait.status}" + (f" ({wait.error})" if wait.error else "")
                )


if __name__ == "__main__":
    asyncio.run(main())
