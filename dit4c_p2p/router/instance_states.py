"""State of an instance that is not connected here, asked of the portal."""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

import aiohttp
import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.problems import read_problem
from dit4c_p2p.messages.codec import InvalidMessage, decode
from dit4c_p2p.messages.router import PageState
from dit4c_p2p.net.connection_limits import PerAddressLimiter
from dit4c_p2p.net.stranger_log import summed

_log = summed(logging.getLogger(__name__))

_MAX_REMEMBERED = 4096
# Made-up ids must not become a flood at the portal, nor push out what is known or being asked.
_MAX_ASKING = 32
_MAX_ASKING_PER_ADDRESS = 8
_UNKNOWN_TTL_S = 10.0
_MAX_ANSWER_BYTES = 16 * 1024


# Each with the moment until which it counts.
Answers = OrderedDict[str, tuple[float, PageState]]


class PageStatePortalSilent(DitError):
    """The portal did not answer in time; asking again later may help."""

    code = "portal_silent"


class PageStateClockOff(PageStatePortalSilent):
    """The portal refuses this router's token, because their clocks are too far apart."""

    code = "clock"


class PageStates:
    """Asks the portal for states, and caches each answer for a short time.

    :param client: an entered :class:`PortalClient`.
    :param timeout_s: how long one answer may take.
    :param ttl_s: how long it counts.
    :param clock: seconds since 1970, for the tokens.
    """

    def __init__(
        self,
        client: PortalClient,
        name: PeerName,
        key: asyncssh.SSHKey,
        *,
        timeout_s: float,
        ttl_s: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client = client
        self._name = name
        self._key = key
        self._timeout_s = timeout_s
        self._ttl_s = ttl_s
        self._clock = clock
        self._known: Answers = OrderedDict()
        self._unknown: Answers = OrderedDict()
        self._shares = PerAddressLimiter(_MAX_ASKING, _MAX_ASKING_PER_ADDRESS)
        self._asking: dict[str, asyncio.Task[PageState]] = {}

    async def of(self, instance: str, address: str) -> PageState:
        """What has become of the instance with this id.

        :param address: of the visitor who wants to know.
        :raises ClockOff: this router's clock is not the portal's.
        :raises PortalSilent: no proper answer in time, or too many are being waited for.
        """
        known = self._known.get(instance) or self._unknown.get(instance)
        if known is not None and time.monotonic() < known[0]:
            return known[1]
        task = self._asking.get(instance)
        if task is None:
            if not self._shares.take(address):
                raise PageStatePortalSilent("too many questions to the portal at once")
            task = asyncio.create_task(self._ask(instance), name=f"page state of {instance}")
            self._asking[instance] = task
            task.add_done_callback(lambda _: self._asked(instance, address))
        return await asyncio.shield(task)

    def _asked(self, instance: str, address: str) -> None:
        self._asking.pop(instance, None)
        self._shares.give_back(address)

    async def close(self) -> None:
        """Stop asking."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _ask(self, instance: str) -> PageState:
        token = tokens.issue(
            self._key, self._name, self._client.portal.url, now=self._clock(), lifetime_s=60
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                async with self._client.session.get(
                    self._client.url(f"/instances/{instance}/page-state"),
                    headers={"Authorization": f"Bearer {token}"},
                    allow_redirects=False,
                ) as response:
                    if response.status != 200:
                        problem = await read_problem(response)
                        _log.warning(
                            "the portal did not tell the state of %s: %s", instance, problem
                        )
                        raise (PageStateClockOff if problem.clock else PageStatePortalSilent)(
                            str(problem)
                        )
                    body = await response.content.read(_MAX_ANSWER_BYTES)
                    while chunk := await response.content.read(_MAX_ANSWER_BYTES - len(body)):
                        body += chunk
            state = decode(body, PageState)
        except (aiohttp.ClientError, OSError, TimeoutError, InvalidMessage) as error:
            text = str(error) or "time is up"
            _log.warning("the portal does not tell the state of %s: %s", instance, text)
            raise PageStatePortalSilent(f"the portal does not answer: {text}") from None
        unknown = state.state == "unknown"
        answers = self._unknown if unknown else self._known
        (self._known if unknown else self._unknown).pop(instance, None)
        ttl_s = max(self._ttl_s, _UNKNOWN_TTL_S) if unknown else self._ttl_s
        answers[instance] = (time.monotonic() + ttl_s, state)
        answers.move_to_end(instance)
        while len(answers) > _MAX_REMEMBERED:
            answers.popitem(last=False)
        return state
