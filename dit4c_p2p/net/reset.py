"""Ending a stream so that the other end sees an error, and not an end of file.

A response or a WebSocket that was cut must not look complete to its reader. Each hop has its way to
say so:

===============  ==============================================================================
TCP              a reset: ``SO_LINGER`` of 0 seconds, then close (RFC 9293 section 3.10.4)
Unix socket      both directions closed at once. An orderly end shuts down one direction first,
                 and keeps the socket open until the other end has read all
SSH channel      ``CHANNEL_CLOSE`` without ``CHANNEL_EOF`` (RFC 4254 section 5.3)
===============  ==============================================================================
"""

import array
import asyncio
import contextlib
import fcntl
import os
import socket
import struct
import termios

_LINGER_NOT = struct.pack("ii", 1, 0)


def reset(transport: asyncio.WriteTransport) -> None:
    """Close a TCP or Unix stream at once, and let the other end know that it was cut.

    What was written and not sent yet is dropped. Does nothing when the stream has ended.
    """
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):  # it has ended already
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_NOT)
    transport.abort()


def is_tls_transport(transport: asyncio.Transport) -> bool:
    """Whether the transport uses TLS, which ends both directions at once."""
    return transport.get_extra_info("sslcontext") is not None


def is_connection_cut_off(transport: asyncio.BaseTransport) -> bool:
    """Return whether the other end of a Unix stream has closed both directions.

    Called when an end of file has been read. False for TCP, where a reset is an error by itself.
    """
    sock = transport.get_extra_info("socket")
    if sock is None or sock.family != socket.AF_UNIX:
        return False
    try:
        # Sending nothing tells whether the other end would still read (unix(7): EPIPE).
        with socket.socket(fileno=os.dup(sock.fileno())) as copy:
            copy.send(b"", socket.MSG_NOSIGNAL)
    except BrokenPipeError:
        return True
    except OSError:
        return False
    return False


def unread_bytes(transport: asyncio.BaseTransport) -> int:
    """Return how many bytes of those that were sent the other end has not taken yet.

    For TCP these are the unacknowledged ones. 0 when the stream has ended.
    """
    sock = transport.get_extra_info("socket")
    count = array.array("i", [0])
    try:
        fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, count)
    except (OSError, ValueError, AttributeError):
        return 0
    return count[0]
