"""Progress of a starting pod, from running containers to the first answer of its own URL.

:class:`ReadinessTracker` is pure: from the helpers' lines and the time it computes the progress
that the user sees, and the end. :func:`wait_until_ready` feeds it from the engine.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass

from dit4c_p2p.messages.codec import InvalidMessage, decode
from dit4c_p2p.messages.node import Progress
from dit4c_p2p.messages.pod import HelperState, HelperStatus
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import EngineError, NodeFailure, NotFound, NotListening, PodBroken
from dit4c_p2p.node.pods.spec import HELPERS, Role
from dit4c_p2p.node.pods.status import Containers

_log = logging.getLogger(__name__)

# How often time is looked at while nothing is heard.
_LOOK_EVERY_S = 5.0
_FOLLOW_AGAIN_S = 0.5


@dataclass
class ReadinessTracker:
    """State of a starting pod. Times in seconds of any one clock.

    :param port: where the app is to listen.
    :param answers_s: for the app to listen there.
    :param publish_s: from then until the instance's own URL has answered through a router.
    :param since: when its container was started.
    """

    port: int
    answers_s: float
    publish_s: float
    since: float
    ready_at: float | None = None
    connected: bool = False
    published: bool = False
    auth_heard: bool = False
    trouble: str = ""

    def heard(self, status: HelperStatus, now: float) -> None:
        """Take a helper's status."""
        from_auth = status.helper == Role.AUTH
        self.auth_heard = self.auth_heard or from_auth
        match status.state:
            case HelperState.APP_READY:
                self.ready_at = now if self.ready_at is None else self.ready_at
            case HelperState.CONNECTED:
                self.connected, self.trouble = True, ""
            case HelperState.CONNECTING:
                self.connected = False
            case HelperState.PUBLISHED:
                self.published = True
            case HelperState.FAILING if not from_auth:
                self.trouble = status.detail
            case HelperState.WAITING_FOR_APP:
                self.ready_at = None

    def progress(self) -> Progress:
        """Return the progress that the user sees now."""
        if self.ready_at is None:
            return Progress(info=f"Waiting for the app to listen on port {self.port}", fraction=0.5)
        if self.trouble:
            return Progress(info=f"The app is ready, but not reachable yet: {self.trouble}")
        if not self.connected:
            return Progress(info="The app is ready; connecting it to the router", fraction=0.8)
        return Progress(info="The app is ready; checking its address", fraction=0.9)

    def left(self, now: float) -> float:
        """Return the seconds until the time limit, never negative."""
        if self.ready_at is None:
            return max(0.0, self.since + self.answers_s - now)
        return max(0.0, self.ready_at + self.publish_s - now)

    def overdue(self, now: float) -> NodeFailure | None:
        """Return the error to raise once the time is up; None before."""
        if self.published or self.left(now) > 0:
            return None
        if self.ready_at is None:
            if not self.auth_heard:
                return PodBroken("the pod's auth helper does not come up")
            return NotListening(
                f"the app did not listen on port {self.port} within {self.answers_s:.0f} seconds",
                hint=f"its image declares port {self.port}: is that where it listens, "
                "on all addresses or on 127.0.0.1?",
            )
        return PodBroken(f"the instance did not become reachable: {self.trouble or 'no reason'}")


async def wait_until_ready(
    engine: Engine,
    containers: Containers,
    arrival: ReadinessTracker,
    clock: Callable[[], float] = time.monotonic,
) -> AsyncGenerator[Progress, None]:
    """Say how ``arrival`` goes on; ends when it is published, or when the app has ended.

    An engine that goes away meanwhile is waited for, within the same limits.

    :raises NotListening, PodBroken: time is up.
    """
    said: asyncio.Queue[HelperStatus] = asyncio.Queue(maxsize=256)
    ended = asyncio.create_task(
        _app_ended(engine, containers[Role.APP].id), name="wait for the app"
    )
    tasks = [ended] + [
        asyncio.create_task(
            _follow_helper(engine, containers[role].id, said), name=f"follow {role}"
        )
        for role in HELPERS
    ]
    last: Progress | None = None
    try:
        while not (arrival.published or ended.done()):
            progress = arrival.progress()
            if progress != last:
                last = progress
                yield progress
            heard = await _next_helper_line(said, ended, min(_LOOK_EVERY_S, arrival.left(clock())))
            now = clock()
            if heard is not None:
                arrival.heard(heard, now)
            if (failure := arrival.overdue(now)) is not None:
                raise failure
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _next_helper_line(
    said: asyncio.Queue[HelperStatus], ended: asyncio.Task[None], limit_s: float
) -> HelperStatus | None:
    """The next line of a helper; None when the app has ended or nothing came for ``limit_s``."""
    get = asyncio.ensure_future(said.get())
    await asyncio.wait((get, ended), timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
    if get.done():
        return get.result()
    get.cancel()
    return None


async def _app_ended(engine: Engine, app: str) -> None:
    """Ends when the app does not run any more, or is gone."""
    while True:
        try:
            await engine.wait_container(app)
            return
        except NotFound:
            return
        except EngineError as error:
            _log.warning("waiting for an app: %s", error.one_line())
            await asyncio.sleep(_FOLLOW_AGAIN_S)


async def _follow_helper(engine: Engine, id: str, said: asyncio.Queue[HelperStatus]) -> None:
    """Put what a helper says into ``said``, over its restarts; ends when it is gone."""
    async with aclosing(said_by(engine, id)) as statuses:
        async for status in statuses:
            await said.put(status)


async def said_by(engine: Engine, id: str) -> AsyncGenerator[HelperStatus, None]:
    """What a helper's container says, from its start and over its restarts, until it is gone."""
    since = 0.0
    while True:
        try:
            async with aclosing(engine.follow_output(id, since)) as lines:
                async for line in lines:
                    try:
                        yield decode(line, HelperStatus)
                    except InvalidMessage as error:
                        _log.warning("a helper's line is no status: %s", error.one_line())
        except NotFound:
            return
        except EngineError as error:
            _log.warning("a helper's output can't be followed: %s", error.one_line())
        since = time.time()
        await asyncio.sleep(_FOLLOW_AGAIN_S)
