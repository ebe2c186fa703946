"""The kernel's own news about addresses and routes of this machine (rtnetlink(7)).

A new address of the machine is closed to pods as soon as the kernel tells of it, and not at the
next look. Without such news (another kernel, no permission) the looks remain.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_log = logging.getLogger(__name__)

_NETLINK_ROUTE = 0
# linux/rtnetlink.h: RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV4_ROUTE.
_GROUPS = 0x1 | 0x10 | 0x40
_MAX_BYTES = 64 * 1024
# The kernel tells of one change by several messages.
_READS_AT_ONCE = 64


@contextmanager
def address_events(changed: Callable[[], None]) -> Iterator[None]:
    """Have ``changed`` called soon after each change, in the running loop, until the end.

    What has changed is not said: a message may be lost when there are many, and is no message then.
    """
    loop = asyncio.get_running_loop()
    try:
        listener = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_ROUTE
        )
    except OSError as error:
        _log.warning("new addresses of this machine are noticed late: %s", error)
        yield
        return
    with listener:
        try:
            listener.bind((0, _GROUPS))
        except OSError as error:
            _log.warning("new addresses of this machine are noticed late: %s", error)
            yield
            return

        def read() -> None:
            for _ in range(_READS_AT_ONCE):
                try:
                    listener.recv(_MAX_BYTES)
                except BlockingIOError:
                    break
                except OSError:
                    # ENOBUFS: more than the kernel keeps for us. Something has changed.
                    break
            changed()

        loop.add_reader(listener, read)
        try:
            yield
        finally:
            loop.remove_reader(listener)
