"""A task for each instance that needs work.

The task reads its instance from the store, does the work of the state, stores the resulting event,
and begins again; it ends when there is no work. When another event changes the state (a discard, a
pod that ends), the task drops its work and reads the instance again. A scheduler that was killed
continues by starting the tasks again.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import CheckImage, RequestLogs
from dit4c_p2p.scheduler.checkpoint_tasks import CheckpointTasks
from dit4c_p2p.scheduler.errors import StoreFailed, first_error_of_group
from dit4c_p2p.scheduler.lifecycle import (
    Event,
    Instance,
    Limits,
    Progressed,
    TimeUp,
    Work,
    work_of_instance,
)
from dit4c_p2p.scheduler.node_links import NodeLinks
from dit4c_p2p.scheduler.progress import ProgressReporter
from dit4c_p2p.scheduler.store import Store
from dit4c_p2p.scheduler.work_runner import WorkRunner

_log = logging.getLogger(__name__)

# After a start, what ran out of time meanwhile gets this long to show how far it has come.
RESUME_GRACE_S = 120
_AGAIN_FIRST_S = 1.0
_AGAIN_LONGEST_S = 30.0


class _InstanceTask:
    """A task, the state for which it works, and whether that state has changed."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.changed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None


class InstanceTasks:
    """The tasks of all instances. Every event of an instance goes through :meth:`apply`."""

    def __init__(
        self,
        store: Store,
        nodes: NodeLinks,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._clock = clock
        self._errands = WorkRunner(store, nodes, self.apply)
        self._checkpoints = CheckpointTasks(
            self._errands.checkpoint, self.apply, self._start, limits, clock=clock
        )
        self._lives: dict[str, _InstanceTask] = {}
        self._group: asyncio.TaskGroup | None = None
        self._grace_until = clock() + RESUME_GRACE_S
        self._removing: set[str] = set()
        self._stopping: set[str] = set()

    async def run(self) -> None:
        """Continue every unfinished instance, and serve until cancelled."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for instance in await self._store.unfinished():
                if work_of_instance(instance) is not None:
                    _log.info("instance %s: going on, it is %s", instance.id, instance.state)
                self.wake(instance)
            await asyncio.get_running_loop().create_future()

    async def apply(self, instance: str, event: Event) -> Instance:
        """Store an event, and start the work that it needs.

        :raises StoreFailed: the event is not stored.
        """
        after = await self._store.apply(instance, event)
        self.wake(after)
        return after

    def wake(self, instance: Instance) -> None:
        """The instance has become this: see to it, unless that is being done."""
        self._checkpoints.wake(instance)
        life = self._lives.get(instance.id)
        if life is not None:
            if life.state != instance.state:
                life.changed.set()
        elif work_of_instance(instance) is not None:
            life = self._lives[instance.id] = _InstanceTask(instance.state)
            life.task = self._start(self._live(instance.id, life), f"instance {instance.id}")
        if not instance.occupies:
            self._errands.room_changed()

    def room_changed(self) -> None:
        """Look for places again, because a node came or went."""
        self._errands.room_changed()

    def send_logs(self, request: RequestLogs) -> None:
        """Send the portal the newest lines of an app's log."""
        self._start(self._logs(request), f"logs of {request.instance}")

    def check_image(self, order: CheckImage) -> None:
        """Tell the portal what a reference means, once a node has the image."""
        self._start(self._image(order), f"image of request {order.request[:60]}")

    def remove_leftover(self, node: str, instance: str) -> None:
        """Remove the pod of a discarded instance."""
        if instance not in self._removing:
            self._removing.add(instance)
            self._start(self._remove_leftover(node, instance), f"leftover of {instance}")

    def stop_stray(self, node: str, instance: str) -> None:
        """Stop what runs of an instance that goes on at another node; its container is kept."""
        if instance not in self._stopping:
            self._stopping.add(instance)
            self._start(self._stop_stray(node, instance), f"stray of {instance}")

    def _start(self, work_in_hand: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        if self._group is None:
            raise RuntimeError("the driver does not run")
        return self._group.create_task(work_in_hand, name=name)

    async def _logs(self, request: RequestLogs) -> None:
        try:
            await self._store.tell(await self._errands.logs(request))
        except StoreFailed as error:
            _log.warning("logs of %s: %s", request.instance, error.one_line())

    async def _image(self, order: CheckImage) -> None:
        try:
            await self._store.tell(await self._errands.check_image(order))
        except StoreFailed as error:
            _log.warning("image for the portal: %s", error.one_line())

    async def _remove_leftover(self, node: str, instance: str) -> None:
        try:
            await self._errands.remove_leftover(node, instance)
        finally:
            self._removing.discard(instance)

    async def _stop_stray(self, node: str, instance: str) -> None:
        try:
            await self._errands.stop_stray(node, instance)
        finally:
            self._stopping.discard(instance)

    async def _live(self, id: str, life: _InstanceTask) -> None:
        backoff = Backoff(_AGAIN_FIRST_S, _AGAIN_LONGEST_S)
        while True:
            life.changed.clear()
            try:
                instance = await self._store.get(id)
                if instance is not None:
                    life.state = instance.state
                    todo = work_of_instance(instance)
                    if todo is not None:
                        await self._step(todo, instance, life)
                        backoff.reset()
                        continue
                if life.changed.is_set():
                    continue
                del self._lives[id]
                return
            except* DitError as group:
                _log.warning("instance %s: %s", id, first_error_of_group(group))
            await asyncio.sleep(backoff.pause_s())

    async def _step(self, todo: Work, instance: Instance, life: _InstanceTask) -> None:
        """Work until the work is done, its time is up, or the state has changed."""
        job = asyncio.create_task(self._do(todo, instance), name=f"{instance.id} {todo.name}")
        changed = asyncio.create_task(life.changed.wait())
        try:
            done, _ = await asyncio.wait(
                (job, changed),
                timeout=self._left_s(instance),
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            for task in (job, changed):
                task.cancel()
            await asyncio.gather(job, changed, return_exceptions=True)
        if job in done:
            job.result()
        elif not done:
            await self.apply(instance.id, TimeUp())

    def _left_s(self, instance: Instance) -> float | None:
        if instance.deadline is None:
            return None
        return max(0.0, max(instance.deadline, self._grace_until) - self._clock())

    async def _do(self, todo: Work, instance: Instance) -> None:
        teller = ProgressReporter(
            lambda info, fraction: self._store.apply(
                instance.id, Progressed(instance.state, info, fraction)
            )
        )
        async with asyncio.TaskGroup() as group:
            telling = group.create_task(teller.run())
            event = await self._errands.run(todo, instance, teller.say)
            telling.cancel()
        if event is not None:
            await self.apply(instance.id, event)
