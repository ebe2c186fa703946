"""One transaction, and what is told once it is committed."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any

import tortoise.transactions

_Call = tuple[Callable[..., None], tuple[object, ...]]

# What the innermost transaction of this task has to tell.
_to_tell: ContextVar[list[_Call] | None] = ContextVar("to_tell", default=None)


@asynccontextmanager
async def in_transaction(app: str) -> AsyncIterator[Any]:
    """One transaction on ``app``'s database: all or nothing, alone in writing from its start.

    So whatever it reads stays as it is until it ends, on either engine and in every process. One
    within another is a part of it, which can be undone alone.

    :raises OperationalError: (of Tortoise) the database does not work, or is in use for too long.
    """
    calls: list[_Call] = []
    around = _to_tell.get()
    token = _to_tell.set(calls)
    try:
        async with tortoise.transactions.in_transaction(app) as connection:
            yield connection
    finally:
        _to_tell.reset(token)
    if around is not None:
        around += calls
        return
    for tell, args in calls:
        tell(*args)


def once_committed(tell: Callable[..., None], *args: object) -> None:
    """Have ``tell(*args)`` called right after the commit, and never if there is none.

    For log lines and figures, which say what has happened. Outside of a transaction it has.
    """
    calls = _to_tell.get()
    if calls is None:
        tell(*args)
    else:
        calls.append((tell, args))
