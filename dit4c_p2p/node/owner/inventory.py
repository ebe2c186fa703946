"""All instances of a data folder at the engine, for the machine's owner: list and stop them.

Works while nothing else runs, and while an agent does.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.engine_address import USUAL
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.network.host_network import read_host_network
from dit4c_p2p.node.pods.builder import PodBuilder
from dit4c_p2p.node.pods.spec import LABEL_INSTANCE, LABEL_ROLE, Role
from dit4c_p2p.node.pods.state_dir import InstanceFolder, instances_with_files
from dit4c_p2p.settings.node import PodSettings

_log = logging.getLogger(__name__)

STOPPED_BY_OWNER = "it was stopped by the owner of its machine"


@dataclass(frozen=True)
class FoundInstance:
    """An instance; ``status`` is the engine's sentence about its app (``Up 2 hours``), empty if
    its app has no container.
    """

    instance: str
    status: str


async def list_instances_on_machine(
    data_folder: Path, engine_url: str = USUAL
) -> list[FoundInstance]:
    """Every instance of which anything is left at the engine or on disk, by id.

    :raises EngineError: the engine does not answer.
    """
    folder = str(data_folder)
    async with Engine(engine_url) as engine:
        apps = {
            item["Labels"][LABEL_INSTANCE]: str(item.get("Status", ""))
            for item in await engine.containers(folder)
            if item["Labels"].get(LABEL_ROLE) == Role.APP
        }
        known = await _pod_builder(engine, folder).instances()
    known |= instances_with_files(data_folder / "node")
    return [FoundInstance(instance, apps.get(instance, "")) for instance in sorted(known)]


async def stop_all_pods_on_machine(data_folder: Path, engine_url: str = USUAL) -> list[str]:
    """Stop all pods of one data folder; their containers and files stay. Returns the instances.

    :raises EngineError: the engine does not answer.
    :raises FilesFailed: that they are to stay down can't be written down.
    """
    folder = str(data_folder)
    async with Engine(engine_url) as engine:
        builder = _pod_builder(engine, folder)
        instances = sorted(await builder.instances())
        for instance in instances:
            # First, so that an agent that runs does not start it again.
            state = InstanceFolder(data_folder / "node", instance)
            if not state.reason:
                state.set_reason(STOPPED_BY_OWNER)
            await builder.stop(instance, round(PodSettings.stop_s))
            _log.info("pod of %s: stopped", instance)
    return instances


def _pod_builder(engine: Engine, data_folder: str) -> PodBuilder:
    return PodBuilder(
        engine, data_folder, PodSettings.network_range, read_host_network, firewall_s=0
    )
