"""Databases that one process alone serves from.

A portal keeps in memory which changes of keys, live views and scheduler links it has served. A
second portal on the same database would not share that memory: a key revoked at one would stay in
force at the other. Commands that only write (``dit4c token``, ``dit4c portal init``) may use a
database while a process serves from it.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from dit4c_p2p.database.opening import database_place, databases
from dit4c_p2p.database.spec import DatabaseSpec


@asynccontextmanager
async def serving(specs: Sequence[DatabaseSpec]) -> AsyncIterator[None]:
    """Open databases as :func:`~dit4c_p2p.database.databases` does, as their only serving process.

    Wait at most a minute for a server that is not up yet.

    :raises ConfigError: as there, or another process serves from one of them; also later, if
        another process has taken it while its server was gone.
    """
    async with AsyncExitStack() as stack:
        for spec in specs:
            await stack.enter_async_context(database_place(spec).held())
        await stack.enter_async_context(databases(specs))
        yield
