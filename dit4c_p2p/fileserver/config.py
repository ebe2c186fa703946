"""What a file server is told: who it is, where it binds, where the files are, how much it bears."""

from dataclasses import dataclass, field
from pathlib import Path

import asyncssh

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.settings.fileserver import FileServerLimits as Limits
from dit4c_p2p.settings.fileserver import SnapshotSettings as Snapshots

Addresses = tuple[tuple[str, int], ...]

__all__ = ["Addresses", "FileServerConfig", "Limits", "Snapshots"]


@dataclass(frozen=True)
class FileServerConfig:
    """One file server.

    :ivar name: its peer name, of the kind ``fileserver``.
    :ivar key: its private key, published for that name; its SSH host key.
    :ivar ssh: (host, port) pairs to bind to. Port 0 in the first pair lets the system choose; port
        0 in a further one means the first's.
    :ivar portal: the portal to believe.
    :ivar data_folder: where signed copies of key documents are kept; made if it is missing.
    :ivar files_folder: where people's files are; made if it is missing.
    :ivar limits: see :class:`Limits`.
    :ivar snapshots: how long snapshots are kept.
    :ivar ca: PEM of authorities to believe beside the system's, for the portal's certificate.
    """

    name: PeerName
    key: asyncssh.SSHKey = field(repr=False)
    ssh: Addresses
    portal: PortalInfo
    data_folder: Path
    files_folder: Path
    limits: Limits = field(default_factory=Limits)
    snapshots: Snapshots = field(default_factory=Snapshots)
    ca: str = ""
