"""Configuration of a portal."""

from dataclasses import dataclass, field
from pathlib import Path

from yarl import URL

from dit4c_p2p.database import DatabaseSpec
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.portal_client import is_loopback_host, split_address
from dit4c_p2p.messages.public import FileServerInfo, ImageServerInfo, RouterInfo
from dit4c_p2p.net.tls import TlsFiles
from dit4c_p2p.net.trusted_proxies import NOBODY, TrustedProxies
from dit4c_p2p.portal.login.config import LoginConfig
from dit4c_p2p.settings.portal import PortalLimits

Limits = PortalLimits

AUDIT_FILE = "audit.jsonl"


@dataclass(frozen=True)
class CatalogueImage:
    """An image to start. ``image`` is its id (``sha256:…``) or its reference by digest
    (``registry.example.org/name@sha256:…``), ``icon`` one or two letters, or empty.
    """

    name: str
    title: str
    description: str
    image: str
    icon: str = ""


@dataclass(frozen=True)
class KnownImageServer:
    """An image server. ``token_sha256`` is the SHA-256 in hexadecimal of the static token by which
    the proxy of a stock registry proves itself in its place; empty: it has a key.
    """

    info: ImageServerInfo
    token_sha256: str = ""


@dataclass(frozen=True)
class PortalConfig:
    """A portal.

    :param data_folder: holds the private key (made at the first start) and the SQLite database.
    :param url: canonical, an origin without a closing slash, such as ``http://localhost:8080``.
    :param addresses: ``(host, port)`` pairs to listen on; port 0 takes a free one.
    :param connect: ``host:port`` pairs that peers may connect to instead of the URL's own.
    :param user_url: an instance's canonical URL with ``{id}`` in it and a closing slash.
    :param scheduler: the id of the scheduler that new instances are given to.
    :param secure_addresses: like ``addresses``, with TLS by ``tls``.
    :param redirect_addresses: the same for plain HTTP that only leads to ``url``.
    :param login: how people log in, and who may come.
    :param proxies: whose word about a visitor's address counts.
    :param fileservers: where files are; the first is the home of new people and groups.
    :param imageservers: where images are saved; the first is the one that new saves go to.
    :param database: where the database is if not in the data folder, as ``DatabaseSpec`` takes it.
    """

    data_folder: Path
    url: str
    addresses: tuple[tuple[str, int], ...]
    user_url: str
    routers: tuple[RouterInfo, ...]
    catalogue: tuple[CatalogueImage, ...]
    connect: tuple[str, ...] = ()
    scheduler: str = "main"
    id: str = "main"
    limits: Limits = field(default_factory=Limits)
    database: str = field(default="", repr=False)  # it may hold a password
    secure_addresses: tuple[tuple[str, int], ...] = ()
    redirect_addresses: tuple[tuple[str, int], ...] = ()
    tls: TlsFiles | None = None
    login: LoginConfig = field(default_factory=LoginConfig)
    tool_pictures: Path | None = None
    proxies: TrustedProxies = NOBODY
    fileservers: tuple[FileServerInfo, ...] = ()
    imageservers: tuple[KnownImageServer, ...] = ()

    def __post_init__(self) -> None:
        url = URL(self.url)
        if url.scheme not in ("http", "https") or not url.host or str(url.origin()) != self.url:
            raise ConfigError(
                f"{self.url!r} is not a portal's URL",
                hint="write it as https://portal.example.org, without a path",
            )
        if url.scheme == "http" and not is_loopback_host(url.host):
            raise ConfigError(
                f"{self.url} would carry logins over the network unprotected",
                hint="give an https:// URL; plain HTTP is for this machine only",
            )
        if self.user_url.count("{id}") != 1 or not self.user_url.endswith("/"):
            raise ConfigError(
                f"{self.user_url!r} is not the URL of instances",
                hint="write it as http://{id}.localhost:8081/",
            )
        for address in self.connect:
            split_address(address)
        for server in self.fileservers:
            for address in server.connect:
                split_address(address)
        if self.secure_addresses and self.tls is None:
            raise ConfigError("HTTPS needs a certificate", hint="give it one with its key")

    @property
    def name(self) -> PeerName:
        """The portal's peer name."""
        return PeerName(Kind.PORTAL, self.id)

    @property
    def key_path(self) -> Path:
        """Where the portal's private key is kept."""
        return self.data_folder / "key"

    @property
    def database_path(self) -> Path:
        """The SQLite file, unless the database is elsewhere."""
        return self.data_folder / "portal.sqlite3"

    @property
    def audit_path(self) -> Path:
        """The audit log, for ``dit4c audit verify``."""
        return self.data_folder / AUDIT_FILE

    @property
    def database_spec(self) -> DatabaseSpec:
        """The database, for ``databases()``."""
        # An act is written down in the transaction that does it: there is a database by then.
        return DatabaseSpec("portal", self.database or self.database_path, trace=self.audit_path)

    @property
    def host(self) -> str:
        """The canonical ``Host``: with the port unless it is the scheme's own."""
        return URL(self.url).host_port_subcomponent or ""

    def instance_url(self, instance: str) -> str:
        """Return an instance's canonical URL, which is derived from its id alone."""
        return self.user_url.replace("{id}", instance)
