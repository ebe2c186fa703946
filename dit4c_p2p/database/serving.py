"""The databases of a process that serves, and that no other process serves from meanwhile.

A portal keeps in memory what it has told whom: changes of keys, live views, the line of each
scheduler. A second one on the same database would know nothing of it, and a key revoked at one
would live on at the other. Commands that only write (``dit4c token``, ``dit4c portal init``) may
use a database that is served from.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from dit4c_p2p.database.opening import databases, place_of
from dit4c_p2p.database.spec import DatabaseSpec


@asynccontextmanager
async def serving(specs: Sequence[DatabaseSpec]) -> AsyncIterator[None]:
    """As :func:`~dit4c_p2p.database.databases`, for the one process that serves from them.

    A server that is not up yet is waited for, a minute at most.

    :raises ConfigError: as there, or another process serves from one; also later, if another has
        taken it while its server was gone.
    """
    async with AsyncExitStack() as stack:
        for spec in specs:
            await stack.enter_async_context(place_of(spec).held())
        await stack.enter_async_context(databases(specs))
        yield
