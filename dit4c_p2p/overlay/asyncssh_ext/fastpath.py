"""A faster path for channel data of an SSH connection than asyncssh's own, with the same bytes.

asyncssh puts each piece of channel data through a dozen calls and nine copies, and sends an ignored
packet before every one (a measure for CBC ciphers). For plain data under AES-GCM, which is nearly
everything that peers exchange, two shorter ways stand in for that:

- :func:`enable_fast_path` puts a receiver in front of a logged-in connection, which opens packets
  of channel data by itself and hands everything else to asyncssh, still encrypted; and an outbox
  behind it, which sends what is written during one turn of the loop by one system call.
- :func:`fast_writer` gives a function to use in the place of ``channel.write``.

Both keep asyncssh's own state in step (sequence numbers, nonces, windows, bytes until the next key
exchange) and leave to it whatever is not the plain case: key exchanges, other ciphers, compression,
full windows, full sockets, closing channels, malformed packets. They know its private fields
(``overlay.internals``), and so stand back altogether for a release that they were not tested with.

RFC 4253 section 6 (packets), RFC 4254 section 5.2 (data), RFC 5647 section 7 (AES-GCM).
"""

import logging
from typing import Any

import asyncssh

from dit4c_p2p.overlay.asyncssh_ext import private_api
from dit4c_p2p.overlay.asyncssh_ext.fast_reader import Receiver
from dit4c_p2p.overlay.asyncssh_ext.fast_writer import Outbox, fast_writer

__all__ = ["DOUBT", "enable_fast_path", "fast_writer"]

_log = logging.getLogger(__name__)

# Why the shorter way is not taken, in words; empty if it is.
DOUBT = private_api.unsupported_reason(private_api.QUICK)

_doubt_said = False

Connection = asyncssh.SSHClientConnection | asyncssh.SSHServerConnection


def enable_fast_path(connection: Connection) -> None:
    """Send and receive channel data by the fast path from now on.

    Called once, after the login, for a connection that ``overlay.guard`` watches over.
    """
    global _doubt_said
    conn: Any = connection
    if DOUBT:
        if not _doubt_said:
            _doubt_said = True
            _log.warning("channel data takes asyncssh's own, slower path: %s", DOUBT)
        return
    transport = conn._transport
    if transport is not None and hasattr(transport, "set_protocol"):
        transport.set_protocol(Receiver(connection))
        Outbox(connection)
