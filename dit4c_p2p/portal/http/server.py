"""The portal's HTTP server: its limits, its strict reader, its refusals."""

import asyncio
from functools import partial

from aiohttp import web

from dit4c_p2p.net.http_connection import StrictConnection
from dit4c_p2p.net.http_server import HttpServer
from dit4c_p2p.net.listener import ConnectionLimiter, ConnectionSlot, ListenerOptions
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.http.responses import refusal_response

_ANOTHER_PORT = "choose another port ('dit4c up': --portal-port)"


def http_server(app: web.Application, config: PortalConfig) -> HttpServer:
    """Return the server of an application on all addresses of a portal."""
    limits = config.limits
    refuse = partial(refusal_response, https=config.url.startswith("https:"))

    def connect(server: web.Server, slot: ConnectionSlot) -> asyncio.BaseProtocol:
        return StrictConnection(server, slot, head_s=limits.head_s, refuse=refuse)

    return HttpServer(
        app,
        config,
        ListenerOptions(
            ConnectionLimiter(limits.connections, limits.connections_per_address, config.proxies),
            handshake_s=limits.handshake_s,
            stalled_s=limits.stalled_s,
        ),
        connect,
        another_port=_ANOTHER_PORT,
        redirect_addresses=config.redirect_addresses,
    )
