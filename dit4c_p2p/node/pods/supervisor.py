"""Supervision of pods by the engine's events: report ended apps, start ended helpers again.

:class:`PodSupervisor` follows the engine, over its restarts, and after each (re)connect compares
what is there with what it knew, so that nothing missed in between stays unnoticed.

| container | when it ends while its app runs                                       |
|-----------|-----------------------------------------------------------------------|
| app       | once it is clear that it was by itself: a :class:`PodEvent` with the  |
|           | reason and the end of its log, and the rest of the pod is stopped     |
| listener, auth, storage | started again, at first after a second, then up to a minute |
| infra     | the app is stopped: a pod does not run without who holds its firewall |

A pod that went down with its machine, with the engine or with its infra container is told of as
interrupted and started again: the app's same container, its files as they were.
"""

import asyncio
import logging
from collections.abc import Coroutine, Iterator
from contextlib import aclosing, contextmanager
from typing import Any

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.node import PodEvent, PodGone, PodMemory, PodState, PodStatus
from dit4c_p2p.messages.pod import HelperState
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import FilesFailed, NodeFailure, TransientError
from dit4c_p2p.node.pods import spec
from dit4c_p2p.node.pods.files_mount import told_of
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.node.pods.readiness import said_by
from dit4c_p2p.node.pods.spec import ALL_HELPERS, Role
from dit4c_p2p.node.pods.status import memory_text

_log = logging.getLogger(__name__)

# To the engine, which is on this machine; it takes seconds to start.
_RECONNECT_FIRST_S, _RECONNECT_LONGEST_S = 0.2, 5.0
# A container that ends again and again.
_RESTART_FIRST_S, _RESTART_LONGEST_S = 1.0, 60.0
# A helper that ran this long was well: the next wait is the first again.
_WELL_AFTER_S = 120.0
# A subscriber that is this far behind is cut off, and asks for the list again.
_MAX_BEHIND = 1000


class FellBehind(DitError):
    """A subscriber did not read its events in time, and has to subscribe again."""

    code = "fell_behind"


