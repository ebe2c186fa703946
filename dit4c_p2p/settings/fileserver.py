"""The settings of a file server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting
from dit4c_p2p.settings.shared import Listening, PeerSettings

if TYPE_CHECKING:
    from dit4c_p2p.fileserver.config import FileServerConfig


@dataclass(frozen=True, kw_only=True)
class FileServerLimits(Settings):
    """How much it bears."""

    threads: int = setting(
        values.integer(1, 256), "Requests that wait for the disk at one time.", default=32
    )
    stalled: float = setting(
        values.duration, "A client that takes no byte for so long is cut.", default=300.0
    )
    connections_per_user: int = setting(
        values.integer(1, 1024), "SSH connections of one person's key at one time.", default=32
    )
    connections_per_instance: int = setting(
        values.integer(1, 1024), "SSH connections of one instance at one time.", default=4
    )
    connections_of_portal: int = setting(
        values.integer(1, 1024), "SSH connections of the portal, for its file page.", default=16
    )
    sessions_per_connection: int = setting(
        values.integer(1, 4096), "SFTP sessions of one SSH connection.", default=64
    )
    handles_per_session: int = setting(
        values.integer(16, 1_000_000), "Files that one session has open at one time.", default=8192
    )


@dataclass(frozen=True, kw_only=True)
class SnapshotSettings(Settings):
    """Yesterday's state, read-only, at .snapshots in each folder. They don't count in quotas."""

    hourly: int = setting(
        values.integer(0, 1000), "For how many hours the last of each hour is kept.", default=24
    )
    daily: int = setting(
        values.integer(0, 10_000),
        "For how many days the last of each day is kept. With 0 for both, none are made.",
        default=14,
    )


@dataclass(frozen=True, kw_only=True)
class FileServerSettings(PeerSettings):
    """A file server: people's files, by SFTP, to their instances and to themselves.

    Whose files it serves, and how much each may hold, the portal tells it.
    """

    KIND = Kind.FILESERVER

    id: str = setting(
        values.peer_id,
        "Its id; its name is fileserver-ID. The portal's file lists it.",
        example="files",
    )
    data_folder: Path = setting(
        values.path,
        "Where it keeps its key and signed copies of others' public keys.",
        default=Path("/var/lib/dit4c-fileserver"),
    )
    files: Path | None = setting(
        values.path,
        "Where people's files are: a folder on one file system of Linux, local or of a cluster, "
        "that nobody else writes to. Left out, it is 'trees' in the data folder.",
        default=None,
        example=Path("/srv/dit4c/trees"),
    )
    listen_ssh: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens for instances and people, by SSH.",
        example=(("0.0.0.0", 2222), ("::", 2222)),
    )
    snapshots: SnapshotSettings = section(
        SnapshotSettings,
        "Yesterday's state, read-only, at .snapshots in each folder. A file system with reflinks "
        "(btrfs, XFS) shares their blocks with the live files; another copies what has changed.",
    )
    limits: FileServerLimits = section(FileServerLimits, "How much it bears.")

    @property
    def files_path(self) -> Path:
        """Where people's files are."""
        return self.files or self.data_folder / "trees"

    @property
    def listening(self) -> Listening:
        """Every address to be bound, by the setting that says so."""
        return {"listen_ssh": self.listen_ssh, **super().listening}

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Where it listens."""
        yield from super().problems()
        if not self.listen_ssh:
            yield "listen_ssh", "it is empty", 'write listen_ssh = ["0.0.0.0:2222"]'

    def config(self, key: asyncssh.SSHKey, portal: PortalInfo) -> "FileServerConfig":
        """What the file server is told."""
        from dit4c_p2p.fileserver.config import FileServerConfig

        return FileServerConfig(
            name=self.name,
            key=key,
            ca=self.portal.ca,
            ssh=self.listen_ssh,
            portal=portal,
            data_folder=self.data_folder,
            files_folder=self.files_path,
            limits=self.limits,
            snapshots=self.snapshots,
        )
