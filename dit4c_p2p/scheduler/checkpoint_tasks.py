"""A task for each instance with a checkpoint under way, beside the task of its state.

The task asks the instance's node until the checkpoint is done, can't be done, or its time is up;
it ends as well when the instance does not want the checkpoint any more. A scheduler that was killed
asks again: the node's verb is idempotent.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.scheduler.checkpoint import checkpoint_overdue
from dit4c_p2p.scheduler.errors import first_error_of_group
from dit4c_p2p.scheduler.events import (
    CheckpointEnded,
    CheckpointProgressed,
    Event,
    Instance,
    Limits,
)
from dit4c_p2p.scheduler.progress import ProgressReporter, Say

_log = logging.getLogger(__name__)

# A node's line is shared by few uploads at a time, and the copies are on its disk.
_AT_ONCE_PER_NODE = 2
_AGAIN_FIRST_S = 1.0
_AGAIN_LONGEST_S = 30.0


class CheckpointTasks:
    """The checkpoints of all instances.

    :param ask: has the node do it; returns an empty text, or why it can't be done.
    :param apply: stores an event.
    :param start: starts a task that ends with the scheduler.
    """

    def __init__(
        self,
        ask: Callable[[Instance, Say], Awaitable[str]],
        apply: Callable[[str, Event], Awaitable[Instance]],
        start: Callable[[Coroutine[Any, Any, None], str], asyncio.Task[None]],
        limits: Limits,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._apply = apply
        self._start = start
        self._limits = limits
        self._clock = clock
        # By instance: the checkpoint's id and its task.
        self._tasks: dict[str, tuple[str, asyncio.Task[None]]] = {}
        self._turns: dict[str, asyncio.Semaphore] = {}

    def wake(self, instance: Instance) -> None:
        """The instance has become this: begin its checkpoint, or give it up."""
        save, task = self._tasks.get(instance.id, ("", None))
        if save == instance.checkpoint:
            return
        if task is not None:
            task.cancel()
            del self._tasks[instance.id]
        if instance.checkpoint:
            begun = self._start(self._run(instance), f"checkpoint of {instance.id}")
            self._tasks[instance.id] = (instance.checkpoint, begun)

    async def _run(self, instance: Instance) -> None:
        backoff = Backoff(_AGAIN_FIRST_S, _AGAIN_LONGEST_S)
        turn = self._turns.setdefault(instance.node or "", asyncio.Semaphore(_AT_ONCE_PER_NODE))
        failure: str | None = None
        while True:
            try:
                if failure is None:
                    failure = await self._once(instance, turn)
                _log.info("instance %s: checkpoint ended %s", instance.id, failure or "well")
                self._forget(instance)
                await self._apply(instance.id, CheckpointEnded(instance.checkpoint, failure))
            except* DitError as group:
                _log.warning(
                    "instance %s: checkpoint: %s", instance.id, first_error_of_group(group)
                )
            else:
                return
            await asyncio.sleep(backoff.pause_s())

    def _forget(self, instance: Instance) -> None:
        """So that the event that ends it does not cancel the task that applies it."""
        if self._tasks.get(instance.id, ("", None))[0] == instance.checkpoint:
            del self._tasks[instance.id]

    async def _once(self, instance: Instance, turn: asyncio.Semaphore) -> str:
        end = instance.checkpoint_deadline or 0.0
        try:
            async with asyncio.timeout(max(0.0, end - self._clock())), turn:
                reporter = ProgressReporter(
                    lambda info, fraction: self._apply(
                        instance.id, CheckpointProgressed(instance.checkpoint, info, fraction)
                    )
                )
                async with asyncio.TaskGroup() as group:
                    telling = group.create_task(reporter.run())
                    failure = await self._ask(instance, reporter.say)
                    telling.cancel()
                return failure
        except TimeoutError:
            return checkpoint_overdue(instance, self._limits)
