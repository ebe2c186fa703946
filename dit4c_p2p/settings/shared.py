"""Settings that several components have."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting


@dataclass(frozen=True, kw_only=True)
class LogSettings(Settings):
    """Where log lines go is for whoever starts the program: they are written to standard error."""

    level: str = setting(
        values.choice("info", "warning", "error"),
        "The least important lines that are written.",
        default="info",
    )

    @property
    def number(self) -> int:
        """As the logging module counts levels."""
        return logging.getLevelNamesMapping()[self.level.upper()]


@dataclass(frozen=True, kw_only=True)
class PortalReference(Settings):
    """Which portal to believe."""

    url: str = setting(
        values.origin,
        "Its URL, exactly as its own file says it.",
        example="https://portal.example.org",
    )
    key: str = setting(
        values.public_key,
        "Its public key, which everything that it says is checked against: the line that 'dit4c "
        "portal key' prints on the portal's machine.",
        example="ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOCFcRaiIrn76hgrj15gTW1fS+ACzwZR4kNQLY4ZKf7g"
        " portal-main",
    )
    connect: tuple[str, ...] = setting(
        values.list_of(values.near),
        "Addresses to connect to instead of the URL's own.",
        default=(),
        example=("192.0.2.10:443",),
    )


@dataclass(frozen=True, kw_only=True)
class PeerSettings(Settings):
    """What every peer but the portal has; subclasses say of which kind they are."""

    KIND: ClassVar[Kind]

    id: str = setting(values.peer_id, "Its id: with its kind before it, its name.", example="main")
    data_folder: Path = setting(
        values.path, "Where it keeps what has to last.", example=Path("/var/lib/dit4c")
    )
    key: Path | None = setting(
        values.path,
        "The file of its private key, which is made at the first start and never leaves this "
        "machine. Left out, it is 'key' in the data folder.",
        default=None,
        example=Path("/etc/dit4c/key"),
    )
    portal: PortalReference = section(PortalReference, "The portal that it belongs to.")
    log: LogSettings = section(LogSettings, "What it writes to standard error.")

    @property
    def name(self) -> PeerName:
        """Its peer name."""
        return PeerName(self.KIND, self.id)

    @property
    def key_path(self) -> Path:
        """Where its private key is."""
        return self.key or self.data_folder / "key"

    @property
    def listening(self) -> dict[str, tuple[values.Address, ...]]:
        """Every address to be bound, by the setting that says so; most peers have none."""
        return {}

    @property
    def scheduler_served(self) -> str | None:
        """For a node, the id of its scheduler; nobody else has one."""
        return None
