"""A connection whose first request head is read strictly and within a time limit.

A subclass decides what to do with the connection then. An answer is always the last thing sent.

    reading ──head──▶ the subclass's
       └──────────┬──────┘
                  ▼
               answered: that is sent, what still arrives is thrown away, then closed
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from typing import cast

from dit4c_p2p.net.http1 import BadRequest, RequestHead, find_head_end, parse_head
from dit4c_p2p.net.listener import ConnectionSlot
from dit4c_p2p.net.reset import is_tls_transport

_log = logging.getLogger(__name__)

# After an answer: how long and how much of what the visitor still sends is read and thrown away, so
# that closing doesn't take the answer away from it (RFC 9112 section 9.6).
_LINGER_S = 2.0
_LINGER_BYTES = 4 * 1024 * 1024


class FirstRequest(ABC, asyncio.Protocol):
    """One connection, from its first byte on.

    :param head_s: in which the head has to arrive.
    """

    _transport: asyncio.Transport
    _timer: asyncio.TimerHandle

    def __init__(self, place: ConnectionSlot, head_s: float) -> None:
        self._place = place
        self._head_s = head_s
        self._buffer = bytearray()
        self._seen = 0
        self._reading = True
        self._to_drain = -1  # ≥ 0: answered; so many bytes more are thrown away

    @abstractmethod
    def _requested(self, head: RequestHead) -> None:
        """Handle the complete head; ``_buffer`` holds the head and the bytes after it."""

    @abstractmethod
    def _refused(self, error: BadRequest) -> None:
        """Answer a malformed request."""

    @abstractmethod
    def _late(self) -> None:
        """Answer a visitor whose head is incomplete when its time is over."""

    @abstractmethod
    def _crowded(self) -> None:
        """Answer a visitor for whom there is no free connection."""

    def _gone(self) -> None:
        """Clean up after the connection; a protocol that took it over calls this at its end."""
        self._place.leave()

    def _answer(self, content: bytes) -> None:
        """Send the answer, read and discard the rest for a short time, then close."""
        self._timer.cancel()
        self._reading = False
        self._buffer.clear()
        self._to_drain = _LINGER_BYTES
        if self._transport.is_closing():
            return
        self._transport.write(content)
        try:
            self._transport.resume_reading()
            if is_tls_transport(self._transport):
                self._transport.close()  # says so, and waits for the visitor to do the same
            else:
                self._transport.write_eof()
        except (OSError, RuntimeError) as error:
            _log.debug("a visitor went while it was answered: %s", error)
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self._transport.abort)

    # ---- called by the loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading; called by asyncio when a connection was accepted."""
        self._transport = cast(asyncio.Transport, transport)
        self._timer = asyncio.get_running_loop().call_later(self._head_s, self._head_late)
        if not self._place.within:
            self._crowded()

    def data_received(self, data: bytes) -> None:
        """Take the next bytes; called by asyncio."""
        if self._to_drain >= 0:
            self._to_drain -= len(data)
            if self._to_drain < 0:
                self._transport.abort()
            return
        self._buffer += data
        if not self._reading:
            return  # what was on its way when reading was paused
        try:
            end = find_head_end(self._buffer, self._seen)
            self._seen = len(self._buffer)
            if end < 0:
                return
            self._reading = False
            self._timer.cancel()
            head = parse_head(bytes(self._buffer[:end]))
        except BadRequest as error:
            self._refused(error)
            return
        self._requested(head)

    def eof_received(self) -> bool:
        """Stop waiting, because the visitor sends nothing more; called by asyncio."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """Clean up; called by asyncio when the connection has ended."""
        self._timer.cancel()
        self._gone()

    def _head_late(self) -> None:
        if self._buffer:
            self._late()
        else:
            # Browsers open connections ahead, and would show an answer to nothing as a page.
            self._transport.close()
