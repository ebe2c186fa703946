"""Places for strangers: so many in all, and so many for each address that they come from."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

# What one household or one rented machine has of IPv6 (RFC 6177).
_ONE_SITE_BITS = 64


class PerAddressLimiter:
    """Counts who has a place.

    :param total: places in all.
    :param per_address: how many of them one address may have; of IPv6, one /64.
    :param exempt: says which address may have any number, because others speak through it.
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
        """A place for ``address``, to be given back; False if there is none for it."""
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

    def give_back(self, address: str | None) -> None:
        """The other half of a :meth:`take` that was True."""
        site = rate_limit_key(address)
        self.taken -= 1
        self._by_site[site] -= 1
        if not self._by_site[site]:
            del self._by_site[site]

    @contextmanager
    def hold(self, address: str | None) -> Iterator[bool]:
        """Whether there is a place, which is given back after the ``with`` block."""
        held = self.take(address)
        try:
            yield held
        finally:
            if held:
                self.give_back(address)


def rate_limit_key(address: str | None) -> str:
    """What counts as one address: all that is no IP address is one, too."""
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
