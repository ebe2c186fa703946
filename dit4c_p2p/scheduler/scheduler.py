"""A scheduler: its store, its connections to portal and nodes, and the tasks between them."""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.installation import InstallationWatcher
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.link import (
    CheckImage,
    MoveInstance,
    RequestLogs,
    StartAgain,
    StartInstance,
    StopInstance,
    ToSchedulerEnvelope,
)
from dit4c_p2p.messages.public import PublicConfig, RouterInfo
from dit4c_p2p.observe.metrics import set_all_gauge_values
from dit4c_p2p.observe.server import Check
from dit4c_p2p.overlay.ssh_options import Identity
from dit4c_p2p.scheduler.config import REGISTRY_FOLDER, SchedulerConfig
from dit4c_p2p.scheduler.errors import first_error_of_group
from dit4c_p2p.scheduler.instance_tasks import InstanceTasks
from dit4c_p2p.scheduler.metrics import SchedulerMetrics
from dit4c_p2p.scheduler.node_connection import Dialler, node_dialler
from dit4c_p2p.scheduler.node_events import NodeEventHandler
from dit4c_p2p.scheduler.node_links import NodeLinks
from dit4c_p2p.scheduler.portal_link import PortalLink
from dit4c_p2p.scheduler.store import Store

_log = logging.getLogger(__name__)

STOP_LIMIT_S = 5
MAX_LOG_LINES = 10_000
# Ids, nonces and digests; the width of the columns they are kept in.
MAX_FIELD_CHARS = 100
MAX_IMAGE_CHARS = 400
MAX_NODE_CHARS = 52
# What every database and JSON reader takes for a whole number.
MAX_NUMBER = 2**53


