"""The node agent: an SSH server in the overlay only, with the verbs of ``messages.node``.

It opens no port. It listens for (``node-<id>``, 22) at every router, admits one peer, its
scheduler, and has one subsystem: no shell, no commands, no files, no forwarding.
"""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import Any

import asyncssh

from dit4c_p2p.engine_address import USUAL
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.installation import InstallationWatcher
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.node import (
    ALIVE_EVERY_S,
    NODE_SUBSYSTEM,
    Alive,
    CheckpointPod,
    Describe,
    DiscardPod,
    EnsureImage,
    FollowEvents,
    ListPods,
    NodeReply,
    NodeRequest,
    PodLogs,
    Progress,
    ResolveImage,
    SavePod,
    StartPod,
    StopPod,
    UploadImage,
)
from dit4c_p2p.messages.ports import SSH_PORT
from dit4c_p2p.messages.public import PublicConfig, RouterInfo
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import FilesFailed, as_failure
from dit4c_p2p.node.metrics import NodeMetrics
from dit4c_p2p.node.network.host_network import read_host_network
from dit4c_p2p.node.network.own_address import ask_portal_for_own_address
from dit4c_p2p.node.parts import NodeParts
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.node.pods.spec import LABEL_ROLE, Role
from dit4c_p2p.node.pods.state_dir import InstanceFolder, instances_with_files
from dit4c_p2p.node.pods.supervisor import PodSupervisor
from dit4c_p2p.node.saved_images.fetcher import forget_images
from dit4c_p2p.node.saved_images.table import ImageTable
from dit4c_p2p.node.uploads.pods import UploadPods
from dit4c_p2p.observe.metrics import set_all_gauge_values
from dit4c_p2p.observe.server import Check
from dit4c_p2p.overlay.client import ListeningAtRouters, ListenState
from dit4c_p2p.overlay.errors import Refused
from dit4c_p2p.overlay.rpc import CallSession
from dit4c_p2p.overlay.server import ConnectionAdmission, PeerServer
from dit4c_p2p.overlay.ssh_options import SERVER_OPTIONS, Identity
from dit4c_p2p.settings.node import PodSettings

_log = logging.getLogger(__name__)


class NodeVerbs:
    """Handlers of the node's requests. They raise nothing: a failure is the last record.

    :param answered: told of each verb that has ended, and what was wrong: empty for nothing.
    """

    def __init__(
        self,
        pods: PodManager,
        supervisor: PodSupervisor,
        answered: Callable[[str, str], None] = lambda verb, code: None,
    ) -> None:
        self._pods = pods
        self._supervisor = supervisor
        self._answered = answered

    async def serve(self, line: bytes) -> AsyncGenerator[NodeReply, None]:
        """The handler of one call; ``line`` is the request as it came."""
        verb, code, request = "a request", "", None
        try:
            request = _read_node_request(line)
            verb = type(request).__name__
            async with aclosing(self._answer(request)) as replies:
                async for reply in replies:
                    yield reply
        except DitError as error:
            failure = as_failure(error)
            code = failure.code
            about = {"instance": getattr(request, "instance", None)}
            _log.warning("%s: %s: %s", verb, failure.code, failure.text, extra=about)
            yield failure
        except OSError as error:
            failure = as_failure(FilesFailed(error))
            code = failure.code
            _log.exception("%s failed", verb)
            yield failure
        finally:
            self._answered(verb, code)

    def _answer(self, request: NodeRequest) -> AsyncGenerator[NodeReply, None]:
        pods = self._pods
        match request:
            case Describe():
                return _once_in_agent(pods.describe())
            case EnsureImage(image=image):
                return _speaking_node_replies(pods.ensure_image(image), "Looking for the image")
            case ResolveImage(reference=reference):
                return _speaking_node_replies(
                    pods.resolve_image(reference), "Looking for the image"
                )
            case StartPod():
                return _speaking_node_replies(pods.start(request), "Starting")
            case StopPod(instance=instance):
                return _speaking_node_replies(
                    _once_in_agent(pods.stop(instance)), "Stopping the app"
                )
            case SavePod(instance=instance):
                return _speaking_node_replies(
                    _once_in_agent(pods.save(instance)), "Reading its files"
                )
            case UploadImage():
                return _speaking_node_replies(pods.upload(request), "Preparing the upload")
            case CheckpointPod():
                return _speaking_node_replies(pods.checkpoint(request), "Copying its files")
            case DiscardPod(instance=instance):
                return _speaking_node_replies(
                    _once_in_agent(self._supervisor.discard(instance)), "Removing the pod"
                )
            case ListPods():
                return _once_in_agent(pods.list())
            case PodLogs(instance=instance, lines=lines):
                return _once_in_agent(pods.logs(instance, lines))
            case FollowEvents():
                return self._follow()

    async def _follow(self) -> AsyncGenerator[NodeReply, None]:
        with self._supervisor.subscribe() as subscription:
            # At once: who hears it and then lists the pods misses nothing.
            yield Alive()
            while True:
                yield await subscription.next(ALIVE_EVERY_S) or Alive()


