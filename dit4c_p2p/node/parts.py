"""The object graph of one agent, which is built here and nowhere else."""

from collections.abc import Callable

from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.network import host_network
from dit4c_p2p.node.network.egress import ServiceAddresses
from dit4c_p2p.node.network.firewall_updater import FirewallUpdater
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.disk_quota import DiskQuotaMonitor
from dit4c_p2p.node.pods.images import NodeImages
from dit4c_p2p.node.pods.inspector import PodInspector
from dit4c_p2p.node.pods.manager import PodManager
from dit4c_p2p.node.pods.memory_use import MemoryMonitor
from dit4c_p2p.node.pods.reconciler import PodReconciler
from dit4c_p2p.node.pods.supervisor import PodSupervisor
from dit4c_p2p.node.saved_images.table import ImageTable
from dit4c_p2p.node.uploads.uploader import Uploader


class NodeParts:
    """The parts of one agent that have a name outside of it; nothing runs yet.

    :param host_now: reads the machine's networks; called for each pod.
    """

    def __init__(
        self,
        config: NodeConfig,
        engine: Engine,
        *,
        host_now: Callable[[], host_network.HostNetwork] = host_network.read_host_network,
    ) -> None:
        builder = PodBuilder(
            engine,
            str(config.data_folder),
            config.pods.network_range,
            host_now,
            config.limits.firewall_s,
            config.images.storage,
        )
        inspector = PodInspector(config, engine, builder)
        table = ImageTable(config.folder)
        self.services = ServiceAddresses(config)
        reconciler = PodReconciler(
            config, engine, builder, inspector, self.services, host_now, table
        )
        self.pods = PodManager(
            config,
            engine,
            builder=builder,
            inspector=inspector,
            reconciler=reconciler,
            images=NodeImages(
                config,
                engine,
                builder=builder,
                reconciler=reconciler,
                table=table,
                host_now=host_now,
            ),
            uploads=Uploader(config, engine, builder, reconciler, inspector, table),
        )
        self.rules = FirewallUpdater(config, self.services, host_now, self.pods.renew_rules)
        limit = config.policy.disk_bytes
        # None: the owner sets no limit.
        self.disk = (
            None if limit is None else DiskQuotaMonitor(limit, builder.written, self.pods.end)
        )
        self.supervisor = PodSupervisor(self.pods, engine, str(config.data_folder))
        self.memory = MemoryMonitor(
            config.policy.memory_bytes, inspector.memory, self.supervisor.tell_memory
        )
