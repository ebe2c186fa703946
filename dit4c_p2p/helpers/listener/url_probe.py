"""Probe of the instance's own URL through one router, as a browser would ask."""

import asyncio
import ssl

from yarl import URL

from dit4c_p2p.identity.portal_client import split_address
from dit4c_p2p.messages.pod import ALIVE_PATH
from dit4c_p2p.messages.public import RouterInfo
from dit4c_p2p.net.http1 import BadMessage, find_head_end, parse_response_head, render_head

ASK_LIMIT_S = 5.0


async def probe_own_url(
    url: str, router: RouterInfo, trust: ssl.SSLContext | None = None
) -> tuple[bool, str]:
    """Whether ``ALIVE_PATH`` below ``url`` answers 200 through ``router``, and if not, why.

    The canonical host is said (and its certificate checked) whatever address is connected to.

    :param trust: for an ``https`` URL; the system's authorities unless given.
    """
    reason = f"{router.name} has no HTTP address"
    for address in router.http:
        try:
            async with asyncio.timeout(ASK_LIMIT_S):
                status = await _probed_status(URL(url), address, trust)
        except (OSError, TimeoutError, BadMessage, asyncio.IncompleteReadError) as error:
            reason = (
                f"{router.name} does not answer HTTP at {address}: {str(error) or 'time is up'}"
            )
            continue
        if status == 200:
            return True, ""
        reason = f"own URL answers {status} through {router.name}"
    return False, reason


async def _probed_status(url: URL, address: str, trust: ssl.SSLContext | None) -> int:
    host, port = split_address(address)
    secure = None
    if url.scheme == "https":
        secure = trust or ssl.create_default_context()
    reader, writer = await asyncio.open_connection(
        host, port, ssl=secure, server_hostname=url.host if secure else None
    )
    try:
        writer.write(
            render_head(
                b"GET %b HTTP/1.1" % ALIVE_PATH.encode(),
                [
                    (b"Host", (url.host_port_subcomponent or "").encode("ascii")),
                    (b"Accept", b"text/plain"),
                    (b"Connection", b"close"),
                ],
            )
        )
        data = await reader.readuntil(b"\r\n\r\n")
        return parse_response_head(data[: find_head_end(data)], "GET").status
    except asyncio.LimitOverrunError as error:
        raise OSError(str(error)) from None
    finally:
        writer.transport.abort()