def _read_node_request(line: bytes) -> NodeRequest:
    kind: Any = NodeRequest
    request: NodeRequest = decode(line, kind)
    return request


async def _once_in_agent(work: Coroutine[Any, Any, NodeReply]) -> AsyncGenerator[NodeReply, None]:
    yield await work


async def _speaking_node_replies(
    replies: AsyncGenerator[Any, None], info: str
) -> AsyncGenerator[NodeReply, None]:
    """``replies``, with the newest progress said again whenever they are silent for long.

    :param info: what is said while there is no progress yet.
    """
    newest = Progress(info=info)
    coming: asyncio.Task[NodeReply | None] | None = None
    try:
        while True:
            coming = asyncio.create_task(anext(replies, None), name="a verb's next reply")
            while not (await asyncio.wait((coming,), timeout=ALIVE_EVERY_S))[0]:
                yield newest
            if (reply := coming.result()) is None:
                return
            if isinstance(reply, Progress):
                newest = reply
            yield reply
    finally:
        if coming is not None:
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
        await replies.aclose()


class _SchedulerSide(PeerServer):
    """A connection of the scheduler."""

    def __init__(self, gate: ConnectionAdmission, verbs: NodeVerbs) -> None:
        super().__init__(gate)
        self._verbs = verbs

    def session_requested(self) -> Any:
        """A channel that has the one subsystem."""
        session = CallSession({NODE_SUBSYSTEM: self._verbs.serve})
        return self.conn.create_server_channel(encoding=None), session


