"""The settings of a routing server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.public import PortalInfo, PublicConfig
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting
from dit4c_p2p.settings.edge import ProxySettings, TlsSettings, listening_settings_problems
from dit4c_p2p.settings.shared import Listening, PeerSettings

if TYPE_CHECKING:
    from dit4c_p2p.router.config import RouterConfig


@dataclass(frozen=True, kw_only=True)
class RouterLimits(Settings):
    """Limits of a routing server."""

    head_s: float = setting(
        values.duration,
        "From accepting a visitor's connection to the end of the first request's head.",
        default=10.0,
        name="head",
    )
    open_s: float = setting(
        values.duration,
        "For an instance to accept a visitor's connection.",
        default=10.0,
        name="open",
    )
    stalled_s: float = setting(
        values.duration,
        "A visitor that takes no byte for so long is cut.",
        default=300.0,
        name="stalled",
    )
    visitors: int = setting(
        values.integer(1, 1_000_000), "Visitors' connections at one time.", default=8192
    )
    visitors_per_address: int = setting(
        values.integer(1, 1_000_000),
        "The same from one address. A page of Jupyter takes six and a few WebSockets, and many "
        "people may come from one address.",
        default=4096,
    )
    tunnels_per_key: int = setting(
        values.integer(1, 1024), "SSH connections of one peer at one time.", default=4
    )
    channels_per_tunnel: int = setting(
        values.integer(1, 65536), "Visitors' connections to one instance.", default=256
    )
    channels_per_visitor: int = setting(
        values.integer(1, 65536),
        "Of these from one address, so that a stranger does not have them all.",
        default=64,
    )
    dials_per_key: int = setting(
        values.integer(1, 65536), "Connections that a scheduler keeps to its nodes.", default=1024
    )

    # Not settable: for a TLS handshake; for the portal to say what has become of an instance, and
    # how long its answer counts.
    handshake_s: float = 10.0
    page_state_s: float = 2.0
    page_state_ttl_s: float = 1.0


@dataclass(frozen=True, kw_only=True)
class RouterSettings(PeerSettings):
    """A routing server: visitors reach instances through it, and peers reach each other.

    Where instances are found (their URLs) it learns from the portal at its start.
    """

    KIND = Kind.ROUTER

    id: str = setting(
        values.peer_id, "Its id; its name is router-ID. The portal's file lists it.", example="r1"
    )
    data_folder: Path = setting(
        values.path,
        "Where it keeps its key and signed copies of others' public keys.",
        default=Path("/var/lib/dit4c-router"),
    )
    listen: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens for visitors by plain HTTP: on this machine, or for a proxy that "
        "speaks HTTPS to everybody else. Only what is named here is listened on.",
        default=(),
        example=(("127.0.0.1", 8081),),
    )
    listen_tls: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by HTTPS, with the certificate in [tls].",
        default=(),
        example=(("0.0.0.0", 443), ("::", 443)),
        shown=True,
    )
    redirect: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by plain HTTP only to send everybody to HTTPS.",
        default=(),
        example=(("0.0.0.0", 80), ("::", 80)),
        shown=True,
    )
    listen_ssh: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens for peers, by SSH. Nodes and instances connect here from anywhere.",
        example=(("0.0.0.0", 8022), ("::", 8022)),
    )
    tls: TlsSettings = section(
        TlsSettings, "The certificate, in files that are looked at again when they change."
    )
    proxies: ProxySettings = section(
        ProxySettings, "Proxies in front, whose word about a visitor's address is believed."
    )
    limits: RouterLimits = section(RouterLimits, "How much it bears.")

    @property
    def listening(self) -> Listening:
        """Every address to be bound, by the setting that says so."""
        return {
            "listen": self.listen,
            "listen_tls": self.listen_tls,
            "redirect": self.redirect,
            "listen_ssh": self.listen_ssh,
            **super().listening,
        }

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """Check the addresses to listen on."""
        yield from super().problems()
        yield from listening_settings_problems(
            self.listen, self.listen_tls, self.redirect, self.tls
        )
        if not self.listen_ssh:
            yield "listen_ssh", "it is empty", 'write listen_ssh = ["0.0.0.0:8022"]'

    def file_problems(self) -> Iterator[ConfigError]:
        """Check the certificate without host names, which only the portal knows."""
        yield from super().file_problems()
        yield from self.tls.certificate_problems()

    def config(
        self, key: asyncssh.SSHKey, portal: PortalInfo, public: PublicConfig
    ) -> "RouterConfig":
        """Return the router's configuration."""
        from dit4c_p2p.router.config import RouterConfig

        return RouterConfig(
            name=self.name,
            key=key,
            ca=self.portal.ca,
            http=self.listen,
            https=self.listen_tls,
            redirect=self.redirect,
            tls=self.tls.files,
            proxies=self.proxies.believed,
            ssh=self.listen_ssh,
            portal=portal,
            user_url=public.user_url,
            data_folder=self.data_folder,
            limits=self.limits,
        )
