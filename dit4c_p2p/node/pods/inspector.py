"""Status of a pod, from the engine's containers and the agent's files."""

import asyncio
import logging
import time

from dit4c_p2p.messages.node import PodState, PodStatus
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import (
    AppExited,
    EngineError,
    NodeFailure,
    NoSuchPod,
    NotFound,
    OutOfMemory,
)
from dit4c_p2p.node.pods import status
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.memory_use import used_bytes
from dit4c_p2p.node.pods.spec import LABEL_INSTANCE, LABEL_ROLE, Role
from dit4c_p2p.node.pods.state_dir import InstanceFolder, instances_with_files
from dit4c_p2p.node.pods.status import UNCLEAR_S, Containers

_log = logging.getLogger(__name__)

# Enough to see why a program ended; a status is sent often.
_TAIL_LINES = 40
_TAIL_CHARACTERS = 8 * 1024


class PodInspector:
    """Inspects the pods of one agent, and stops those that have to stop."""

    def __init__(self, config: NodeConfig, engine: Engine, builder: PodBuilder) -> None:
        self._config = config
        self._engine = engine
        self._builder = builder

    def folder(self, instance: str) -> InstanceFolder:
        """Return the agent's folder of an instance."""
        return InstanceFolder(self._config.folder, instance)

    async def status(self, instance: str) -> PodStatus | None:
        """Return a pod's status; None when nothing of it is left, not even its key."""
        found = await self._builder.look(instance)
        if not found and instance not in (
            await self._builder.instances() | instances_with_files(self._config.folder)
        ):
            return None
        return await self.read(instance, found)

    async def read(self, instance: str, found: Containers) -> PodStatus:
        """Return the status of a pod from containers that were just inspected."""
        folder = self.folder(instance)
        app = found.get(Role.APP)
        return status.pod_status_of(
            instance,
            found,
            note=folder.reason,
            notice=folder.notice,
            published=folder.published,
            run=folder.run,
            now=time.time(),
            log_tail=await self.tail(found) if app is not None and app.ended else "",
        )

    async def settled(self, instance: str) -> PodStatus | None:
        """As :meth:`status`, after waiting until it is clear how an app that has ended did so."""
        now = await self.status(instance)
        if now is not None and now.state is PodState.PARTIAL:
            found = await self._builder.look(instance)
            if Role.APP in found and found[Role.APP].ended:
                await asyncio.sleep(UNCLEAR_S)
                now = await self.status(instance)
        return now

    async def memory(self) -> dict[str, int]:
        """Return the bytes of memory that each running app uses, by instance."""
        listed = await self._engine.containers(str(self._config.data_folder))
        apps = {
            item["Labels"][LABEL_INSTANCE]: item["Id"]
            for item in listed
            if item["Labels"].get(LABEL_ROLE) == Role.APP and item["State"] == "running"
        }
        used = await asyncio.gather(*(self._memory_of(id) for id in apps.values()))
        return {one: size for one, size in zip(apps, used, strict=True) if size is not None}

    async def _memory_of(self, id: str) -> int | None:
        try:
            path, once = f"containers/{id}/stats", {"stream": "0", "one-shot": "1"}
            return used_bytes(await self._engine.request_json(path, params=once))
        except NotFound:
            return None

    async def tail(self, containers: Containers) -> str:
        """Return the last lines of the app's log."""
        if Role.APP not in containers:
            return ""
        text = await self._engine.log_tail(containers[Role.APP].id, _TAIL_LINES)
        return text[-_TAIL_CHARACTERS:]

    async def ended(self, instance: str) -> NodeFailure:
        """Why a starting pod's app does not run any more; what is left of the pod is stopped."""
        now = await self.settled(instance)
        if now is None:
            return NoSuchPod(f"the pod of {instance} was removed while it started")
        if now.state is not PodState.EXITED:
            return EngineError("the machine or its container engine went down while it started")
        found = await self._builder.look(instance)
        await self.give_up(instance, now.reason)
        memory = Role.APP in found and found[Role.APP].out_of_memory
        kind = OutOfMemory if memory else AppExited
        return kind(now.reason, log_tail=now.log_tail)

    async def give_up(self, instance: str, reason: str) -> None:
        """Stop what runs of a pod that is to stay down, and remember why."""
        self.folder(instance).set_reason(reason)
        await self._builder.stop(instance, self._config.stop_grace_s)

    async def stop_without_infra(self, instance: str) -> None:
        """Stop a pod whose infra has ended, because nothing may run without the firewall."""
        _log.error("pod of %s: its infra container ended", instance)
        await self._builder.stop(instance, self._config.stop_grace_s)