class Node:
    """The agent of one machine: ``await start()``, then :meth:`wait`, at the end :meth:`stop`."""

    def __init__(self, config: NodeConfig) -> None:
        self._config = config
        self.metrics = NodeMetrics()
        self._engine = Engine(config.engine_url, called=self.metrics.called)
        self._listening: dict[str, ListenState] = {}
        # Why, at each router where it does not.
        self._trouble: dict[str, str] = {}
        self._parts = NodeParts(config, self._engine)
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def start(self) -> None:
        """Begin to follow the engine and to listen; neither has to be reachable yet."""
        config, stack = self._config, self._stack
        await stack.enter_async_context(self._engine)
        client = await stack.enter_async_context(PortalClient(config.portal, ca=config.ca))
        by_ipv4 = await stack.enter_async_context(
            PortalClient(config.portal, ca=config.ca, family=socket.AF_INET)
        )
        registry = self._registry = Registry(client, config.folder / "registry")
        gate = ConnectionAdmission(registry, admit=self._admit)
        stack.push_async_callback(gate.close)
        verbs = NodeVerbs(self._parts.pods, self._parts.supervisor, self.metrics.answered)

        async def bind(connection: asyncssh.SSHClientConnection) -> Any:
            return await asyncssh.listen(
                str(config.name),
                SSH_PORT,
                tunnel=connection,
                server_factory=lambda: _SchedulerSide(gate, verbs),
                server_host_keys=[config.key],
                **SERVER_OPTIONS,
            )

        identity = Identity(config.name, config.key)
        listening = self._listener = ListeningAtRouters(
            identity, config.routers, registry, bind, self._at_router
        )
        self._tasks = [
            asyncio.create_task(registry.run(), name="node registry"),
            asyncio.create_task(self._parts.supervisor.run(), name="node supervisor"),
            asyncio.create_task(self._parts.rules.run(), name="node rules"),
            asyncio.create_task(self._parts.memory.run(), name="node memory"),
            asyncio.create_task(
                self._parts.services.own.follow(
                    lambda: ask_portal_for_own_address(by_ipv4), self._parts.rules.look_now
                ),
                name="node's own address",
            ),
            asyncio.create_task(listening.run(), name="node listening"),
        ]
        if config.follow_portal:
            watcher = InstallationWatcher(client, self._installation_changed)
            self._tasks.append(asyncio.create_task(watcher.run(), name="node installation"))
        if (disk := self._parts.disk) is not None:
            self._tasks.append(asyncio.create_task(disk.run(), name="node disk"))

    async def wait(self) -> None:
        """Runs until cancelled; raises what ended one of the agent's tasks."""
        done, _ = await asyncio.wait(self._tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Stop listening and following. Pods live on, and are found again."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    # ---- for those who run it

    @property
    def checks(self) -> Mapping[str, Check]:
        """Health checks by name."""
        return {
            "key events": self._check_events,
            "engine": self._check_engine,
            "routers": self._check_routers,
        }

    async def measure(self) -> None:
        """Update the gauges.

        :raises EngineError: the engine does not answer; the rest is up to date.
        """
        metrics = self.metrics
        metrics.key_events_heard.set(self._registry.live)
        metrics.routers.set(self._listens)
        found = await self._engine.containers(str(self._config.data_folder))
        apps = [one for one in found if one["Labels"].get(LABEL_ROLE) == Role.APP]
        set_all_gauge_values(metrics.pods, Counter(str(one["State"]) for one in apps))

    @property
    def _listens(self) -> int:
        """At how many routers."""
        return list(self._listening.values()).count(ListenState.LISTENING)

    def _at_router(self, router: RouterInfo, state: ListenState, text: str) -> None:
        self._listening[router.name] = state
        if state is ListenState.LISTENING:
            self._trouble.pop(router.name, None)
        elif text:
            self._trouble[router.name] = text
        self._parts.rules.router_changed(router.name, reached=state is ListenState.LISTENING)

    def _installation_changed(self, public: PublicConfig) -> None:
        self._config.take(public)
        self._listener.set_routers(public.routers)
        for name in self._listening.keys() - {router.name for router in public.routers}:
            del self._listening[name]
            self._trouble.pop(name, None)
            self._parts.rules.router_changed(name, reached=True)
        self._parts.rules.services_changed()

    async def _check_events(self) -> str:
        return self._registry.unheard

    async def _check_engine(self) -> str:
        await self._engine.info()
        return ""

    async def _check_routers(self) -> str:
        if self._listens:
            return ""
        why = "; ".join(dict.fromkeys(self._trouble.values()))
        says = "it listens at no router, so that the scheduler can't reach it"
        return f"{says}: {why}" if why else says

    def _admit(self, name: PeerName, document: KeyDocument) -> None:
        if name != self._config.scheduler:
            raise Refused(f"this node serves {self._config.scheduler} only")


async def remove_everything_of_node(data_folder: Path, engine_url: str = USUAL) -> list[str]:
    """Remove all pods, networks, volumes, fetched images and instance keys of one data folder.

    Works while nothing else runs, and while an agent does. Returns the instances removed.

    :raises EngineError: the engine does not answer.
    """
    node_folder = data_folder / "node"
    async with Engine(engine_url) as engine:
        builder = PodBuilder(
            engine, str(data_folder), PodSettings.network_range, read_host_network, firewall_s=0
        )
        uploads = UploadPods(engine, str(data_folder))
        known = await builder.instances() | await uploads.instances()
        instances = sorted(known | instances_with_files(node_folder))
        for instance in instances:
            await uploads.remove(instance)
            await builder.remove(instance)
            InstanceFolder(node_folder, instance).remove()
            _log.info("pod of %s: gone", instance)
        await forget_images(engine, ImageTable(node_folder))
    return instances