class PodEventSubscription:
    """A subscriber's queue of events; :meth:`next` returns one at a time."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[PodEvent | PodMemory] = asyncio.Queue(maxsize=_MAX_BEHIND)
        self._behind = False

    def put(self, event: PodEvent | PodMemory) -> None:
        """Add an event; called by the supervisor."""
        try:
            self._queue.put_nowait(event)
        except asyncio.QueueFull:
            self._behind = True

    async def next(self, limit_s: float) -> PodEvent | PodMemory | None:
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


class PodSupervisor:
    """Supervises the pods of one agent while :meth:`run` runs."""

    def __init__(self, pods: PodManager, engine: Engine, data_folder: str) -> None:
        self._pods = pods
        self._engine = engine
        self._data_folder = data_folder
        self._subscriptions: set[PodEventSubscription] = set()
        self._known: dict[str, PodStatus] = {}
        self._memory: PodMemory | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        # Helpers about to be started again; the pauses of each container, and when it last ended.
        self._waiting: set[tuple[str, Role]] = set()
        self._backoffs: dict[tuple[str, Role], tuple[Backoff, float]] = {}
        self._ending: set[str] = set()
        # Ids of the storage helpers' containers that are listened to.
        self._heard: set[str] = set()
        self.connected = asyncio.Event()

    @contextmanager
    def subscribe(self) -> Iterator[PodEventSubscription]:
        """Subscribe to events from now on."""
        subscription = PodEventSubscription()
        if self._memory is not None:
            subscription.put(self._memory)
        self._subscriptions.add(subscription)
        try:
            yield subscription
        finally:
            self._subscriptions.discard(subscription)

    def tell_memory(self, memory: PodMemory) -> None:
        """Publish what the apps use; who subscribes later is told as well."""
        self._memory = memory
        for subscription in self._subscriptions:
            subscription.put(memory)

    async def run(self) -> None:
        """Follow the engine until cancelled."""
        backoff = Backoff(_RECONNECT_FIRST_S, _RECONNECT_LONGEST_S)
        try:
            while True:
                try:
                    async with aclosing(self._engine.events(self._data_folder)) as events:
                        async for event in events:
                            backoff.reset()
                            await self._take(event)
                    _log.warning("the engine ended its events")
                except TransientError as error:
                    _log.warning("the engine's events: %s", error.one_line())
                self.connected.clear()
                await asyncio.sleep(backoff.pause_s())
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

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
        match event["Action"], Role(role):
            case "oom", Role.APP:
                await self._out_of_memory(instance)
            case "oom", _:
                _log.warning("pod of %s: %s uses too much memory", instance, role)
            case "die", Role.INFRA:
                self._spawn(self._infra_ended(instance), f"infra of {instance}")
            case "die", (Role.LISTENER | Role.AUTH | Role.STORAGE) as helper:
                self._mend_later(instance, helper)
            case "die", Role.APP:
                self._see_to(instance)
            case "start", Role.STORAGE:
                self._hear_of_files(instance, event["Actor"]["ID"])
            case "start", _:
                pass
            case _:
                await self._tell(instance)

    async def _compare(self) -> None:
        """What has changed while nobody looked; helpers that have ended meanwhile."""
        await self._pods.uploads.pauser.unpause_all()
        listed = {status.instance: status for status in (await self._pods.list()).pods}
        for instance in self._known.keys() - listed.keys():
            self._publish(instance, None)
        for instance, status in listed.items():
            self._spawn(self._pods.remove_left_mounter(instance), f"mounter of {instance}")
            if not _same_pod_condition(self._known.get(instance), status):
                self._publish(instance, status)
            if status.state is not PodState.RUNNING:
                self._see_to(instance)
            else:
                self._spawn(self._infra_ended(instance), f"look at infra of {instance}")
                self._spawn(self._find_files(instance), f"look for files of {instance}")
                for role in ALL_HELPERS:
                    self._mend_later(instance, role)

    async def _tell(self, instance: str) -> None:
        status = await self._pods.status(instance)
        if not _same_pod_condition(self._known.get(instance), status):
            self._publish(instance, status)

    async def _out_of_memory(self, instance: str) -> None:
        """A process in the app was killed; the app itself may live on."""
        status = await self._pods.status(instance)
        if status is not None and status.state is PodState.RUNNING:
            limit = memory_text(self._pods.memory_bytes)
            reason = f"a program in it was ended: together they used more than {limit} of memory"
            running = PodStatus(instance=instance, state=PodState.RUNNING, reason=reason)
            self._publish(instance, running)

    async def _find_files(self, instance: str) -> None:
        for item in await self._engine.containers(self._data_folder, instance):
            if item["Labels"][spec.LABEL_ROLE] == Role.STORAGE:
                self._hear_of_files(instance, item["Id"])

    def _hear_of_files(self, instance: str, storage: str) -> None:
        if storage not in self._heard:
            self._heard.add(storage)
            self._spawn(self._tell_of_files(instance, storage), f"files of {instance}")

    async def _tell_of_files(self, instance: str, storage: str) -> None:
        """Tell of conflict copies that a storage helper makes while its app runs."""
        try:
            async with aclosing(said_by(self._engine, storage)) as statuses:
                async for said in statuses:
                    status = await self._pods.status(instance)
                    running = status is not None and status.state is PodState.RUNNING
                    if said.state is HelperState.CONFLICT and running:
                        told = told_of({said.state: said.detail})
                        now = PodStatus(instance=instance, state=PodState.RUNNING, reason=told)
                        self._publish(instance, now)
        finally:
            self._heard.discard(storage)

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
            while not await self._settled(instance):
                await asyncio.sleep(self._pause_s((instance, Role.APP)))
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
        key = (instance, role)
        if key in self._waiting:
            return
        self._waiting.add(key)
        self._spawn(self._mend(key, self._pause_s(key)), f"restart {role}")

    def _pause_s(self, key: tuple[str, Role]) -> float:
        """How long to wait before it is started again; longer each time, until it was well."""
        now = asyncio.get_running_loop().time()
        first = Backoff(_RESTART_FIRST_S, _RESTART_LONGEST_S)
        backoff, last = self._backoffs.get(key, (first, now))
        if now - last > _WELL_AFTER_S:
            backoff.reset()
        self._backoffs[key] = (backoff, now)
        return backoff.pause_s()

    async def _mend(self, key: tuple[str, Role], pause_s: float) -> None:
        """Start a helper again after a pause. Should it end again, its event comes back here."""
        try:
            await asyncio.sleep(pause_s)
        finally:
            self._waiting.discard(key)
        try:
            settled = await self._pods.restart_helper(*key)
        except TransientError as failure:
            _log.warning("pod of %s: %s: %s", *key, failure.one_line())
            settled = False
        if not settled:
            self._mend_later(*key)

    async def discard(self, instance: str) -> PodGone:
        """Discard a pod, see :meth:`PodManager.discard`, and publish that it is gone."""
        reply = await self._pods.discard(instance)
        for role in Role:
            self._backoffs.pop((instance, role), None)
        if self._known.get(instance) is not None:
            self._publish(instance, None)
        return reply

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


def _same_pod_condition(known: PodStatus | None, now: PodStatus | None) -> bool:
    """Whether nothing has changed that is worth telling; a log's end is no change."""
    if known is None or now is None:
        return known is now
    return (known.state, known.exit_code, known.reason, known.run) == (
        now.state,
        now.exit_code,
        now.reason,
        now.run,
    )
