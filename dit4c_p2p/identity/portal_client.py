"""HTTP client of the portal: requests name the canonical URL and may connect to another address."""

import asyncio
import ipaddress
import itertools
import socket
import ssl
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.messages.public import PortalInfo

TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)


def split_address(text: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[v6]:port``.

    :raises ConfigError: the text does not have this form.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ConfigError(f"{text!r} is not an address", hint="write it as host:port")
    return host.strip("[]"), int(port)


def is_loopback_host(host: str) -> bool:
    """Whether a URL's host can only mean this machine (RFC 6761 section 6.3 for ``localhost``)."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def trusting_context(ca: str) -> ssl.SSLContext:
    """Return a client's TLS context with the system's authorities and those of ``ca``.

    :raises ConfigError: ``ca`` is not PEM of certificates.
    """
    context = ssl.create_default_context()
    if ca:
        try:
            context.load_verify_locations(cadata=ca)
        except ssl.SSLError as error:
            raise ConfigError(
                f"the authorities to be trusted can't be read: {error.reason}",
                hint="give certificates in PEM form",
            ) from None
    return context


class FixedResolver(AbstractResolver):
    """Resolve every host to the given addresses, starting with another one each time."""

    def __init__(self, addresses: list[tuple[str, int]]) -> None:
        self._addresses = addresses
        self._turn = itertools.cycle(range(len(addresses)))

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        """Called by aiohttp's connector for the canonical host."""
        loop = asyncio.get_running_loop()
        first = next(self._turn)
        results: list[ResolveResult] = []
        for address, its_port in self._addresses[first:] + self._addresses[:first]:
            for found in await loop.getaddrinfo(address, its_port, type=1, family=family):
                results.append(
                    ResolveResult(
                        hostname=host,
                        host=str(found[4][0]),
                        port=its_port,
                        family=found[0],
                        proto=found[2],
                        flags=0,
                    )
                )
        return results

    async def close(self) -> None:
        """Do nothing: the resolver holds no resource."""


class PortalClient:
    """A session with the portal, used as ``async with PortalClient(portal) as client``.

    ``client.session`` takes absolute canonical URLs (:meth:`url` makes them) and has a limit of
    10 s for a request; streams give their own. Proxies of the environment are not used.

    :param ca: PEM of authorities to believe beside the system's; empty: those only.
    :param family: of the addresses to connect to, such as ``socket.AF_INET``; 0 for any.
    :raises ConfigError: the canonical URL is not an origin, or is plain HTTP to another machine.
    """

    def __init__(self, portal: PortalInfo, *, ca: str = "", family: int = 0) -> None:
        url = URL(portal.url)
        if url.scheme not in ("http", "https") or not url.host or str(url.origin()) != portal.url:
            raise ConfigError(
                f"{portal.url!r} is not the URL of a portal",
                hint="write it as https://portal.example.org, without a path",
            )
        if url.scheme == "http" and not is_loopback_host(url.host):
            raise ConfigError(
                f"the portal {portal.url} is on another machine and must be reached by TLS",
                hint="use its https:// URL",
            )
        self.portal = portal
        self._trust = trusting_context(ca) if url.scheme == "https" else None
        self._resolver = (
            FixedResolver([split_address(address) for address in portal.connect])
            if portal.connect
            else None
        )
        self._family = socket.AddressFamily(family)
        self._session: aiohttp.ClientSession | None = None

    @property
    def session(self) -> aiohttp.ClientSession:
        """Return the open session.

        :raises RuntimeError: the client has not been entered.
        """
        if self._session is None:
            raise RuntimeError("PortalClient is used before it is entered")
        return self._session

    def url(self, path: str) -> str:
        """The canonical URL of a path that begins with ``/``."""
        return self.portal.url + path

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            family=self._family,
            use_dns_cache=False,
            limit=32,
            keepalive_timeout=30,
            ssl=self._trust or True,
        )
        self._session = aiohttp.ClientSession(connector=connector, timeout=TIMEOUT)
        return self

    async def __aexit__(self, *error: object) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
