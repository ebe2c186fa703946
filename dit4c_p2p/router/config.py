"""Configuration of a router: identity, addresses and limits."""

from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import asyncssh

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.public import PortalInfo
from dit4c_p2p.net.tls import TlsFiles
from dit4c_p2p.net.trusted_proxies import NOBODY, TrustedProxies
from dit4c_p2p.settings.router import RouterLimits

Limits = RouterLimits

_ID = "{id}"

Addresses = tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class RouterConfig:
    """One router.

    :ivar name: its peer name, of the kind ``router``.
    :ivar key: its private key, published for that name; its SSH host key.
    :ivar http: (host, port) pairs that its HTTP side binds to. Port 0 in the first pair lets the
        system choose; port 0 in a further one means the first's.
    :ivar https: the same, with TLS by ``tls``.
    :ivar redirect: the same for plain HTTP that only leads to the instances' own URLs.
    :ivar proxies: whose word about a visitor's address counts.
    :ivar ssh: the same for its SSH side.
    :ivar portal: the portal to believe.
    :ivar user_url: the canonical URL of an instance with ``{id}`` for its id, such as
        ``https://{id}.example.net/``.
    :ivar data_folder: where signed copies of key documents are kept; made if it is missing.
    :ivar limits: see :class:`Limits`.
    :ivar ca: PEM of authorities to believe beside the system's, for the portal's certificate.
    """

    name: PeerName
    key: asyncssh.SSHKey = field(repr=False)
    http: Addresses
    ssh: Addresses
    portal: PortalInfo
    user_url: str
    data_folder: Path
    limits: Limits = field(default_factory=Limits)
    https: Addresses = ()
    redirect: Addresses = ()
    tls: TlsFiles | None = None
    proxies: TrustedProxies = NOBODY
    ca: str = ""

    @property
    def secure(self) -> bool:
        """Whether instances are served by HTTPS, here or at a proxy."""
        return self.user_url.startswith("https:")

    def instance_origin(self, instance: str) -> str:
        """The origin of an instance's canonical URL, without a closing slash."""
        return self.user_url.replace(_ID, instance).rstrip("/")

    @property
    def user_domain(self) -> str:
        """The domain below which every instance has its name, in lower case.

        :raises ConfigError: ``user_url`` is not of its form.
        """
        return user_domain_of_url(self.user_url)


def user_domain_of_url(user_url: str) -> str:
    """Return the domain of ``user_url``: ``example.net`` of ``https://{id}.example.net/``.

    :raises ConfigError: ``user_url`` does not have this form.
    """
    parts = urlsplit(user_url.replace(_ID, "id", 1))
    label, _, domain = (parts.hostname or "").partition(".")
    well_formed = (
        user_url.count(_ID) == 1
        and parts.scheme in ("http", "https")
        and label == "id"
        and domain
        and parts.path == "/"
        and not parts.query
    )
    if not well_formed:
        raise ConfigError(
            f"{user_url!r} is not the URL of instances",
            hint="write it as https://{id}.example.net/",
        )
    return domain.lower()
