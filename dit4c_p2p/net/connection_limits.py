"""Limits on connections: in all, and for each address."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

# A household or a rented machine has one IPv6 /64 at least (RFC 6177).
_ONE_SITE_BITS = 64


class PerAddressLimiter:
    """Counter of connections in all and for each address.

    :param total: places in all.
    :param per_address: how many of them one address may have; of IPv6, one /64.
    :param exempt: returns whether an address has no limit, because it is a proxy for others.
    """

    def __init__(
        self, total: int, per_address: int, exempt: Callable[[str], bool] | None = None
    ) -> None:
        self._total = total
        self._per_address = per_address
        self._exempt = exempt
        self._by_site: Counter[str] = Counter()
        self.taken = 0

    def take(self, address: str | None) -> bool:
        """Take a place for ``address``; return False if none is free for it."""
        site = rate_limit_key(address)
        full = self._by_site[site] >= self._per_address and not (
            self._exempt is not None and address and self._exempt(address)
        )
        if self.taken >= self._total or full:
            if not self._by_site[site]:
                del self._by_site[site]
            return False
        self.taken += 1
        self._by_site[site] += 1
        return True

    def is_full_for(self, site: str) -> bool:
        """Whether an address, as :func:`rate_limit_key` makes it, has all that one may have."""
        return self._by_site[site] >= self._per_address

    def most_crowded(self) -> str:
        """The address that has the most places, as :func:`rate_limit_key` makes it."""
        return max(self._by_site, key=self._by_site.__getitem__, default="")

    def give_back(self, address: str | None) -> None:
        """Give back a place that :meth:`take` returned True for."""
        site = rate_limit_key(address)
        self.taken -= 1
        self._by_site[site] -= 1
        if not self._by_site[site]:
            del self._by_site[site]

    @contextmanager
    def hold(self, address: str | None) -> Iterator[bool]:
        """Take a place for the ``with`` block; yield whether there was one."""
        held = self.take(address)
        try:
            yield held
        finally:
            if held:
                self.give_back(address)


def rate_limit_key(address: str | None) -> str:
    """Return the key under which an address is counted: an IPv4 address or an IPv6 /64.

    Everything that is no IP address shares one key.
    """
    if not address or ":" not in address:
        return address or ""
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return f"{int(parsed) >> (128 - _ONE_SITE_BITS):x}::/{_ONE_SITE_BITS}"
    return str(parsed)
