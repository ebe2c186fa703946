"""Configuration of a node agent: the owner's settings and the installation's services."""

from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from dit4c_p2p.engine_address import USUAL
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import (
    FileServerInfo,
    ImageServerInfo,
    PortalInfo,
    PublicConfig,
    RouterInfo,
)
from dit4c_p2p.node.owner.policy import Policy
from dit4c_p2p.settings.node import PodSettings


@dataclass(frozen=True)
class Limits:
    """Time limits of the agent that its owner does not choose, in seconds."""

    # For an image to come from its registry, and between two signs of life from there.
    pull_s: float = 3500.0
    pull_silence_s: float = 120.0
    # From the time when the app's port answers until the instance's own URL has answered through
    # a router: portal or routers may be away for a while, and nothing is wrong with the app.
    publish_s: float = 3600.0
    # From the start of the infra container until the firewall stands; 0.3 s as a rule.
    firewall_s: float = 30.0


@dataclass(frozen=True)
class HelperImages:
    """Image ids (``sha256:…``) of a pod's own containers.

    Without ``upload`` nothing is saved; without ``storage`` no files are shown.
    """

    infra: str
    listener: str
    auth: str
    upload: str = ""
    storage: str = ""


@dataclass
class Installation:
    """What pods are told of the installation; replaced when the portal makes something else known.

    ``portal``, ``routers``, ``fileservers`` and ``image_server`` are as a pod reaches them.
    """

    portal: PortalInfo
    routers: tuple[RouterInfo, ...]
    fileservers: tuple[FileServerInfo, ...]
    image_server: ImageServerInfo | None


@dataclass(frozen=True)
class NodeConfig:
    """Configuration of the agent.

    ``data_folder`` is the whole installation's (absolute): the agent keeps what is its own in
    ``node/`` below it, and labels all that it makes at the engine with it. ``scheduler`` is the
    only peer that the agent serves. ``portal`` and ``routers`` are as the agent itself reaches
    them; ``pod_portal`` and ``pod_routers``, if given, as a pod does (other ``connect`` addresses).
    ``user_url`` has ``{id}`` where an instance's id goes. Pods get networks (/28) out of
    ``pods.network_range``. ``ca`` has certificates (PEM) of authorities that agent and pods are to
    believe beside the usual ones.
    ``image_server`` is where instances are saved and fetched from, ``pod_image_server`` the same as
    a pod reaches it.
    ``fileservers`` are as agent and pods reach them. ``follow_portal``: the agent fetches the
    portal's ``config.json`` every minute, and what that says counts from then on.
    ``registry_logins`` is the file of :class:`~dit4c_p2p.node.engine.registry_auth.RegistryLogins`.
    """

    name: PeerName
    key: asyncssh.SSHKey = field(repr=False)
    data_folder: Path
    scheduler: PeerName
    images: HelperImages
    portal: PortalInfo
    routers: tuple[RouterInfo, ...]
    user_url: str
    pod_portal: PortalInfo | None = None
    pod_routers: tuple[RouterInfo, ...] | None = None
    policy: Policy = field(default_factory=Policy)
    pods: PodSettings = field(default_factory=PodSettings)
    limits: Limits = field(default_factory=Limits)
    engine_url: str = USUAL
    ca: str = ""
    registry_logins: Path | None = None
    image_server: ImageServerInfo | None = None
    pod_image_server: ImageServerInfo | None = None
    fileservers: tuple[FileServerInfo, ...] = ()
    follow_portal: bool = False
    installation: Installation = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        pod_routers = self.routers if self.pod_routers is None else self.pod_routers
        current = Installation(
            self.pod_portal or self.portal,
            pod_routers,
            self.fileservers,
            self.pod_image_server or self.image_server,
        )
        object.__setattr__(self, "installation", current)

    @property
    def folder(self) -> Path:
        """The agent's own folder."""
        return self.data_folder / "node"

    @property
    def stop_grace_s(self) -> int:
        """Seconds that an app gets to end by itself before it is killed."""
        return round(self.pods.stop_s)

    def portal_for_pods(self) -> PortalInfo:
        """The portal with the addresses that pods connect to."""
        return self.installation.portal

    def routers_for_pods(self) -> tuple[RouterInfo, ...]:
        """The routers as a pod reaches them."""
        return self.installation.routers

    def fileservers_for_pods(self) -> tuple[FileServerInfo, ...]:
        """The file servers as a pod reaches them."""
        return self.installation.fileservers

    def take(self, public: PublicConfig) -> None:
        """Let what the portal makes known now count for pods."""
        self.installation.portal = public.portal
        self.installation.routers = tuple(public.routers)
        self.installation.fileservers = tuple(public.fileservers)
        self.installation.image_server = next(iter(public.imageservers), None)

    def image_server_for_pods(self) -> ImageServerInfo | None:
        """The image server as a pod reaches it."""
        return self.installation.image_server

    def image_server_for_agent(self) -> ImageServerInfo | None:
        """The image server as the agent reaches it."""
        return self.installation.image_server if self.follow_portal else self.image_server

    def url_of(self, instance: str) -> str:
        """Return an instance's canonical URL."""
        return self.user_url.replace("{id}", instance)
