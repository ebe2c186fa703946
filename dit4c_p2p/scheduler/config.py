"""Configuration of a scheduler."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo, RouterInfo
from dit4c_p2p.scheduler.lifecycle import Limits

# Of the data folder: signed copies of other peers' keys.
REGISTRY_FOLDER = "registry"


@dataclass(frozen=True)
class SchedulerConfig:
    """Configuration of a scheduler.

    ``key`` is the private key published for ``name``. ``data_folder`` holds its database and the
    signed copies of other peers' keys. ``portal`` is the one it serves, its key pinned. ``nodes``
    are the ids (``home``) of the nodes that belong to it; it reaches them through ``routers``.
    ``follow_portal``: it fetches the portal's ``config.json`` every minute for the routers.
    ``ca`` has certificates (PEM) of authorities to believe beside the system's.
    """

    name: PeerName
    key: asyncssh.SSHKey = field(repr=False)
    data_folder: Path
    portal: PortalInfo
    routers: Sequence[RouterInfo]
    nodes: Sequence[str]
    limits: Limits = field(default_factory=Limits)
    ca: str = ""
    follow_portal: bool = False
