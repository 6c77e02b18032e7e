"""Asking a black box until it says what it must: another process gives no signal to wait for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

PAUSE = 0.05


async def eventually(ask: Callable[[], Awaitable[T | None]], within: float) -> T:
    """The first answer that is not None. Raises TimeoutError after `within` seconds."""
    never = asyncio.Event()
    async with asyncio.timeout(within):
        while (answer := await ask()) is None:
            try:
                async with asyncio.timeout(PAUSE):
                    await never.wait()
            except TimeoutError:
                continue
    return answer
