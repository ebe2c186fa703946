"""Connections to the nodes: one is kept open to each, by ``dial`` through the overlay.

A node is up once its events arrive. Its pods are listed then, and again from time to time, so that
no change is missed. A connection that breaks is opened again; silence says nothing about a pod.
"""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol, TypeVar

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.node import (
    EVENTS_SILENCE_S,
    Alive,
    Describe,
    Failure,
    FollowEvents,
    ListPods,
    NodeDescription,
    NodeReply,
    NodeRequest,
    PodEvent,
    PodList,
    PodMemory,
    PodStatus,
)
from dit4c_p2p.overlay.errors import NoKeyInForce
from dit4c_p2p.scheduler.errors import NodeUnreachable, first_error_of_group
from dit4c_p2p.scheduler.node_connection import Dialler, NodeConnection

_log = logging.getLogger(__name__)

T = TypeVar("T")

DIAL_LIMIT_S = 15
# Describe, ListPods, PodLogs: the engine may be busy, a person may be waiting.
QUICK_LIMIT_S = 10
# Describe, once another node has answered it.
OTHERS_S = 2
# Events tell at once; this finds what an event that never came would have told.
COMPARE_EVERY_S = 60
# With the dial's limit: back within 20 s after a cut line has healed (security.md).
_FIRST_PAUSE_S = 0.3
_LONGEST_PAUSE_S = 3.0


class NodeEventListener(Protocol):
    """Receiver of the nodes' events. An error breaks the connection; the event comes again."""

    async def line_changed(self) -> None:
        """A line came up or went down, or why it is down has changed."""

    async def pod_changed(self, node: str, event: PodEvent) -> None:
        """Something happened to a pod."""

    async def memory_told(self, node: str, memory: PodMemory) -> None:
        """What a node's apps use."""

    async def before_list(self, node: str) -> Any:
        """The node's pods are about to be listed; what is returned is handed to :meth:`listed`."""

    async def listed(self, node: str, before: Any, pods: Sequence[PodStatus]) -> None:
        """All the pods that the node has."""


