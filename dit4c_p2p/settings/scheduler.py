"""The settings of a scheduler."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting
from dit4c_p2p.settings.shared import PeerSettings

if TYPE_CHECKING:
    from dit4c_p2p.scheduler.config import SchedulerConfig


@dataclass(frozen=True, kw_only=True)
class SchedulerLimits(Settings):
    """How long the parts of a start or a save may take before they count as failed."""

    # An image may have to be unpacked at a home's pace, and 20 GiB uploaded at 12 Mbit/s.
    image_s: float = setting(
        values.duration, "For a node to have the image.", default=3600.0, name="image"
    )
    start_s: float = setting(
        values.duration,
        "For the app to answer at its own URL after that.",
        default=3600.0,
        name="start",
    )
    save_s: float = setting(
        values.duration,
        "For a stopped app's files to be read before an upload.",
        default=14400.0,
        name="save",
    )
    upload_s: float = setting(
        values.duration,
        "For these files to be uploaded, each time that is tried.",
        default=14400.0,
        name="upload",
    )


@dataclass(frozen=True, kw_only=True)
class SchedulerSettings(PeerSettings):
    """A scheduler: it owns the life of each instance and has the nodes carry it out.

    It listens nowhere. Where the routers are it learns from the portal at its start.
    """

    KIND = Kind.SCHEDULER

    id: str = setting(
        values.peer_id,
        "Its id; its name is scheduler-ID. The portal's file and those of its nodes name it.",
        default="main",
    )
    data_folder: Path = setting(
        values.path,
        "Where it keeps its key and its database.",
        default=Path("/var/lib/dit4c-scheduler"),
    )
    database: str = setting(
        values.database,
        "Its database, if not scheduler.sqlite3 in the data folder. On PostgreSQL it "
        "needs one that is empty and its own.",
        default="",
        example="postgres:///dit4c_scheduler?host=/run/postgresql",
    )
    nodes: tuple[str, ...] = setting(
        values.list_of(values.peer_id),
        "The ids of its nodes. One that is not there yet may be named already.",
        default=(),
        example=("home",),
    )
    limits: SchedulerLimits = section(
        SchedulerLimits, "How long an instance's start may take before it counts as failed."
    )

    def config(
        self, key: asyncssh.SSHKey, portal: PortalInfo, public: PublicConfig
    ) -> "SchedulerConfig":
        """Return the scheduler's configuration."""
        from dit4c_p2p.scheduler import SchedulerConfig

        return SchedulerConfig(
            name=self.name,
            key=key,
            ca=self.portal.ca,
            data_folder=self.data_folder,
            portal=portal,
            routers=tuple(public.routers),
            follow_portal=True,
            nodes=self.nodes,
            limits=self.limits,
        )
