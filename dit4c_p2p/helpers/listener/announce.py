"""Announcement of an instance to the portal, once its URL answers through a router."""

import asyncio
import logging
import ssl
import time
from collections.abc import Awaitable, Callable
from functools import partial

import aiohttp

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.helpers.listener.url_probe import probe_own_url
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.helpers.status import StatusLines
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.portal_client import PortalClient, trusting_context
from dit4c_p2p.identity.problems import read_problem
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.helper import AnswersOn
from dit4c_p2p.messages.pod import HelperState
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.overlay.client import ListenState

logger = logging.getLogger(__name__)

# Tight at first: a user waits for it. An app may take minutes, so it slackens, to a tenth of the
# time that has passed.
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 1.0
_PAUSE_FACTOR = 1.1
_LONGEST_PORTAL_PAUSE_S = 10.0

Ask = Callable[[str, RouterInfo], Awaitable[tuple[bool, str]]]


def _portal_trust(pod: HelperPod) -> ssl.SSLContext | None:
    """Made once: reading the system's authorities takes a while."""
    return trusting_context(pod.config.ca) if pod.config.url.startswith("https:") else None


class ListenAnnouncer:
    """Follows at which routers we listen, and tells the portal through which our URL answers.

    :meth:`on_state` is for :class:`Listening`; :meth:`run` does the rest. After each change of the
    set of routers all is asked and told anew.
    """

    def __init__(
        self,
        pod: HelperPod,
        client: PortalClient,
        status: StatusLines,
        *,
        asking: Ask | None = None,
    ) -> None:
        self._pod = pod
        self._client = client
        self._status = status
        self._ask = asking or partial(probe_own_url, trust=_portal_trust(pod))
        self._routers = {router.name: router for router in pod.config.routers}
        self._listening: set[str] = set()
        self._trouble: dict[str, str] = {}
        self._changed = asyncio.Event()
        self._say_where_we_are()

    def on_state(self, router: RouterInfo, state: ListenState, text: str) -> None:
        """The reverse forward at ``router`` changed; ``text`` says what is wrong."""
        if state is ListenState.LISTENING:
            self._listening.add(router.name)
            self._trouble.pop(router.name, None)
            self._changed.set()
        else:
            if text:
                self._trouble[router.name] = text
            if router.name in self._listening:
                self._listening.discard(router.name)
                self._changed.set()
        if not self._listening:
            self._say_where_we_are()

    async def run(self) -> None:
        """Probe and announce, again after each change, until cancelled."""
        while True:
            self._changed.clear()
            work = asyncio.create_task(self._announce(), name="announce")
            change = asyncio.create_task(self._changed.wait(), name="change of routers")
            try:
                await asyncio.wait({work, change}, return_when=asyncio.FIRST_COMPLETED)
                if work.done():
                    work.result()
                await change
            finally:
                work.cancel()
                change.cancel()
                await asyncio.gather(work, change, return_exceptions=True)

    def _say_where_we_are(self) -> None:
        if self._listening:
            self._status.report(HelperState.CONNECTED)
        elif self._trouble:
            self._status.report(HelperState.FAILING, "; ".join(self._trouble.values()))
        else:
            self._status.report(HelperState.CONNECTING)

    async def _announce(self) -> None:
        """Once for the present set of routers."""
        self._say_where_we_are()
        names = sorted(self._listening)
        if not names:
            return
        answering: list[str] = []
        async with asyncio.TaskGroup() as group:
            for name in names:
                group.create_task(self._until_it_answers(name, answering), name=f"ask {name}")

    async def _until_it_answers(self, name: str, answering: list[str]) -> None:
        """Ask through one router until the answer is yes, then tell the portal of all so far."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S, factor=_PAUSE_FACTOR)
        while True:
            alive, reason = await self._ask(self._pod.config.url, self._routers[name])
            if alive:
                break
            if not answering:
                self._status.report(HelperState.CONNECTED, reason)
            await asyncio.sleep(backoff.pause_s())
        answering.append(name)
        await self._tell(sorted(answering))

    async def _tell(self, routers: list[str]) -> None:
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PORTAL_PAUSE_S)
        while error := await self._put(routers):
            self._status.report(HelperState.FAILING, error)
            await asyncio.sleep(backoff.pause_s())
        logger.info("told the portal that %s answers on %s", self._pod.name, ", ".join(routers))
        self._status.report(HelperState.PUBLISHED)

    async def _put(self, routers: list[str]) -> str:
        """``PUT /instances/``; why it failed, or nothing."""
        token = tokens.issue(
            self._pod.key, self._pod.name, self._client.portal.url, now=time.time()
        )
        try:
            async with self._client.session.put(
                self._client.url("/instances/"),
                data=encode(AnswersOn(routers=routers)),
                headers={
                    "Authorization": f"Bearer {token}",
                    "Content-Type": "application/json",
                },
                allow_redirects=False,
            ) as response:
                if response.status in (200, 204):
                    return ""
                return str(await read_problem(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return f"the portal does not answer ({type(error).__name__})"
