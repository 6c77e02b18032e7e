"""What was measured, as tables for people."""

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def engine_table(rows: Sequence[Row]) -> str:
    """Ceiling and engine on one store."""
    head = (
        f"{'case':<19} {'sagas/s':>8} {'(min-max)':>14} {'of ceiling':>11} {'of plain':>9} "
        f"{'CPU us':>7} {'main us':>8} {'p50 ms':>7} {'p99 ms':>7} {'commits':>8} {'disk B':>7} {'peak MiB':>9}"
    )
    lines = [head]
    for row in rows:
        spread = f"({row['per_second_min']:.0f}-{row['per_second_max']:.0f})"
        lines.append(
            f"{row['case']:<19} {row['per_second']:>8.0f} {spread:>14} {row['of_ceiling']:>11.1%} "
            f"{row['of_plain']:>9.1%} {row['cpu_us']:>7.0f} {row['main_thread_us']:>8.0f} "
            f"{row['p50_ms']:>7.2f} {row['p99_ms']:>7.2f} "
            f"{row['commits']:>8.4f} {row['disk_bytes']:>7.0f} {row['peak_mib']:>9.1f}"
        )
    return "\n".join(lines)


def road_table(rows: Sequence[Row]) -> str:
    """The full road, and whose CPU it costs (microseconds per saga; the database server's is not in it)."""
    names = list(rows[0]["cpu_us"])
    lines = [
        f"{'case':<19} {'sagas/s':>8} {'(min-max)':>14} {'of ceiling':>11} {'of plain':>9} "
        + " ".join(f"{name:>10}" for name in names)
    ]
    for row in rows:
        spread = f"({row['per_second_min']:.0f}-{row['per_second_max']:.0f})"
        used = " ".join(f"{row['cpu_us'][name]:>10.0f}" for name in names)
        lines.append(
            f"{row['case']:<19} {row['per_second']:>8.0f} {spread:>14} {row['of_ceiling']:>11.1%} "
            f"{row['of_plain']:>9.1%} {used}"
        )
    return "\n".join(lines)


def orders_table(row: Row) -> str:
    """Orders one by one."""
    return (
        f"order by order over HTTP, {row['orders']} orders: {row['accepted_per_second']:.0f} accepted and "
        f"{row['ended_per_second']:.0f} ended per second; answered after {row['answer_p50_ms']} ms (p50), "
        f"{row['answer_p99_ms']} ms (p99); ended after {row['saga_p50_ms']} ms (p50), {row['saga_p99_ms']} ms (p99)"
    )


def metrics_table(rows: Sequence[Row]) -> str:
    """What counting costs."""
    return "\n".join(
        f"{row['case']}: {row['per_second']:.0f} sagas/s counted, {row['per_second_uncounted']:.0f} uncounted: "
        f"counting costs {row['cost']:.1%}"
        for row in rows
    )


def dashboard_table(rows: Sequence[Row]) -> str:
    """Pages and lists over many live sagas, and how often an open list is told of news."""
    lines = []
    for row in rows:
        lines.append(f"{row['case'] + ', 4 readers':<58} {'p50 ms':>7} {'p95 ms':>7} {'bytes':>7}")
        lines += [
            f"{path:<58} {page['p50_ms']:>7.1f} {page['p95_ms']:>7.1f} {page['bytes']:>7}"
            for path, page in row["pages"].items()
        ]
        lines.append(f"news on the open list: {row['news_per_second']:.1f} per second")
    return "\n".join(lines)
