"""The `load` command: an open load of orders on a server that runs, with what became of each of them."""

import asyncio
import signal
import time
from contextlib import suppress
from fractions import Fraction
from secrets import token_hex
from typing import Annotated

import httpx
import msgspec
import typer
from rich.console import Console

from order_saga.load.arrivals import Arrivals, Plan
from order_saga.load.ends import Ends
from order_saga.load.screen import drawn, show
from order_saga.load.tally import Summary, Tally
from unwind.cli import DEFAULT_URL, AsJson, Url, call, credentials

INCOMPLETE, INTERRUPTED = 1, 130
SECONDS = 30.0
"""For how long, where nothing says how many."""
TIMEOUT = 30.0
"""Seconds for one call."""


def _share(text: str | Fraction) -> Fraction:
    """A share as somebody typed it."""
    if isinstance(text, Fraction):
        return text
    try:
        share = Fraction(text.strip().removesuffix("%")) / 100
    except (ValueError, ZeroDivisionError) as error:
        raise typer.BadParameter("give a percentage, such as 10%") from error
    if not 0 <= share <= 1:
        raise typer.BadParameter("give a percentage from 0% to 100%")
    return share


def load(
    *,
    rate: Annotated[float, typer.Option("--rate", min=0.01, max=10_000, help="Orders a second.")] = 50.0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", min=0.1, max=86_400, help="For so long; 30 unless --orders says.")
    ] = None,
    orders: Annotated[int | None, typer.Option("--orders", min=1, max=1_000_000, help="So many, and no more.")] = None,
    failing: Annotated[
        Fraction, typer.Option("--failing", metavar="SHARE", parser=_share, help="How many fail on purpose, e.g. 10%.")
    ] = Fraction(0),
    wait: Annotated[float, typer.Option("--wait", min=0, help="Seconds for the last ones to end.")] = 60.0,
    in_flight: Annotated[
        int, typer.Option("--in-flight", min=1, max=10_000, help="Calls that may wait for an answer at once.")
    ] = 64,
    url: Url = DEFAULT_URL,
    as_json: AsJson = False,
) -> None:
    """Place orders at a rate, over HTTP, and follow each to its end; one that fails on purpose ends by being undone.

    Orders come by the clock, whatever the answers take; where they cannot be sent so fast, it says so. 429 and 503 are
    counted, and asked again after the time that the server says, under the same key. UNWIND_URL says where the API is,
    UNWIND_API_KEY is sent.

    Exits with 0 when every order was accepted and has ended, 1 when one was not or has not within --wait, 2 when the
    call makes no sense, 3 when nobody answers, 130 on Ctrl-C, after its report.
    """
    # Ends here where nobody answers, or nobody lets us in.
    call("GET", url, "/sagas", query={"limit": 1}, program="order-saga")
    count = orders if orders is not None else max(1, round(rate * (seconds or SECONDS)))
    plan = Plan(rate, count, failing, in_flight, seconds, token_hex(4))
    summary = asyncio.run(_run(plan, url, wait, Console(stderr=True)))
    if as_json:
        typer.echo(msgspec.json.encode(summary).decode())
    else:
        Console(highlight=False).print(drawn(summary))
    for line in _remarks(summary):
        typer.echo(line, err=True)
    raise typer.Exit(_code(summary))


async def _run(plan: Plan, url: str, wait: float, console: Console) -> Summary:
    """To its end, or to Ctrl-C."""
    tally, interrupted = Tally(plan.rate, plan.orders), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    work = asyncio.create_task(_work(plan, url, wait, tally))
    watching = {asyncio.create_task(interrupted.wait())}
    drawing = {asyncio.create_task(show(tally, console))} if console.is_terminal else set()
    try:
        await asyncio.wait({work, *watching, *drawing}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        for task in (work, *watching, *drawing):
            task.cancel()
        await asyncio.wait({work, *watching, *drawing})
    for task in (work, *drawing):
        if not task.cancelled():
            task.result()
    return tally.summary(interrupted=interrupted.is_set())


async def _work(plan: Plan, url: str, wait: float, tally: Tally) -> None:
    limits = httpx.Limits(max_connections=plan.in_flight + 1, max_keepalive_connections=plan.in_flight + 1)
    async with httpx.AsyncClient(base_url=url, headers=credentials(), timeout=TIMEOUT, limits=limits) as http:
        arrivals = Arrivals(http, plan, tally, time.monotonic)
        placed = False

        def ended() -> bool:
            return placed and not tally.open

        following = asyncio.create_task(Ends(http, tally, arrivals.begun, time.monotonic).follow(ended))
        try:
            await arrivals.place(wait)
            placed = True
            with suppress(TimeoutError):  # told by what has not ended
                async with asyncio.timeout(wait):
                    await following
        finally:
            following.cancel()


def _code(summary: Summary) -> int:
    if summary.interrupted:
        return INTERRUPTED
    return INCOMPLETE if summary.not_accepted or summary.not_ended else 0


def _remarks(summary: Summary) -> list[str]:
    said = []
    if summary.interrupted:
        said.append(f"stopped after {summary.orders - summary.not_sent} of {summary.orders} orders")
    if not summary.kept_rate:
        said.append(
            f"the rate was not kept: orders were sent up to {summary.behind_seconds:g} s after their turn"
            + (f", and {summary.not_sent} not at all" if summary.not_sent and not summary.interrupted else "")
            + "; this machine or the server is too slow for it, or --in-flight too small"
        )
    if summary.not_ended and not summary.interrupted:
        count = sum(summary.not_ended.values())
        said.append(f"not ended within --wait: {count}; unwind sagas list shows which, unwind sagas explain why")
    return [f"order-saga: {line}" for line in said]
