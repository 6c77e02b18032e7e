"""What a person sees of a run: a bar for what is placed and one for what has ended, and the figures beneath."""

import asyncio
from collections.abc import Iterator

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from order_saga.load.tally import Latencies, Summary, Tally

EVERY = 0.25
"""Seconds between two pictures."""


async def show(tally: Tally, console: Console) -> None:
    """Draw what is known until cancelled; the last picture is wiped away."""
    progress = Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    placed = progress.add_task("accepted", total=tally.orders)
    ended = progress.add_task("ended", total=tally.orders)
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(_picture(tally, progress, placed, ended), refresh=True)
            await asyncio.sleep(EVERY)


def _picture(tally: Tally, progress: Progress, placed: TaskID, ended: TaskID) -> RenderableType:
    progress.update(placed, completed=tally.accepted)
    progress.update(ended, completed=sum(tally.ended.values()))
    return Group(progress, drawn(tally.summary(latest=True)))


def drawn(summary: Summary) -> Table:
    """The figures of a run."""
    table = Table("", "orders", "p50 ms", "p95 ms", "p99 ms", "max ms", box=None, pad_edge=False)
    for name, count, timed in _rows(summary):
        figures = (timed.p50, timed.p95, timed.p99, timed.max) if timed is not None else ()
        table.add_row(name, str(count), *("" if each is None else f"{each:,.1f}" for each in figures))
    return table


def _rows(summary: Summary) -> Iterator[tuple[str, int, Latencies | None]]:
    yield "accepted", summary.accepted, summary.to_accept_ms
    for status, count in summary.refused.items():
        yield f"answered {status}", count, None
    for name, count in (("not answered", summary.no_answer), ("not accepted", summary.not_accepted)):
        if count:
            yield name, count, None
    yield "ended", sum(summary.ended.values()), summary.to_end_ms
    for status, count in summary.ended.items():
        yield f"  {status}", count, None
    for status, count in summary.not_ended.items():
        yield f"open: {status}", count, None
