"""The settings of an image server."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import Kind
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.oci.manifest import MAX_IMAGE_BYTES
from dit4c_p2p.settings import values
from dit4c_p2p.settings.declare import Settings, section, setting
from dit4c_p2p.settings.edge import ProxySettings, TlsSettings, listening_settings_problems
from dit4c_p2p.settings.shared import Listening, PeerSettings

if TYPE_CHECKING:
    from dit4c_p2p.imageserver.config import ImageServerConfig

HOUR_S = 3600.0
MIB = 1024**2


@dataclass(frozen=True, kw_only=True)
class ImageServerLimits(Settings):
    """How much and how long."""

    blob: int = setting(values.size, "The largest layer that is taken.", default=MAX_IMAGE_BYTES)
    keep_free: int = setting(
        values.size,
        "Uploads are refused when less than this is free on the disk.",
        default=1024 * MIB,
    )
    unfinished: float = setting(
        values.duration,
        "Uploads, and chunks and layers that no image names, are removed when nothing has touched "
        "them for so long. It has to be longer than the slowest upload takes.",
        default=24 * HOUR_S,
    )
    garbage: float = setting(
        values.duration, "How often what nobody needs is looked for.", default=HOUR_S
    )
    access: float = setting(
        values.duration,
        "How long the portal's permission counts before it is asked again.",
        default=5.0,
    )
    connections: int = setting(
        values.integer(16, 1_000_000), "Connections at one time.", default=1024
    )
    connections_per_address: int = setting(
        values.integer(1, 1_000_000),
        "The same from one address. All the instances of a machine come from one.",
        default=256,
    )
    head: float = setting(values.duration, "For a request's head to arrive.", default=10.0)
    silence: float = setting(
        values.duration, "An upload that sends no byte for so long is cut.", default=60.0
    )
    stalled: float = setting(
        values.duration, "A client that takes no byte for so long is cut.", default=60.0
    )


@dataclass(frozen=True, kw_only=True)
class ImageServerSettings(PeerSettings):
    """An image server: it keeps the images that people save. The portal says who may."""

    KIND = Kind.IMAGESERVER

    id: str = setting(
        values.peer_id,
        "Its id; its name is imageserver-ID. The portal's file lists it.",
        default="main",
    )
    url: str = setting(
        values.service_url,
        "Its URL, as everybody sees it and as the portal's file says it. A path before /v2/ is "
        "for this project's own clients only: stock ones have none.",
        example="https://images.example.org",
    )
    data_folder: Path = setting(
        values.path,
        "Where it keeps its key, the images and their index.",
        default=Path("/var/lib/dit4c-imageserver"),
    )
    listen: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by plain HTTP: on this machine, or for a proxy that speaks HTTPS to "
        "everybody else. Only what is named here is listened on.",
        default=(),
        example=(("127.0.0.1", 8082),),
    )
    listen_tls: tuple[values.Address, ...] = setting(
        values.list_of(values.address),
        "Where it listens by HTTPS, with the certificate in [tls].",
        default=(),
        example=(("0.0.0.0", 443), ("::", 443)),
        shown=True,
    )
    tls: TlsSettings = section(
        TlsSettings, "The certificate, in files that are looked at again when they change."
    )
    proxies: ProxySettings = section(
        ProxySettings, "Proxies in front, whose word about a client's address is believed."
    )
    limits: ImageServerLimits = section(ImageServerLimits, "How much and how long.")

    def problems(self) -> Iterator[tuple[str, str, str]]:
        """It listens somewhere, and nowhere twice."""
        yield from super().problems()
        yield from listening_settings_problems(self.listen, self.listen_tls, (), self.tls)

    def file_problems(self) -> Iterator[ConfigError]:
        """See :class:`Settings`."""
        yield from super().file_problems()
        yield from self.tls.certificate_problems(URL(self.url).host or "")

    @property
    def listening(self) -> Listening:
        """Every address to be bound, by the setting that says so."""
        return {"listen": self.listen, "listen_tls": self.listen_tls, **self.observe.listening}

    def config(self, key: asyncssh.SSHKey, portal: PortalInfo) -> "ImageServerConfig":
        """What the image server is told."""
        from dit4c_p2p.imageserver.config import ImageServerConfig

        return ImageServerConfig(
            name=self.name,
            key=key,
            url=self.url,
            portal=portal,
            ca=self.portal.ca,
            data_folder=self.data_folder,
            addresses=self.listen,
            secure_addresses=self.listen_tls,
            tls=self.tls.files,
            proxies=self.proxies.believed,
            limits=self.limits,
        )
