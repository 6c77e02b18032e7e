"""`python -m benchmarks`: ceiling and engine in turn, each in a process of its own; the ratio pair by pair."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from typing import Any

PAIRS = 3
HEAD = (
    f"{'case':<12} {'sagas/s':>9} {'(min-max)':>15} {'of ceiling':>11} {'CPU us':>8} {'main us':>8} "
    f"{'p50 ms':>7} {'p99 ms':>7} {'commits':>8} {'disk B':>7} {'peak MiB':>9}"
)


def run_case(module: str, *words: object) -> dict[str, Any]:
    """Run one case in a fresh process."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, words)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def compare(workload: str, sagas: int, in_flight: int, pairs: int) -> list[dict[str, Any]]:
    """Ceiling, SQLite and memory in turn, `pairs` times; the medians, and the median of the ratios within each turn."""
    turns = [
        {
            "ceiling": run_case("ceiling", workload, sagas, in_flight),
            "sqlite": run_case("engine", "sqlite", workload, sagas, in_flight),
            "memory": run_case("engine", "memory", workload, sagas, in_flight),
        }
        for _ in range(pairs)
    ]
    rows = []
    for kind in ("ceiling", "sqlite", "memory"):
        figures = [turn[kind] for turn in turns]
        row: dict[str, Any] = {"case": figures[0]["name"], "in_flight": in_flight, "sagas": sagas}
        rates = [rate for each in figures for rate in each["per_second"]]
        row["per_second"] = statistics.median(rates)
        row["per_second_min"], row["per_second_max"] = min(rates), max(rates)
        ratios = [
            statistics.median(turn[kind]["per_second"]) / statistics.median(turn["ceiling"]["per_second"])
            for turn in turns
        ]
        row["of_ceiling"] = round(statistics.median(ratios), 3)
        for name in ("cpu_us", "main_thread_us", "p50_ms", "p99_ms", "commits", "disk_bytes", "peak_mib"):
            row[name] = statistics.median(each[name] for each in figures)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """For people."""
    lines = [HEAD]
    for row in rows:
        spread = f"({row['per_second_min']:.0f}-{row['per_second_max']:.0f})"
        lines.append(
            f"{row['case']:<12} {row['per_second']:>9.0f} {spread:>15} {row['of_ceiling']:>11.1%} "
            f"{row['cpu_us']:>8.0f} {row['main_thread_us']:>8.0f} {row['p50_ms']:>7.2f} {row['p99_ms']:>7.2f} "
            f"{row['commits']:>8.4f} "
            f"{row['disk_bytes']:>7.0f} {row['peak_mib']:>9.1f}"
        )
    return "\n".join(lines)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--sagas", type=int, default=10_000, help="per round (default 10000)")
    parser.add_argument("--in-flight", type=int, default=512, help="sagas at a time (default 512)")
    parser.add_argument("--pairs", type=int, default=PAIRS, help=f"turns (default {PAIRS})")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    arguments = parser.parse_args()
    rows = [
        row for workload in "AB" for row in compare(workload, arguments.sagas, arguments.in_flight, arguments.pairs)
    ]
    sys.stdout.write((json.dumps(rows, indent=2) if arguments.json else table(rows)) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