class NodeLink:
    """The line to one node, for as long as :meth:`run` runs."""

    def __init__(
        self,
        name: PeerName,
        dialler: Dialler,
        listener: NodeEventListener,
        clock: Callable[[], float],
    ) -> None:
        self.name = name
        self._dialler = dialler
        self._listener = listener
        self._clock = clock
        self._connection: NodeConnection | None = None
        self._is_up = asyncio.Event()
        # Whether it was tried at all; why it is down, for people; and why it can't come back.
        self.tried = False
        self.trouble = ""
        self.lost = ""
        self.heard_at: float | None = None

    @property
    def up(self) -> bool:
        """Whether the node is being heard."""
        return self._is_up.is_set()

    async def wait_up(self) -> None:
        """Return once the node is being heard."""
        await self._is_up.wait()

    async def run(self) -> None:
        """Keep the line open until cancelled."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        said = ""
        while True:
            lost = ""
            try:
                reason = await self._once(backoff)
                self.trouble = "it does not answer"
            except* DitError as group:
                error = first_error_of_group(group)
                reason = error.one_line() if isinstance(error, DitError) else str(error)
                self.trouble = "it does not answer"
                if isinstance(error, NoKeyInForce) and error.peer == self.name:
                    lost = f"the key of its machine ({self.name}) was revoked"
                    self.trouble = "its key was revoked"
            self.tried, self.lost = True, lost
            level = logging.INFO if reason != said else logging.DEBUG
            _log.log(level, "no line to %s: %s", self.name, reason)
            said = reason
            try:
                await self._listener.line_changed()
            except DitError as error:
                _log.warning(
                    "the loss of %s can't be recorded yet: %s", self.name, error.one_line()
                )
            await asyncio.sleep(backoff.pause_s())

    async def _once(self, backoff: Backoff) -> str:
        try:
            async with asyncio.timeout(DIAL_LIMIT_S):
                connection = await self._dialler(self.name)
        except TimeoutError:
            return f"not reached in {DIAL_LIMIT_S} s"
        try:
            async with aclosing(connection.call(FollowEvents(), EVENTS_SILENCE_S)) as items:
                _checked_node_event(await anext(items, None))
                self._connection = connection
                self._is_up.set()
                self.tried, self.trouble, self.lost = True, "", ""
                backoff.reset()
                _log.info("line to %s is up", self.name)
                async with asyncio.TaskGroup() as group:
                    comparing = group.create_task(self._compare(connection))
                    await self._listener.line_changed()
                    async for item in items:
                        self.heard_at = self._clock()
                        match _checked_node_event(item):
                            case PodEvent() as event:
                                await self._listener.pod_changed(str(self.name), event)
                            case PodMemory() as memory:
                                await self._listener.memory_told(str(self.name), memory)
                    comparing.cancel()
            return "it ended the stream of its events"
        finally:
            self._connection = None
            self._is_up.clear()
            await connection.close()

    async def _compare(self, connection: NodeConnection) -> None:
        while True:
            before = await self._listener.before_list(str(self.name))
            pods = await _last_reply_of_node(connection.call(ListPods(), QUICK_LIMIT_S), PodList)
            await self._listener.listed(str(self.name), before, pods.pods)
            await asyncio.sleep(COMPARE_EVERY_S)

    async def ask(self, request: NodeRequest, silence_s: float) -> AsyncGenerator[NodeReply, None]:
        """Make one call on the line.

        :raises NodeUnreachable: there is no line, or it broke.
        """
        connection = self._connection
        if connection is None:
            raise NodeUnreachable(f"{self.name} does not answer")
        try:
            async with aclosing(connection.call(request, silence_s)) as replies:
                async for reply in replies:
                    yield reply
        except NodeUnreachable:
            raise
        except DitError as error:
            raise NodeUnreachable(f"the line to {self.name} broke: {error}") from error

    async def result(self, request: NodeRequest, kind: type[T], limit_s: float) -> T | Failure:
        """The last record of one quick call.

        :raises NodeUnreachable: no line, it broke, or the time was up.
        """
        try:
            async with asyncio.timeout(limit_s):
                async with aclosing(self.ask(request, limit_s)) as replies:
                    async for reply in replies:
                        if isinstance(reply, (kind, Failure)):
                            return reply
        except TimeoutError:
            raise NodeUnreachable(f"{self.name} did not answer in {limit_s:.0f} s") from None
        raise NodeUnreachable(f"{self.name} ended a call without an answer")


class NodeLinks:
    """The nodes of a scheduler, by peer name."""

    def __init__(
        self,
        ids: Iterable[str],
        dialler: Dialler,
        listener: NodeEventListener,
        clock: Callable[[], float] = time.time,
    ) -> None:
        names = [PeerName(Kind.NODE, id) for id in dict.fromkeys(ids)]
        self._links = {str(name): NodeLink(name, dialler, listener, clock) for name in names}

    async def run(self) -> None:
        """Keep all lines open until cancelled."""
        async with asyncio.TaskGroup() as group:
            for name, link in self._links.items():
                group.create_task(link.run(), name=f"line to {name}")

    @property
    def names(self) -> list[str]:
        """All nodes."""
        return list(self._links)

    @property
    def up(self) -> list[str]:
        """The nodes that are connected."""
        return [name for name, link in self._links.items() if link.up]

    @property
    def down(self) -> list[NodeLink]:
        """The lines that were tried and don't stand."""
        return [link for link in self._links.values() if link.tried and not link.up]

    def lost(self, name: str) -> str:
        """Why a node can't come back, or is not ours any more; empty while it may."""
        link = self._links.get(name)
        return f"its machine ({name}) was removed from the cluster" if link is None else link.lost

    async def wait_any_up(self) -> None:
        """Return once a node is being heard, at once if there are none."""
        waits = [asyncio.create_task(link.wait_up()) for link in self._links.values()]
        try:
            if waits:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    def link(self, name: str) -> NodeLink:
        """The line to a node.

        :raises NodeUnreachable: the node is not one of ours.
        """
        try:
            return self._links[name]
        except KeyError:
            raise NodeUnreachable(f"{name} does not belong to this cluster any more") from None

    async def describe(self) -> dict[str, NodeDescription]:
        """Return the descriptions of the nodes that answer now.

        Once one has answered, the others are waited for a moment only: a start that there is room
        for is not held up by a node that takes its time.
        """
        loop = asyncio.get_running_loop()
        asked = {
            name: loop.create_task(
                self.link(name).result(Describe(), NodeDescription, QUICK_LIMIT_S),
                name=f"ask {name} what it is",
            )
            for name in self.up
        }
        waiting, end = set(asked.values()), loop.time() + QUICK_LIMIT_S
        try:
            while waiting and (left_s := end - loop.time()) > 0:
                done, waiting = await asyncio.wait(
                    waiting, timeout=left_s, return_when=asyncio.FIRST_COMPLETED
                )
                if any(not task.exception() for task in done):
                    end = min(end, loop.time() + OTHERS_S)
        finally:
            for task in waiting:
                task.cancel()
            answers = await asyncio.gather(*asked.values(), return_exceptions=True)
        described = {}
        for name, answer in zip(asked, answers, strict=True):
            if isinstance(answer, NodeDescription):
                described[name] = answer
            elif isinstance(answer, asyncio.CancelledError):
                _log.warning("%s does not describe itself in time", name)
            elif isinstance(answer, BaseException) and not isinstance(answer, DitError):
                raise answer
            else:
                _log.warning("%s does not describe itself: %s", name, answer)
        return described


def _checked_node_event(item: NodeReply | None) -> PodEvent | PodMemory | Alive:
    """:raises NodeUnreachable: not an item of FollowEvents."""
    if isinstance(item, (PodEvent, PodMemory, Alive)):
        return item
    text = item.text if isinstance(item, Failure) else "it does not tell its events"
    raise NodeUnreachable(text)


async def _last_reply_of_node(replies: AsyncGenerator[NodeReply, None], kind: type[T]) -> T:
    """:raises NodeUnreachable: the last record is not of that kind."""
    last: NodeReply | None = None
    async with aclosing(replies) as items:
        async for item in items:
            last = item
    if isinstance(last, kind):
        return last
    raise NodeUnreachable(last.text if isinstance(last, Failure) else "a call got no answer")
