"""What an image server is told. Filled by the program that starts it."""

from dataclasses import dataclass, field
from pathlib import Path

import asyncssh
from yarl import URL

from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.net.tls import TlsFiles
from dit4c_p2p.net.trusted_proxies import NOBODY, TrustedProxies
from dit4c_p2p.settings.imageserver import ImageServerLimits


@dataclass(frozen=True)
class ImageServerConfig:
    """One image server.

    :ivar name: its peer name, of the kind ``imageserver``; the audience of its callers' tokens.
    :ivar key: its private key, published for that name.
    :ivar url: canonical, without a closing slash; may have a path.
    :ivar portal: the portal that decides who may.
    :ivar ca: PEM of authorities to believe beside the system's, for the portal's certificate.
    :ivar addresses: (host, port) pairs to listen on by plain HTTP; port 0 takes a free one.
    :ivar secure_addresses: the same, with TLS by ``tls``.
    """

    name: PeerName
    key: asyncssh.SSHKey = field(repr=False)
    url: str
    portal: PortalInfo
    data_folder: Path
    addresses: tuple[tuple[str, int], ...]
    secure_addresses: tuple[tuple[str, int], ...] = ()
    tls: TlsFiles | None = None
    proxies: TrustedProxies = NOBODY
    ca: str = ""
    limits: ImageServerLimits = field(default_factory=ImageServerLimits)

    @property
    def prefix(self) -> str:
        """The path of the URL, without a closing slash; empty if it has none."""
        return URL(self.url).path.rstrip("/")

    @property
    def images_folder(self) -> Path:
        """Where images and their index are."""
        return self.data_folder / "images"