class Scheduler:
    """Carries out the orders of one portal by its nodes.

    ``store.database(config.data_folder)`` has to be open (``database.databases``) from before
    :meth:`start` until after :meth:`stop`.

    :param dialler: how nodes are reached; by default through the overlay.
    :param clock: seconds since 1970.
    """

    def __init__(
        self,
        config: SchedulerConfig,
        *,
        dialler: Dialler | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.config = config
        self._dialler = dialler
        self._clock = clock
        self._stack = AsyncExitStack()
        self._serving: asyncio.Task[None] | None = None
        self._routers: Sequence[RouterInfo] = config.routers
        self.metrics = SchedulerMetrics()

    async def start(self) -> None:
        """Continue where the last run ended; the connections are opened in the background.

        :raises ConfigError: the portal's address can't be right.
        :raises InvalidName: a node's id is none.
        :raises StoreFailed: the database does not work.
        """
        config = self.config
        try:
            client = await self._stack.enter_async_context(
                PortalClient(config.portal, ca=config.ca)
            )
            registry = Registry(client, config.data_folder / REGISTRY_FOLDER, clock=self._clock)
            self._registry = registry
            dialler = self._dialler or node_dialler(
                Identity(config.name, config.key), lambda: self._routers, registry
            )
            self._store = Store(
                clock=self._clock,
                limits=config.limits,
                on_outgoing=lambda: self._link.outgoing_changed(),
                on_moved=self.metrics.moved,
            )
            watcher = NodeEventHandler(self._store)
            nodes = self._nodes = NodeLinks(config.nodes, dialler, watcher, self._clock)
            self._driver = InstanceTasks(self._store, nodes, config.limits, clock=self._clock)
            watcher.watch(nodes, self._driver)
            self._link = PortalLink(
                config.name,
                config.key,
                client,
                self._store,
                self._order,
                watcher.portal_connected,
            )
            registry.watch(self._link.keys_changed)
            await self._store.tidy()
            await watcher.line_changed()
        except BaseException:
            await self._stack.aclose()
            raise
        self._serving = asyncio.create_task(
            self._serve(client, registry, nodes), name=f"{config.name} serves"
        )
        _log.info("%s serves %s with %s", config.name, config.portal.name, nodes.names or "nobody")

    async def _serve(self, client: PortalClient, registry: Registry, nodes: NodeLinks) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(self._driver.run(), name="scheduler's driver")
            group.create_task(registry.run(), name="scheduler's registry")
            group.create_task(nodes.run(), name="scheduler's nodes")
            group.create_task(self._link.run(), name="scheduler's portal")
            if self.config.follow_portal:
                watcher = InstallationWatcher(client, self._installation_changed)
                group.create_task(watcher.run(), name="scheduler's installation")

    def _installation_changed(self, public: PublicConfig) -> None:
        self._routers = tuple(public.routers)

    async def wait(self) -> None:
        """Return after :meth:`stop`; raises what ended the scheduler otherwise."""
        if self._serving is not None:
            await asyncio.wait([self._serving])
            if not self._serving.cancelled():
                try:
                    self._serving.result()
                except BaseExceptionGroup as group:
                    raise first_error_of_group(group) from group

    async def ready(self) -> None:
        """Return once the portal has let this scheduler in and a node (if there are any) is heard.

        Raises what ended the scheduler, if that comes first.
        """
        both = asyncio.create_task(self._ready(), name=f"{self.config.name} becomes ready")
        ended = asyncio.create_task(self.wait())
        try:
            await asyncio.wait((both, ended), return_when=asyncio.FIRST_COMPLETED)
            (both if both.done() else ended).result()
        finally:
            for task in (both, ended):
                task.cancel()
            await asyncio.gather(both, ended, return_exceptions=True)

    async def _ready(self) -> None:
        await self._link.connected.wait()
        await self._nodes.wait_any_up()

    # ---- for those who run it

    @property
    def checks(self) -> Mapping[str, Check]:
        """Health checks by name."""
        return {
            "database": self._check_database,
            "portal": self._check_portal,
            "nodes": self._check_nodes,
        }

    async def measure(self) -> None:
        """Update the gauges.

        :raises StoreFailed: the database does not work; the rest is up to date.
        """
        metrics, up = self.metrics, len(self._nodes.up)
        metrics.key_events_heard.set(self._registry.live)
        metrics.portal_link.set(self._link.connected.is_set())
        set_all_gauge_values(metrics.nodes, {"up": up, "down": len(self._nodes.names) - up})
        instances, waiting = await self._store.counts()
        set_all_gauge_values(metrics.instances, instances)
        metrics.outbox.set(waiting)

    async def _check_database(self) -> str:
        await self._store.get("")
        return ""

    async def _check_portal(self) -> str:
        return "" if self._link.connected.is_set() else "there is no line to the portal"

    async def _check_nodes(self) -> str:
        if self._nodes.up or not self._nodes.names:
            return ""
        return f"none of {', '.join(self._nodes.names)} is heard"

    async def stop(self) -> None:
        """Stop within 5 s. Pods live on; unfinished work continues at the next start."""
        if self._serving is not None:
            self._serving.cancel()
            done, _ = await asyncio.wait([self._serving], timeout=STOP_LIMIT_S)
            if not done:
                _log.error("%s did not end in %d s", self.config.name, STOP_LIMIT_S)
        await self._stack.aclose()
        _log.info("%s has stopped", self.config.name)

    async def _order(self, envelope: ToSchedulerEnvelope) -> None:
        """Store an order of the portal and start its work; called by the portal link."""
        order = envelope.body
        if isinstance(order, CheckImage):
            self._driver.check_image(order)
            return
        if not _is_usable(envelope, order.instance):
            # Acknowledged all the same: it would not get better by coming again.
            _log.error("the portal's %s is of no use", type(order).__name__)
            return
        new, instance = await self._store.receive(envelope.id, order)
        if new:
            _log.info("instance %s: the portal says %s", order.instance, type(order).__name__)
        if instance is not None:
            self._driver.wake(instance)
        if new and instance is not None and isinstance(order, MoveInstance):
            for node in instance.left_nodes:
                self._driver.stop_stray(node, instance.id)
        if new and isinstance(order, RequestLogs):
            lines = max(1, min(order.lines, MAX_LOG_LINES))
            self._driver.send_logs(
                RequestLogs(request=order.request, instance=order.instance, lines=lines)
            )


def _is_usable(envelope: ToSchedulerEnvelope, instance: str) -> bool:
    """Whether the order is about an instance that can be, and no field is out of all measure."""
    order = envelope.body
    try:
        PeerName(Kind.INSTANCE, instance)
    except InvalidName:
        return False
    fields = [envelope.id]
    match order:
        case StartInstance():
            if len(order.image) > MAX_IMAGE_CHARS:
                return False
            if len(order.node) > MAX_NODE_CHARS:
                return False
            fields.append(order.key_nonce)
        case MoveInstance():
            if len(order.image) > MAX_IMAGE_CHARS or not 0 <= order.epoch <= MAX_NUMBER:
                return False
            fields.append(order.key_nonce)
        case StopInstance() | StartAgain():
            if not 0 <= order.after <= MAX_NUMBER:
                return False
        case RequestLogs():
            fields.append(order.request)
    return all(len(field) <= MAX_FIELD_CHARS for field in fields)
