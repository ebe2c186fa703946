"""Settings shared by several components."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from typing import ClassVar

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.portal_client import trusting_context
from dit4c_p2p.observe.logs import LogFormat
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting

Listening = dict[str, tuple[values.Address, ...]]


def ports_given_twice(listening: Listening) -> Iterator[tuple[str, str, str]]:
    """Return addresses that an earlier one equals or includes, so that they can't be bound."""
    before: list[tuple[str, values.Address]] = []
    for name, addresses in listening.items():
        for host, port in addresses:
            for other_name, (other, other_port) in before:
                if port == other_port != 0 and _addresses_overlap(host, other):
                    where = "here" if name == other_name else f"in {other_name}"
                    yield (
                        name,
                        f"port {port} on {host} is {where} already, on {other}",
                        "give each a port of its own",
                    )
            before.append((name, (host, port)))


def _addresses_overlap(host: str, other: str) -> bool:
    """Whether the addresses are equal, or one is the wildcard of the other's family."""
    if host == other:
        return True
    try:
        one, two = ip_address(host), ip_address(other)
    except ValueError:
        return False
    return one.version == two.version and (one == two or one.is_unspecified or two.is_unspecified)


@dataclass(frozen=True, kw_only=True)
class LogSettings(Settings):
    """Where log lines go is for whoever starts the program: they are written to standard error."""

    level: str = setting(
        values.choice("info", "warning", "error"),
        "The least important lines that are written.",
        default="info",
    )
    format: LogFormat = setting(
        values.choice("text", "json"),
        "Lines for people, or a JSON object in each line for a program that collects them.",
        default="text",
    )

    @property
    def number(self) -> int:
        """The level as a number of the logging module."""
        return logging.getLevelNamesMapping()[self.level.upper()]


@dataclass(frozen=True, kw_only=True)
class ObserveSettings(Settings):
    """Health checks and metrics, for the component's operator."""

    listen: values.Address | None = setting(
        values.address,
        "Where /healthz, /readyz and /metrics are served, by plain HTTP and to whoever asks: an "
        "address that only you and your monitoring reach. Left out, nowhere.",
        default=None,
        example=("127.0.0.1", 9101),
    )

    @property
    def listening(self) -> "Listening":
        """The address of health and metrics, if it is set."""
        return {} if self.listen is None else {"observe.listen": (self.listen,)}


@dataclass(frozen=True, kw_only=True)
class PortalReference(Settings):
    """The portal that the peer trusts."""

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
    ca_file: Path | None = setting(
        values.path,
        "Certificates, in PEM, of an authority of one's own that has signed the portal's (and the "
        "routers'). It is believed beside the system's; on a node, by instances' helpers as well.",
        default=None,
        example=Path("/etc/dit4c/ca.pem"),
    )

    @property
    def ca(self) -> str:
        """Contents of ``ca_file``; empty without one.

        :raises ConfigError: the file can't be read or holds no certificates.
        """
        if self.ca_file is None:
            return ""
        try:
            text = self.ca_file.read_text(encoding="ascii")
            trusting_context(text)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not text"
            raise ConfigError(
                f"portal.ca_file: {self.ca_file} can't be read: {reason}",
                hint="give certificates in PEM, or leave it out",
            ) from None
        except ConfigError as error:
            raise ConfigError(f"portal.ca_file: {error}", hint=error.hint) from None
        return text


@dataclass(frozen=True, kw_only=True)
class PeerSettings(Settings):
    """Settings of every peer except the portal; subclasses set their kind."""

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
    observe: ObserveSettings = section(ObserveSettings, "Health and figures, for those who run it.")

    @property
    def name(self) -> PeerName:
        """Its peer name."""
        return PeerName(self.KIND, self.id)

    @property
    def key_path(self) -> Path:
        """Where its private key is."""
        return self.key or self.data_folder / "key"

    @property
    def listening(self) -> Listening:
        """Every address to be bound, by the setting that says so."""
        return self.observe.listening

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Check that no address is given twice."""
        yield from ports_given_twice(self.listening)

    def file_problems(self) -> Iterator[ConfigError]:
        """See :class:`Settings`."""
        try:
            _ = self.portal.ca
        except ConfigError as error:
            yield error

    @property
    def scheduler_served(self) -> str | None:
        """The id of a node's scheduler; None for other kinds."""
        return None
