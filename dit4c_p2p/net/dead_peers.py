"""TCP connections whose other end is gone without a word, or takes nothing: found and cut.

=====================================  ==========================  ==========================
the other end                          is noticed by               after
=====================================  ==========================  ==========================
is gone, and nothing is on its way     keepalive (the kernel)      50 s
is gone, and something is on its way   unanswered retransmissions  45 s
is gone, and took nothing before       unanswered window probes    45 s, or when one is due
is there, and takes nothing            no byte taken               ``stalled_s``
=====================================  ==========================  ==========================

The kernel asks one that takes nothing again and again, less and less often (RFC 9293, 3.8.6.1):
after a rest of some minutes every two minutes.

``TCP_USER_TIMEOUT`` would be one limit for all three: it takes the place of the keepalive's count,
and ends a connection whose other end only rests.
"""

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

_IDLE_S = 20
_INTERVAL_S = 10
_COUNT = 3
# Without an answer to what was sent again; less than a minute with the time until the next look.
_UNANSWERED_S = 45.0
_LOOK_S = 5.0
# How many looks long a window probe stays without an answer.
_PROBED_LOOKS = 2
# struct tcp_info (linux/tcp.h): retransmits; probes; unacked; last_ack_recv (ms); bytes_acked;
# notsent_bytes. Later kernels add to its end.
_INFO = struct.Struct("=2xBB20xI28xI60xQ16xI")


@dataclass
class _WatchedConnection:
    """One connection."""

    cut: Callable[[], None]
    acked_bytes: int = -1
    since: float = 0.0  # when it took a byte last
    probed_looks: int = 0  # for how many looks a window probe has had no answer


class DeadPeers:
    """Watches over the connections of one listener.

    :param stalled_s: how long one may take nothing of what waits for it.
    """

    def __init__(self, stalled_s: float) -> None:
        self._stalled_s = stalled_s
        self._watched: dict[socket.socket, _WatchedConnection] = {}
        self._timer: asyncio.TimerHandle | None = None

    def watch(self, sock: socket.socket, cut: Callable[[], None]) -> None:
        """Watch until ``sock`` is closed.

        :param cut: ends the connection.
        """
        self._watched[sock] = _WatchedConnection(cut)
        if self._timer is None:
            self._look_later()

    def close(self) -> None:
        """Watch no more."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        pause_s = min(_LOOK_S, self._stalled_s / 4)
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _look(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        for sock, watched in list(self._watched.items()):
            if sock.fileno() < 0:
                del self._watched[sock]
            elif self._is_over(sock, watched, now):
                del self._watched[sock]
                watched.cut()
        if self._watched:
            self._look_later()

    def _is_over(self, sock: socket.socket, watched: _WatchedConnection, now: float) -> bool:
        try:
            info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
        except OSError:
            return False
        if len(info) < _INFO.size:
            return False
        sent_again, probes, unacked, answered_ms, acked_bytes, waiting_bytes = _INFO.unpack(info)
        watched.probed_looks = watched.probed_looks + 1 if probes else 0
        unanswered = (unacked and sent_again >= 2) or watched.probed_looks > _PROBED_LOOKS
        if unanswered and answered_ms >= _UNANSWERED_S * 1000:
            return True
        if acked_bytes != watched.acked_bytes or not (waiting_bytes or unacked):
            watched.acked_bytes, watched.since = acked_bytes, now
        return now - watched.since >= self._stalled_s


def set_keepalive_options(sock: socket.socket, unsent_bytes: int) -> None:
    """Have the kernel look after a visitor's connection.

    :param unsent_bytes: what the kernel holds for the visitor beyond what is on its way.
    """
    with contextlib.suppress(OSError):  # gone already: the loop will say so
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _INTERVAL_S)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _COUNT)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, unsent_bytes)
