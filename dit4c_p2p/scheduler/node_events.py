"""Applies the nodes' events about their pods to the instances.

A node's events count only for the instances that were placed on it.
"""

import logging
from collections.abc import Mapping, Sequence

from dit4c_p2p.messages.link import ClusterState, MemoryUse
from dit4c_p2p.messages.node import PodEvent, PodMemory, PodState, PodStatus
from dit4c_p2p.scheduler.instance_tasks import InstanceTasks
from dit4c_p2p.scheduler.lifecycle import Instance
from dit4c_p2p.scheduler.node_links import NodeLinks
from dit4c_p2p.scheduler.reconcile import compare_pods, event_of_pod_status, is_stray_pod
from dit4c_p2p.scheduler.store import Store

_log = logging.getLogger(__name__)

# No machine has room for more.
_MAX_APPS = 1000


class NodeEventHandler:
    """The scheduler's :class:`~dit4c_p2p.scheduler.node_links.NodeEventListener`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._driver: InstanceTasks
        self._nodes: NodeLinks
        self._told: ClusterState | None = None
        self._memory: dict[str, MemoryUse] = {}
        self._unknown: dict[str, tuple[str, ...]] = {}

    def watch(self, nodes: NodeLinks, driver: InstanceTasks) -> None:
        """Called once, before the nodes run."""
        self._nodes = nodes
        self._driver = driver

    async def line_changed(self) -> None:
        """Tell the portal which nodes are reached, if that has changed."""
        state = self._cluster()
        if state != self._told:
            self._driver.room_changed()
            await self._store.tell(state)
            self._told = state

    async def portal_connected(self) -> None:
        """Tell the portal which nodes are reached: a portal that was restarted knows nothing."""
        state = self._cluster()
        await self._store.tell(state)
        self._told = state
        for memory in self._memory.values():
            await self._store.tell(memory)

    async def memory_told(self, node: str, memory: PodMemory) -> None:
        """Pass on what the apps of a node use."""
        if len(memory.used) > _MAX_APPS:
            _log.warning("%s tells of the memory of %d apps", node, len(memory.used))
            return
        said = MemoryUse(node=node, used=memory.used, limit=memory.limit)
        self._memory[node] = said
        await self._store.tell(said)

    def _cluster(self) -> ClusterState:
        down = {str(link.name): link for link in self._nodes.down}
        return ClusterState(
            nodes_up=sorted(self._nodes.up),
            nodes_down=sorted(down),
            heard={name: link.heard_at for name, link in down.items() if link.heard_at is not None},
            troubles={name: link.trouble for name, link in down.items()},
        )

    async def pod_changed(self, node: str, event: PodEvent) -> None:
        """An event of a pod."""
        instance = await self._store.get(event.instance)
        if instance is not None and is_stray_pod(instance, node):
            if event.status is not None and event.status.state is not PodState.EXITED:
                self._driver.stop_stray(node, instance.id)
            return
        if instance is None or instance.node != node:
            _log.warning("%s reports %r, which is not placed there", node, event.instance[:60])
            return
        happened = event_of_pod_status(event.status)
        if happened is not None:
            await self._driver.apply(instance.id, happened)

    async def before_list(self, node: str) -> Mapping[str, Instance]:
        """The unfinished instances on the node, as they are before it looks at its pods."""
        return {
            instance.id: instance
            for instance in await self._store.unfinished()
            if instance.node == node or node in instance.left_nodes
        }

    async def listed(
        self, node: str, before: Mapping[str, Instance], pods: Sequence[PodStatus]
    ) -> None:
        """Compare, and see to the differences."""
        instances = dict(before)
        for pod in pods:
            if pod.instance not in instances:
                instance = await self._store.get(pod.instance)
                if instance is not None:
                    instances[pod.instance] = instance
        findings = compare_pods(node, pods, instances)
        for id, event in findings.events:
            await self._driver.apply(id, event)
        for id in findings.strays:
            self._driver.stop_stray(node, id)
        for id in findings.leftovers:
            self._driver.remove_leftover(node, id)
        if findings.unknown != self._unknown.get(node, ()):
            self._unknown[node] = findings.unknown
            if findings.unknown:
                _log.warning(
                    "%s has pods of no instance here, left alone: %s",
                    node,
                    ", ".join(repr(id[:60]) for id in findings.unknown[:20]),
                )
