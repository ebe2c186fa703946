"""The settings of a node agent: what the owner of a machine says."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from dit4c_p2p.engine_address import USUAL
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting
from dit4c_p2p.settings.shared import PeerSettings

if TYPE_CHECKING:
    from dit4c_p2p.node.config import HelperImages, NodeConfig

GIB = 1024**3


@dataclass(frozen=True, kw_only=True)
class PolicySettings(Settings):
    """What the owner agrees to. It is checked on this machine, whatever anyone else says."""

    instances: int = setting(
        values.integer(0, 1000), "How many may run here at one time.", default=8
    )
    memory_bytes: int = setting(values.size, "What each may take.", default=2 * GIB, name="memory")
    cpus: float = setting(
        values.number(0.05, 1024), "Processors that each may keep busy.", default=2.0
    )
    processes: int = setting(
        values.integer(16, 512), "Processes that each may have at one time.", default=512
    )
    disk_bytes: int | None = setting(
        values.size,
        "What each may write to this machine's disk. Where the engine's storage driver can't set "
        "such a limit, each is measured every minute, and stopped when it is over; its files are "
        "kept. Left out, there is no limit.",
        default=None,
        example=20 * GIB,
        name="disk",
    )
    internet: bool = setting(
        values.flag,
        "Whether they may reach the public internet. This network's own addresses they never may.",
        default=True,
    )
    refuse: tuple[IPv4Network, ...] = setting(
        values.list_of(values.ipv4_network),
        "Public addresses and networks that are yours and that instances never reach, such as your "
        "home router's. The one that the portal sees this machine come from is refused anyway.",
        default=(),
        example=(IPv4Network("198.51.100.7/32"),),
    )
    images: tuple[str, ...] = setting(
        values.list_of(values.digest),
        "The only images that may run, by digest; left out, any that the portal offers.",
        default=(),
        example=(f"sha256:{'0' * 64}",),
    )

    registries: tuple[str, ...] = setting(
        values.list_of(values.registry),
        "The only registries that images may be fetched from; left out, any that the portal names. "
        "This machine's engine asks them, from inside your network.",
        default=(),
        example=("registry.example.org", "docker.io"),
    )
    # None, for any, comes from ``dit4c up`` alone.
    local_registries: tuple[str, ...] | None = setting(
        values.list_of(values.registry),
        "Registries at an address of this machine or of your network that images may be fetched "
        "from as well. Left out, there are none but those that 'registries' names: whoever names "
        "an image could have this machine's engine connect to what is inside your network.",
        default=(),
        example=("192.168.1.20:5000",),
    )


@dataclass(frozen=True, kw_only=True)
class PodSettings(Settings):
    """How instances are put together."""

    network_range: IPv4Network = setting(
        values.network,
        "Private addresses that nothing else here uses; each instance gets 16 of them.",
        default=IPv4Network("10.213.0.0/16"),
    )
    resolvers: tuple[str, ...] = setting(
        values.list_of(values.ipv4),
        "Name servers for instances; left out, those of this machine.",
        default=(),
        example=("192.0.2.53",),
    )
    answers_s: float = setting(
        values.duration,
        "For an app to listen on its port after it was started.",
        default=120.0,
        name="answers",
    )
    stop_s: float = setting(
        values.duration,
        "For an app to end by itself before it is killed.",
        default=10.0,
        name="stop",
    )
    silence_s: float = setting(
        values.duration,
        "A request to an app ends when no byte has moved in either direction for so long; a proxy "
        "in front has to wait as long.",
        default=3600.0,
        name="silence",
    )
    files_wait_s: float = setting(
        values.duration_up_to(600.0),
        "A program's call in /mnt waits for an absent file server for so long, then "
        "fails. It may be up to 10 minutes.",
        default=600.0,
        name="files_wait",
    )


@dataclass(frozen=True, kw_only=True)
class ImageSettings(Settings):
    """The images of an instance's own helpers, by name or id at the engine."""

    infra: str = setting(
        values.text, "Holds the network and its firewall.", default="", example="dit4c/infra:local"
    )
    listener: str = setting(
        values.text, "Connects to the routers.", default="", example="dit4c/listener:local"
    )
    auth: str = setting(
        values.text, "Lets only its user in.", default="", example="dit4c/auth:local"
    )
    upload: str = setting(
        values.text,
        "Uploads what is saved; without it nothing can be saved.",
        default="",
        example="dit4c/upload:local",
    )
    storage: str = setting(
        values.text,
        "Shows its user's files; without it, instances run on without /mnt.",
        default="",
        example="dit4c/storage:local",
    )

    @property
    def given(self) -> dict[str, str]:
        """Those that were given, by the name of their setting."""
        named = {
            "infra": self.infra,
            "listener": self.listener,
            "auth": self.auth,
            "upload": self.upload,
            "storage": self.storage,
        }
        return {name: image for name, image in named.items() if image}

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Those that every pod has: all of them or none."""
        missing = {"infra", "listener", "auth"} - self.given.keys()
        if missing and self.given:
            first = min(missing)
            yield first, "it is missing beside the others", "give all of them or none"


@dataclass(frozen=True, kw_only=True)
class NodeSettings(PeerSettings):
    """A node agent: it runs instances on this machine, within what its owner agrees to.

    It listens nowhere. Where the routers are, and where instances are found, it learns from the
    portal at its start.
    """

    KIND = Kind.NODE

    id: str = setting(
        values.peer_id,
        "Its id; its name is node-ID. The scheduler's file lists it.",
        example="home",
    )
    scheduler: str = setting(
        values.peer_id, "The id of the one scheduler that it serves.", default="main"
    )
    data_folder: Path = setting(
        values.path,
        "Where it keeps its key and what instances need. All that it makes at the engine is "
        "labelled with this path; 'dit4c down --data-dir' removes it.",
        default=Path("/var/lib/dit4c-node"),
    )
    engine: str = setting(values.text, "The Docker engine.", default=USUAL)
    registry_logins: Path | None = setting(
        values.path,
        "Logins at registries that don't serve everybody: a file as 'docker login' writes it. Any "
        "tool that the portal offers from there is fetched with them.",
        default=None,
        example=Path("/etc/dit4c/registry-logins.json"),
    )
    policy: PolicySettings = section(PolicySettings, "What its owner agrees to.")
    pods: PodSettings = section(PodSettings, "How instances are put together.")
    images: ImageSettings = section(
        ImageSettings,
        "The images of an instance's own helpers, by name or id at the engine. Left out, they are "
        "built when they are missing or have changed ('dit4c images build').",
    )

    def file_problems(self) -> Iterator[ConfigError]:
        """See :class:`Settings`."""
        from dit4c_p2p.node.engine.registry_auth import RegistryLogins

        yield from super().file_problems()
        try:
            RegistryLogins(self.registry_logins).check()
        except ConfigError as error:
            yield error

    @property
    def scheduler_served(self) -> str | None:
        """The id of its scheduler."""
        return self.scheduler

    def config(
        self,
        key: asyncssh.SSHKey,
        portal: PortalInfo,
        public: PublicConfig,
        images: "HelperImages",
    ) -> "NodeConfig":
        """What the agent is told. Pods reach the portal as it says of itself that it is reached."""
        from dit4c_p2p.node.config import NodeConfig

        return NodeConfig(
            name=self.name,
            key=key,
            ca=self.portal.ca,
            data_folder=self.data_folder,
            scheduler=PeerName(Kind.SCHEDULER, self.scheduler),
            images=images,
            portal=portal,
            routers=tuple(public.routers),
            user_url=public.user_url,
            pod_portal=public.portal,
            fileservers=tuple(public.fileservers),
            follow_portal=True,
            policy=self.policy,
            pods=self.pods,
            engine_url=self.engine,
            registry_logins=self.registry_logins,
            # Images are saved at the first one.
            image_server=next(iter(public.imageservers), None),
        )
