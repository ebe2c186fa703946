"""Addresses from which a peer has recently proved its key, for which connections are reserved."""

import time
from collections import OrderedDict
from collections.abc import Callable

from dit4c_p2p.net.connection_limits import rate_limit_key

_REMEMBERED_S = 24 * 3600
_MAX_REMEMBERED = 4096


class KnownAddresses:
    """A memory of those; the oldest goes first."""

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._proved: OrderedDict[str, float] = OrderedDict()

    def proved(self, address: str | None) -> None:
        """A peer has just proved its key from there."""
        site = rate_limit_key(address)
        self._proved[site] = self._clock()
        self._proved.move_to_end(site)
        while len(self._proved) > _MAX_REMEMBERED:
            self._proved.popitem(last=False)

    def knows(self, address: str | None) -> bool:
        """Whether a peer did so in the last day."""
        at = self._proved.get(rate_limit_key(address))
        return at is not None and self._clock() - at < _REMEMBERED_S
