"""Pinning of a proxy's connection to the one instance that its first request names.

A browser's connection belongs to one visitor and is spliced after its first head. A proxy may reuse
a connection for another instance, whose requests would then reach a node that its user has not
chosen. Every head that a proxy sends is therefore read, until a WebSocket has begun. This module
does no I/O.
"""

from dit4c_p2p.net.http1 import BadRequest, RequestHead
from dit4c_p2p.net.request_validator import RequestValidator

_SWITCHED = b"HTTP/1.1 101 "


class HostPinnedStream:
    """Filter of the bytes on one connection of a proxy.

    :param host: of its first request, as in :class:`RequestHead`.
    """

    def __init__(self, host: str) -> None:
        self._host = host
        self._requests = RequestValidator(self._check)
        self._asked_to_switch = False
        self._answer = b""  # its beginning, to a request to switch

    def asked(self, data: bytes) -> bytes:
        """What the instance may be given, of what has come from the proxy.

        :raises BadRequest: it is for another host, or it is no request; nothing more may pass.
        """
        if self._asked_to_switch:
            if self._answer != _SWITCHED:
                raise BadRequest("something was sent before a WebSocket had begun")
            return data
        passed = self._requests.feed(data)
        if self._requests.refused is not None:
            raise self._requests.refused
        return passed

    def answered(self, data: bytes) -> None:
        """The instance has sent ``data``."""
        if self._asked_to_switch and len(self._answer) < len(_SWITCHED):
            self._answer += data[: len(_SWITCHED) - len(self._answer)]

    def _check(self, head: RequestHead) -> None:
        if head.host != self._host:
            raise BadRequest("the connection is another host's", status=421)
        self._asked_to_switch = head.upgrade is not None
