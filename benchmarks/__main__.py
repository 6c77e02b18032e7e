"""`python -m benchmarks`: ceiling and engine in turn, each in a process of its own; the ratio turn by turn."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from benchmarks import dashboard, disk, fleet, orders
from benchmarks.tables import dashboard_table, engine_table, metrics_table, orders_table, road_table

TURNS = 3
PARTS = ("sqlite", "postgres", "road", "http", "dashboard", "metrics")
Case = tuple[str, tuple[str, ...]]
"""A module of this package, and the words that make it a case."""


def cases(part: str, workload: str) -> Sequence[Case]:
    """What is run in turn; the first two are the ceilings."""
    if part == "sqlite":
        return (
            ("ceiling", ("sqlite", workload)),
            ("ceiling", ("sqlite", workload, "plain")),
            ("engine", ("sqlite", workload)),
            ("engine", ("memory", workload)),
        )
    return (
        ("ceiling", ("postgres", workload)),
        ("ceiling", ("postgres", workload, "plain")),
        ("engine", ("postgres", workload)),
        ("engine", ("postgres", workload, "recorded")),
    )


def run_case(case: Case, sagas: int, in_flight: int) -> dict[str, Any]:
    """Run one case in a fresh process."""
    module, (kind, workload, *more) = case
    words = [kind, workload, str(sagas), str(in_flight), *more]
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *words],
        cwd=fleet.ROOT,
        check=True,
        capture_output=True,
        text=True,
        env=os.environ,
    )
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(part: str, workload: str, sagas: int, in_flight: int, turns: int) -> list[dict[str, Any]]:
    """All cases in turn, `turns` times; the medians, and the median of the ratios within each turn."""
    measured = [[run_case(case, sagas, in_flight) for case in cases(part, workload)] for _ in range(turns)]
    rows = []
    for figures in zip(*measured, strict=True):
        row: dict[str, Any] = {"case": figures[0]["name"], "in_flight": in_flight, "sagas": sagas}
        rates = [rate for each in figures for rate in each["per_second"]]
        row["per_second"] = statistics.median(rates)
        row["per_second_min"], row["per_second_max"] = min(rates), max(rates)
        row["of_ceiling"], row["of_plain"] = (share(figures, [turn[number] for turn in measured]) for number in (0, 1))
        for name in ("cpu_us", "main_thread_us", "p50_ms", "p99_ms", "commits", "disk_bytes", "peak_mib"):
            row[name] = statistics.median(each[name] for each in figures)
        rows.append(row)
    return rows


def share(figures: Sequence[dict[str, Any]], ceilings: Sequence[dict[str, Any]]) -> float:
    """The median of the ratios within each turn."""
    ratios = [
        statistics.median(each["per_second"]) / statistics.median(ceiling["per_second"])
        for each, ceiling in zip(figures, ceilings, strict=True)
    ]
    return float(round(statistics.median(ratios), 3))


def walk(url: str, workload: str, sagas: int, in_flight: int, turns: int) -> dict[str, Any]:
    """The full road beside the ceiling of the same database server, in turn."""
    rates, used = [], []
    ratios: dict[str, list[float]] = {"of_ceiling": [], "of_plain": []}
    for _ in range(turns):
        words = ("postgres", workload)
        ceilings = [run_case(("ceiling", given), sagas, 512) for given in (words, (*words, "plain"))]
        road = fleet.drive(url, workload, sagas, in_flight)
        rates.append(road["per_second"])
        for name, ceiling in zip(ratios, ceilings, strict=True):
            ratios[name].append(road["per_second"] / statistics.median(ceiling["per_second"]))
        used.append(road["cpu_us"])
    return {
        "case": f"road {workload}",
        "per_second": statistics.median(rates),
        "per_second_min": min(rates),
        "per_second_max": max(rates),
        **{name: round(statistics.median(each), 3) for name, each in ratios.items()},
        "cpu_us": {name: statistics.median(each[name] for each in used) for name in used[0]},
    }


def uncount(workload: str, sagas: int, in_flight: int, turns: int) -> dict[str, Any]:
    """What counting for the metrics costs: with and without it in turn, who is first changes."""
    counted, uncounted = (("engine", ("sqlite", workload, *more)) for more in ((), ("uncounted",)))
    rates: dict[Case, list[float]] = {counted: [], uncounted: []}
    for turn in range(turns):
        for case in (counted, uncounted) if turn % 2 else (uncounted, counted):
            rates[case].append(statistics.median(run_case(case, sagas, in_flight)["per_second"]))
    shares = [with_it / without for with_it, without in zip(rates[counted], rates[uncounted], strict=True)]
    return {
        "case": f"sqlite {workload}",
        "per_second": statistics.median(rates[counted]),
        "per_second_uncounted": statistics.median(rates[uncounted]),
        "cost": round(1 - statistics.median(shares), 4),
    }


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", choices=PARTS, action="append", help="one part; may be repeated (default: all)")
    parser.add_argument("--sagas", type=int, default=6_000, help="per round (default 6000)")
    parser.add_argument("--in-flight", type=int, default=512, help="sagas at a time (default 512)")
    parser.add_argument("--live", type=int, default=10_000, help="live sagas under the dashboard (default 10000)")
    parser.add_argument("--turns", type=int, default=TURNS, help=f"(default {TURNS})")
    parser.add_argument("--fsync-ms", type=float, default=0, help="as on a disk whose fsync takes so much longer")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")
    given = parser.parse_args()
    parts = given.only or PARTS
    found: dict[str, Any] = {}
    with disk.slower_by(given.fsync_ms), fleet.database_server() as url:
        found["fsync_ms"] = disk.sync_ms()
        os.environ["BENCH_DATABASE_URL"] = url
        for part in (part for part in ("sqlite", "postgres") if part in parts):
            found[part] = [
                row for workload in "AB" for row in compare(part, workload, given.sagas, given.in_flight, given.turns)
            ]
        if "road" in parts:
            # Twice as many: half of them wait in some queue on the way.
            found["road"] = [walk(url, workload, given.sagas, 2 * given.in_flight, given.turns) for workload in "AB"]
        if "dashboard" in parts:
            found["dashboard"] = dashboard.look(url, given.live)
        if "metrics" in parts:
            found["metrics"] = [uncount(each, given.sagas, given.in_flight, 3 * given.turns) for each in "AB"]
        if "http" in parts:
            found["http"] = orders.place(given.sagas)
    if given.json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return 0
    sys.stdout.write(f"a page and its fdatasync: {found['fsync_ms']:.2f} ms\n\n")
    for part in ("sqlite", "postgres"):
        if part in found:
            sys.stdout.write(engine_table(found[part]) + "\n\n")
    if "road" in found:
        sys.stdout.write(road_table(found["road"]) + "\n\n")
    if "http" in found:
        sys.stdout.write(orders_table(found["http"]) + "\n")
    if "metrics" in found:
        sys.stdout.write(metrics_table(found["metrics"]) + "\n")
    if "dashboard" in found:
        sys.stdout.write(dashboard_table(found["dashboard"]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
