"""Steps of engine calls: run concurrently, with the engine's refusals translated."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from dit4c_p2p.node.engine.refusals import RefusalFault, sort_engine_refusal
from dit4c_p2p.node.errors import (
    EngineFull,
    EngineSaid,
    ImageRefused,
    MachineRefused,
    NotFound,
)


async def gather_all(*steps: Coroutine[Any, Any, Any]) -> list[Any]:
    """Run all steps concurrently, each to its end, and return their results.

    No step creates anything after this returns. The first failure is raised unchanged.
    """
    results = await asyncio.gather(*steps, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results


@contextmanager
def sorted_refusals() -> Iterator[None]:
    """Translate the engine's refusals of an app's container.

    :raises ImageRefused, MachineRefused: a repeated call would be refused again.
    """
    try:
        yield
    except EngineFull:
        raise
    except EngineSaid as error:
        refusal = sort_engine_refusal(error.words, error.status)
        if refusal.fault is RefusalFault.IMAGE:
            raise ImageRefused(refusal.text, hint=refusal.hint) from None
        if refusal.fault is RefusalFault.MACHINE:
            raise MachineRefused(refusal.text, hint=refusal.hint) from None
        raise


@contextmanager
def machine_at_fault() -> Iterator[None]:
    """Translate the engine's refusals of a helper's container, which never are the user's fault.

    :raises MachineRefused: a repeated call would be refused again.
    """
    try:
        yield
    except NotFound as error:
        if "no such image" not in str(error).lower():
            raise
        raise MachineRefused(
            "the machine it was to run on lacks an image that every instance needs",
            hint="its owner makes it with 'dit4c images build', and starts the agent again",
        ) from None
    except EngineFull:
        raise
    except EngineSaid as error:
        refusal = sort_engine_refusal(error.words, error.status)
        if refusal.fault is RefusalFault.PASSING:
            raise
        raise MachineRefused(
            "the machine it was to run on can't start what every instance needs",
            hint="its owner finds in its log what to do",
        ) from None
