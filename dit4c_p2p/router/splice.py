"""The two ends of a trusted proxy's connection, which carries requests of several clients.

What passes is looked into, see :mod:`dit4c_p2p.router.proxy_pinning`; the rest is
:mod:`dit4c_p2p.overlay.splice`.
"""

import asyncio
import logging
from collections.abc import Callable

import asyncssh

from dit4c_p2p.net.http1 import BadRequest
from dit4c_p2p.net.large_head import LargeHeadStream
from dit4c_p2p.net.reset import reset
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.overlay.splice import HIGH_WATER_BYTES, ChannelEnd, StreamEnd
from dit4c_p2p.router.proxy_pinning import HostPinnedStream

_log = summed(logging.getLogger(__name__))


class ProxiedChannelEnd(ChannelEnd):
    """The channel's side of a proxy's connection."""

    def __init__(
        self,
        transport: asyncio.Transport,
        on_close: Callable[[int], None],
        passing: HostPinnedStream | LargeHeadStream,
    ) -> None:
        super().__init__(transport, on_close)
        self._passing = passing

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh with the next bytes."""
        self._passing.answered(data)
        super().data_received(data, datatype)


class ProxiedStreamEnd(StreamEnd):
    """The socket's side of a proxy's connection: cut by what is not for this instance."""

    def __init__(
        self,
        transport: asyncio.Transport,
        channel: asyncssh.SSHTCPChannel[bytes],
        half_closed_s: float,
        on_close: Callable[[int], None],
        passing: HostPinnedStream | LargeHeadStream,
        *,
        room_bytes: int = HIGH_WATER_BYTES,
    ) -> None:
        super().__init__(transport, channel, half_closed_s, on_close, room_bytes=room_bytes)
        self._passing = passing

    def data_received(self, data: bytes) -> None:
        """Called by the loop with the next bytes."""
        try:
            passed = self._passing.asked(data)
        except BadRequest as error:
            _log.warning("cut a proxy's connection: %s", error)
            reset(self._transport)
            return
        if passed:
            super().data_received(passed)
