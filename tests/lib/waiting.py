"""Waiting for what nobody tells of."""

import asyncio
from collections.abc import Callable


async def until(
    condition: Callable[[], bool], limit_s: float = 10, *, every_s: float = 0.01
) -> None:
    """Wait until ``condition`` holds.

    :param every_s: how often it is looked at.
    :raises TimeoutError: it did not in ``limit_s``.
    """
    async with asyncio.timeout(limit_s):
        while not condition():
            await asyncio.sleep(every_s)
