"""The public addresses of the owner's network, as the portal sees them.

Behind a home router a machine does not know the address that the internet sees. Its pods would
reach the router there, as if from outside: by what is a public address and yet the owner's. So the
portal is asked, over IPv4, where this machine's calls come from.
"""

import asyncio
import ipaddress
import json
import logging
import time
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp

from dit4c_p2p.atomic_file import NotWritten, write_whole
from dit4c_p2p.identity.portal_client import PortalClient

_log = logging.getLogger(__name__)

PATH = "/caller-address"
ASK_EVERY_S = 60.0
# A home router gets another address from time to time; the one before is somebody else's then.
KEPT_S = 3600.0
_MAX_KEPT = 8
_MAX_BYTES = 1024

Ask = Callable[[], Awaitable[IPv4Address | None]]


async def ask_portal_for_own_address(client: PortalClient) -> IPv4Address | None:
    """Where the portal sees this machine's calls come from; None if it does not say.

    :param client: one that connects over IPv4 only.
    """
    try:
        async with client.session.get(client.url(PATH), allow_redirects=False) as response:
            if response.status != 200:
                return None
            said = json.loads(await response.content.read(_MAX_BYTES))
        address = ipaddress.ip_address(str(said["address"]))
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError, TypeError) as error:
        _log.debug("the portal does not say where calls come from: %s", error)
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped
    return address


class OwnAddresses:
    """The addresses that the portal has seen of late; known again after a restart.

    :param path: where they are kept.
    :param clock: seconds since 1970.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._seen = self._read()

    @property
    def addresses(self) -> frozenset[IPv4Address]:
        """Those of the last hour, and the newest for as long as there is no other."""
        newest = max(self._seen.values(), default=0.0)
        return frozenset(
            address
            for address, at in self._seen.items()
            if at == newest or self._clock() - at < KEPT_S
        )

    def seen(self, address: IPv4Address) -> bool:
        """Calls come from there now; whether that is news."""
        before = self.addresses
        self._seen[address] = self._clock()
        for old in sorted(self._seen, key=self._seen.__getitem__)[:-_MAX_KEPT]:
            del self._seen[old]
        if self.addresses == before:
            return False
        try:
            text = json.dumps({str(one): at for one, at in self._seen.items()})
            write_whole(self._path, text.encode())
        except NotWritten as error:
            _log.warning("the public address of this machine can't be stored: %s", error.one_line())
        return True

    async def follow(self, ask: Ask, changed: Callable[[], None]) -> None:
        """Ask every minute until cancelled; ``changed`` is called when there is news."""
        while True:
            address = await ask()
            if address is not None and address.is_global and self.seen(address):
                _log.info("this machine is seen at %s, which is closed to pods", address)
                changed()
            await asyncio.sleep(ASK_EVERY_S)

    def _read(self) -> dict[IPv4Address, float]:
        try:
            kept = json.loads(self._path.read_bytes())
            return {IPv4Address(text): float(at) for text, at in kept.items()}
        except FileNotFoundError:
            return {}
        except (OSError, ValueError, TypeError, AttributeError) as error:
            _log.info("%s can't be used: %s", self._path, error)
            return {}
