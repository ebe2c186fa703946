"""Entry point of every helper: logging, one event loop, an orderly end by SIGTERM."""

import asyncio
import gc
import logging
import signal
import sys
from collections.abc import Awaitable, Callable

import uvloop

from dit4c_p2p.errors import DitError

# The node agent gives a container 2 s before it kills it, and the storage helper more.
STOP_LIMIT_S = 1.5

# What is loaded by now stays; of what comes and goes hardly anything hangs in circles, for which
# Python would look after every 700 objects otherwise.
_COLLECT_AFTER_OBJECTS = 10_000

logger = logging.getLogger(__name__)


def run(
    main: Callable[[asyncio.Event], Awaitable[None]], *, stop_limit_s: float = STOP_LIMIT_S
) -> int:
    """Run ``main(stop)`` until it returns; ``stop`` is set by SIGTERM and SIGINT.

    :param stop_limit_s: how long ``main`` may go on after that.

    Returns the exit status: 0, or 1 with one line on standard error for an expected failure.
    """
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(name)s %(message)s"
    )
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER_OBJECTS)
    try:
        uvloop.run(_run_helper_until_told(main, stop_limit_s))
    except DitError as error:
        print(error.one_line(), file=sys.stderr, flush=True)
        return 1
    return 0


async def _run_helper_until_told(
    main: Callable[[asyncio.Event], Awaitable[None]], stop_limit_s: float
) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    work = asyncio.ensure_future(main(stop))
    told = asyncio.create_task(stop.wait(), name="stop")
    await asyncio.wait({work, told}, return_when=asyncio.FIRST_COMPLETED)
    told.cancel()
    try:
        async with asyncio.timeout(stop_limit_s if stop.is_set() else None):
            await work
    except TimeoutError:
        logger.warning("did not end within %s s", stop_limit_s)
