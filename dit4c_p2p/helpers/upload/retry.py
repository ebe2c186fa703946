"""Asking an image server until it answers."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.oci.registry_client import RegistryAway, RegistryRefused

T = TypeVar("T")

_log = logging.getLogger(__name__)

# The portal's wish may be newer than what the image server has heard of it.
REFUSED_FOR_S = 60.0
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 10.0
_NOT_YET = frozenset({401, 403})


class Retry:
    """Repeats calls that may go well in a while.

    Who waits for how long in all is for the agent to decide, which ends the helper.

    :param say: told a sentence while the image server is waited for, and an empty one after.
    """

    def __init__(self, say: Callable[[str], None] = lambda text: None) -> None:
        self._say = say

    async def __call__(self, call: Callable[[], Awaitable[T]]) -> T:
        """The result of ``call()``.

        :raises RegistryRefused: it is no, also after a minute.
        :raises DitError: whatever else the call raises.
        """
        loop = asyncio.get_running_loop()
        backoff, end, waited = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S), None, False
        while True:
            try:
                result = await call()
            except RegistryAway as error:
                _log.warning("%s: trying again", error)
                self._say("Waiting for the image server to answer")
            except RegistryRefused as error:
                if error.status not in _NOT_YET:
                    raise
                end = end or loop.time() + REFUSED_FOR_S
                if loop.time() >= end:
                    raise
                _log.info("%s: trying again", error)
            else:
                if waited:
                    self._say("")
                return result
            waited = True
            await asyncio.sleep(backoff.pause_s())
