"""The engine's events: apps that end are told of, helpers that end are started again.

:class:`PodSupervisor` follows the engine, over its restarts, and after each (re)connect compares
what is there with what it knew, so that nothing missed in between stays unnoticed. A stream that
stays open may say nothing at all: every few seconds the containers are listed as well
(:meth:`PodSupervisor.look`), and a stream that did not tell what the list shows is opened again.

| container | when it ends while its app runs                                       |
|-----------|-----------------------------------------------------------------------|
| app       | once it is clear that it was by itself: a :class:`PodEvent` with the  |
|           | reason and the end of its log, and the rest of the pod is stopped     |
| listener, | started again, or made anew if it was removed: at first after a       |
| auth      | second, and after up to a minute when it keeps ending                 |
| infra     | the app is stopped: a pod does not run without who holds its firewall |

A pod that went down with its machine, with the engine or with its infra container is told of as
interrupted and started again: the app's same container, its files as they were.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from typing import Any

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.node import PodEvent, PodState, PodStatus
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import FilesFailed, NodeFailure, TransientError
from dit4c_p2p.node.pods import spec
from dit4c_p2p.node.pods.manager import HelperRestart, PodManager
from dit4c_p2p.node.pods.spec import HELPERS, Role
from dit4c_p2p.node.pods.status import memory_text

_log = logging.getLogger(__name__)

_RECONNECT_FIRST_S, _RECONNECT_LONGEST_S = 0.2, 5.0
# One list of containers is one quick call, whatever their number.
LOOK_EVERY_S = 5.0
_MEND_FIRST_S, _MEND_LONGEST_S = 1.0, 60.0
# An engine that does not answer says nothing about the helper.
_ENGINE_AGAIN_FIRST_S, _ENGINE_AGAIN_LONGEST_S = 1.0, 5.0
# A container that ran this long was well: the next wait is the first again.
_WELL_AFTER_S = 120.0
# A subscriber that is this far behind is cut off, and asks for the list again.
_MAX_BEHIND = 1000


class FellBehind(DitError):
    """A subscriber did not read its events in time, and has to start over."""

    code = "fell_behind"


class Subscription:
    """Events for one who follows. :meth:`next` gives them one by one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[PodEvent] = asyncio.Queue(maxsize=_MAX_BEHIND)
        self._behind = False

    def put(self, event: PodEvent) -> None:
        """Called by the keeper."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._behind = True

    async def next(self, limit_s: float) -> PodEvent | None:
        """The next event; None if there was none for ``limit_s``.

        :raises FellBehind: events were lost.
        """
        if self._behind:
            raise FellBehind(f"more than {_MAX_BEHIND} events were not read")
        try:
            async with asyncio.timeout(limit_s):
                return await self._queue.get()
        except TimeoutError:
            return None


@dataclass
class Restarts:
    """How often a container had to be started again of late. Pure.

    Only what was really started again counts: a look that finds it running is none.
    """

    count: int = 0
    last: float = float("-inf")

    def pause_s(self, now: float) -> float:
        """How long to wait before it is started again now."""
        if now - self.last > _WELL_AFTER_S:
            self.count = 0
        return min(_MEND_FIRST_S * 2.0**self.count, _MEND_LONGEST_S)

    def restarted(self, now: float) -> None:
        """It was started again."""
        # Past the longest pause there is nothing left to count.
        self.count, self.last = min(self.count + 1, 16), now


class PodSupervisor:
    """Watches over the pods of one agent for as long as :meth:`run` runs."""

    def __init__(self, pods: PodManager, engine: Engine, data_folder: str) -> None:
        self._pods = pods
        self._engine = engine
        self._data_folder = data_folder
        self._subscriptions: set[Subscription] = set()
        self._known: dict[str, PodStatus] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        # Helpers about to be started again; and how often each container was of late.
        self._waiting: set[tuple[str, Role]] = set()
        self._restarts: dict[tuple[str, Role], Restarts] = {}
        self._ending: set[str] = set()
        # What ran at the last look, what has ended since by the stream's word, and what the stream
        # had not told when it was looked at last.
        self._ran: frozenset[tuple[str, Role]] = frozenset()
        self._seen: Mapping[tuple[str, Role], bool] = {}
        self._told_ends: set[tuple[str, Role]] = set()
        self._untold: set[tuple[str, Role]] = set()
        self._stream: asyncio.Task[None] | None = None
        self.connected = asyncio.Event()
        pods.gone = self._gone

    @contextmanager
    def subscribe(self) -> Iterator[Subscription]:
        """What happens from now on."""
        subscription = Subscription()
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    async def run(self) -> None:
        """Follow the engine until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._follow(), name="follow the engine")
                group.create_task(self._look_again(), name="look at the engine")
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self) -> None:
        """Keep the stream of events open."""
        backoff = Backoff(_RECONNECT_FIRST_S, _RECONNECT_LONGEST_S)
        while True:
            stream = self._stream = asyncio.create_task(
                self._hear(backoff), name="the engine's events"
            )
            try:
                await asyncio.wait((stream,))
            finally:
                self._stream = None
                self.connected.clear()
                stream.cancel()
                (result,) = await asyncio.gather(stream, return_exceptions=True)
            if isinstance(result, TransientError):
                _log.warning("the engine's events: %s", result.one_line())
            elif isinstance(result, asyncio.CancelledError):
                _log.warning("the engine's events stayed silent, and are asked for again")
            elif result is not None:
                raise result
            else:
                _log.warning("the engine ended its events")
            await asyncio.sleep(backoff.pause_s())

    async def _hear(self, backoff: Backoff) -> None:
        """One stream of events, from its beginning to its end."""
        async with aclosing(self._engine.events(self._data_folder)) as events:
            async for event in events:
                backoff.reset()
                await self._take(event)

    async def _look_again(self) -> None:
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.look()
            except TransientError as error:
                _log.warning("looking at the engine: %s", error.one_line())

    async def look(self) -> None:
        """See to whatever the containers show now, told by the stream or not."""
        runs = await self._pods.containers()
        seen, self._seen = self._seen, runs
        for instance in {instance for instance, _ in seen.keys() | runs.keys()}:
            if instance in self._pods.discarding:
                continue
            changed = any(
                seen.get((instance, role)) is not runs.get((instance, role)) for role in Role
            )
            self._check(instance, runs, changed=changed)
        now_running = frozenset(key for key, running in runs.items() if running)
        ended = {key for key in self._ran - now_running if key[0] not in self._pods.discarding}
        self._ran = now_running
        # An event may be under way while the list is made: it has until the next look.
        silent = self._untold - self._told_ends
        self._untold = ended - self._told_ends
        self._told_ends.clear()
        if silent and self._stream is not None:
            self._stream.cancel()

    def _check(
        self, instance: str, runs: Mapping[tuple[str, Role], bool], *, changed: bool
    ) -> None:
        """One pod, of which every container's being is known."""
        if not runs.get((instance, Role.APP)):
            if changed:
                self._see_to(instance)
            return
        if changed:
            self._spawn(self._tell(instance), f"tell of {instance}")
        if not runs.get((instance, Role.INFRA)):
            self._spawn(self._infra_ended(instance), f"infra of {instance}")
            return
        for role in HELPERS:
            if not runs.get((instance, role)):
                self._mend_later(instance, role)

    async def _take(self, event: dict[str, Any]) -> None:
        if not event:
            await self._compare()
            self.connected.set()
            _log.info("following the engine's events")
            return
        attributes = event["Actor"]["Attributes"]
        instance, role = attributes.get(spec.LABEL_INSTANCE), attributes.get(spec.LABEL_ROLE)
        if instance is None or role not in list(Role) or instance in self._pods.discarding:
            return
        if event["Action"] in ("die", "destroy"):
            self._told_ends.add((instance, Role(role)))
        match event["Action"], Role(role):
            case "oom", Role.APP:
                await self._out_of_memory(instance)
            case "oom", _:
                _log.warning("pod of %s: %s uses too much memory", instance, role)
            case (("die" | "destroy"), Role.INFRA):
                self._spawn(self._infra_ended(instance), f"infra of {instance}")
            case (("die" | "destroy"), (Role.LISTENER | Role.AUTH) as helper):
                self._mend_later(instance, helper)
            case "die", Role.APP:
                self._see_to(instance)
            case _:
                await self._tell(instance)

    async def _compare(self) -> None:
        """What has changed while nobody looked; helpers that have ended meanwhile."""
        listed = {status.instance: status for status in (await self._pods.list()).pods}
        for instance in self._known.keys() - listed.keys():
            self._publish(instance, None)
        for instance, status in listed.items():
            if not _same(self._known.get(instance), status):
                self._publish(instance, status)
            if status.state is not PodState.RUNNING:
                self._see_to(instance)
        await self.look()

    async def _tell(self, instance: str) -> None:
        status = await self._pods.status(instance)
        if not _same(self._known.get(instance), status):
            self._publish(instance, status)

    async def _out_of_memory(self, instance: str) -> None:
        """A process in the app was killed; the app itself may live on."""
        status = await self._pods.status(instance)
        if status is not None and status.state is PodState.RUNNING:
            limit = memory_text(self._pods.memory_bytes)
            reason = f"a program in it was ended: together they used more than {limit} of memory"
            running = PodStatus(instance=instance, state=PodState.RUNNING, reason=reason)
            self._publish(instance, running)

    async def _infra_ended(self, instance: str) -> None:
        await self._pods.infra_ended(instance)
        self._see_to(instance)

    def _see_to(self, instance: str) -> None:
        """An app does not run: tell how it ended, or start it again; see ``status``."""
        if instance not in self._ending:
            self._ending.add(instance)
            self._spawn(self._settle(instance), f"finish exit of {instance}")

    async def _settle(self, instance: str) -> None:
        try:
            restarts = self._restarts_of(instance, Role.APP)
            now = asyncio.get_running_loop().time
            while not await self._settled(instance):
                await asyncio.sleep(restarts.pause_s(now()))
                restarts.restarted(now())
                try:
                    await self._pods.resume(instance)
                except NodeFailure as failure:
                    _log.warning("pod of %s: still down: %s", instance, failure.one_line())
        finally:
            self._ending.discard(instance)

    async def _settled(self, instance: str) -> bool:
        """Tell how the pod is; False: it is to be started again, or that can't be said or kept."""
        try:
            try:
                status = await self._pods.finish_exit(instance)
            except FilesFailed as failure:
                # That it is to stay down can't be written yet; that it has ended can be told.
                _log.warning("pod of %s: %s", instance, failure.one_line())
                await self._tell(instance)
                return False
            await self._tell(instance)
        except TransientError as failure:
            _log.warning("pod of %s: %s", instance, failure.one_line())
            return False
        return status is None or status.state is not PodState.INTERRUPTED

    def _mend_later(self, instance: str, role: Role) -> None:
        if (instance, role) not in self._waiting:
            self._waiting.add((instance, role))
            self._spawn(self._mend(instance, role), f"mend {role} of {instance}")

    async def _mend(self, instance: str, role: Role) -> None:
        """Start a helper again after a pause. Should it end again, that is told or seen anew."""
        now = asyncio.get_running_loop().time
        restarts = self._restarts_of(instance, role)
        backoff = Backoff(_ENGINE_AGAIN_FIRST_S, _ENGINE_AGAIN_LONGEST_S)
        try:
            await asyncio.sleep(restarts.pause_s(now()))
            while True:
                try:
                    match await self._pods.restart_helper(instance, role):
                        case HelperRestart.WELL:
                            return
                        case HelperRestart.RESTARTED:
                            restarts.restarted(now())
                            return
                except NodeFailure as failure:
                    _log.warning("pod of %s: %s: %s", instance, role, failure.one_line())
                await asyncio.sleep(backoff.pause_s())
        finally:
            self._waiting.discard((instance, role))

    def _restarts_of(self, instance: str, role: Role) -> Restarts:
        return self._restarts.setdefault((instance, role), Restarts())

    def _gone(self, instance: str) -> None:
        for role in Role:
            self._restarts.pop((instance, role), None)
        if self._known.get(instance) is not None:
            self._publish(instance, None)

    def _publish(self, instance: str, status: PodStatus | None) -> None:
        if status is None:
            self._known.pop(instance, None)
        else:
            self._known[instance] = status
        text = "gone" if status is None else f"{status.state} {status.reason}".rstrip()
        _log.info("pod of %s: %s", instance, text)
        for subscription in self._subscriptions:
            subscription.put(PodEvent(instance=instance, status=status))

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(self._guarded(work), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        """An engine that went away is noticed by :meth:`run` too, which then compares all."""
        try:
            await work
        except TransientError as failure:
            _log.warning("%s", failure.one_line())


def _same(known: PodStatus | None, now: PodStatus | None) -> bool:
    """Whether nothing has changed that is worth telling; a log's end is no change."""
    if known is None or now is None:
        return known is now
    return (known.state, known.exit_code, known.reason, known.run) == (
        now.state,
        now.exit_code,
        now.reason,
        now.run,
    )
