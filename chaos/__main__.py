"""`python -m chaos`: orders through seven processes and three servers, all of them killed again and again.

Every order that was answered 202 must end, soon after the last fault, and the audit must find nothing. The faults and
the load are drawn from a seed; what was injected and what was absorbed is counted, and none of it may be zero.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import asyncpg
from tests.servers.process import NoServerError

from chaos.deployment import Deployment
from chaos.faults import Faults
from chaos.figures import Figures
from chaos.load import Load

LIMIT = 30.0
"""Seconds after the last fault within which all but one in a hundred of the orders must have ended."""
PATIENCE = 180.0
"""Seconds after the last fault until what has not ended counts as lost."""
ENDED = ("completed", "compensated")
ABSORBED = ("conflicts", "commands_repeated", "replies_without_effect", "resent")
"""Each must have happened: else the run has not shown that it does no harm."""


async def live(deployment: Deployment, accepted: dict[str, float]) -> dict[str, str]:
    """The accepted orders that have not ended, with their status; all of them while the database is away."""
    try:
        rows = {saga_id: status for saga_id, status, _ in await deployment.saga_rows()}
    except (OSError, asyncpg.PostgresError):
        return dict.fromkeys(accepted, "unknown")
    return {saga_id: rows.get(saga_id, "missing") for saga_id in accepted if rows.get(saga_id) not in ENDED}


async def under_fire(deployment: Deployment, load: Load, faults: Faults, figures: Figures) -> dict[str, str]:
    """Run load and faults, then wait for the end of all orders; those that have not ended."""
    # A start blocks its thread until the process is ready: none may keep a server from coming back.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2 * len(deployment.applications)))
    watching = asyncio.create_task(figures.run())
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(load.run())
        tasks.create_task(faults.run())
    while (left := await live(deployment, load.accepted)) and time.time() < faults.last + PATIENCE:  # noqa: ASYNC110
        await asyncio.sleep(0.2)
    watching.cancel()
    await figures.look()
    return left


def judge(
    deployment: Deployment, load: Load, faults: Faults, figures: Figures, left: dict[str, str]
) -> dict[str, object]:
    """What came of it. `wrong` lists what must not be."""
    rows = asyncio.run(deployment.saga_rows())
    late = sorted(
        max(0.0, ended_at / 1e6 - max(faults.last, load.accepted[saga_id]))
        for saga_id, _, ended_at in rows
        if saga_id in load.accepted and ended_at is not None
    )
    p99 = late[int(len(late) * 0.99)] if late else float("inf")
    audited = deployment.run("audit", "--json")
    if not audited.stdout.startswith("{"):
        raise NoServerError(f"the audit could not be made: {audited.stderr}")
    audit = json.loads(audited.stdout)
    absorbed = {what: figures.total[what] for what in ABSORBED} | {"tombstones": audit["tombstones"]}
    wrong = [f"saga {saga_id} has not ended: {status}" for saga_id, status in left.items()]
    if p99 > LIMIT:
        wrong.append(f"p99 to the end after the last fault is {p99:.1f} s, more than {LIMIT:g} s")
    if audited.returncode:
        wrong += [f"the audit finds: {violation}" for violation in audit["violations"]]
    wrong += [f"nothing of this kind happened: {what}" for what, count in absorbed.items() if not count]
    return {
        "answers": dict(load.answers),
        "injected": dict(sorted(faults.injected.items())),
        "absorbed": absorbed,
        "work": dict(sorted(figures.total.items())),
        "audit": {what: count for what, count in audit.items() if isinstance(count, int)},
        "seconds_after_the_last_fault": {
            "p50": round(statistics.median(late), 2) if late else None,
            "p99": round(p99, 2),
            "last": round(late[-1], 2) if late else None,
        },
        "wrong": wrong,
    }


def main() -> int:
    """The command line; 1 when something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m chaos", description=__doc__)
    parser.add_argument("--orders", type=int, default=2_000)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which faults go on (default 60)")
    parser.add_argument("--seed", type=int, default=None, help="default: a new one, which is printed")
    parser.add_argument(
        "--keep", type=Path, default=None, help="a folder for logs and data, to be looked at afterwards"
    )
    arguments = parser.parse_args()
    seed = random.SystemRandom().randrange(2**32) if arguments.seed is None else arguments.seed
    print(f"seed {seed}, {arguments.orders} orders, {arguments.seconds:g} s of faults", flush=True)
    chance = random.Random(seed)
    with TemporaryDirectory(prefix="unwind-chaos-", ignore_cleanup_errors=True) as folder:
        deployment = Deployment(arguments.keep or Path(folder))
        try:
            deployment.start()
            apis = [each.url for each in deployment.apis]
            load = Load(apis, arguments.orders, arguments.orders / arguments.seconds, random.Random(chance.random()))
            faults = Faults(deployment, arguments.seconds, random.Random(chance.random()))
            figures = Figures(deployment.applications)
            left = asyncio.run(under_fire(deployment, load, faults, figures))
            verdict = judge(deployment, load, faults, figures, left)
        finally:
            deployment.stop()
    print(json.dumps(verdict, indent=2))
    return 1 if verdict["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
