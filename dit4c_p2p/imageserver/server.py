"""The image server's HTTP server: its limits, its strict reader, its refusals."""

import asyncio

from aiohttp import web

from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.imageserver.http_body import PART_BYTES
from dit4c_p2p.imageserver.http_errors import refusal
from dit4c_p2p.net.http_connection import StrictConnection
from dit4c_p2p.net.http_server import HttpServer
from dit4c_p2p.net.listener import ConnectionLimiter, ConnectionSlot, ListenerOptions

_ANOTHER_PORT = "choose another port ('dit4c up': --images-port)"


def http_server(app: web.Application, config: ImageServerConfig) -> HttpServer:
    """Return the server of an application on all addresses of an image server."""
    limits = config.limits

    def connect(server: web.Server, slot: ConnectionSlot) -> asyncio.BaseProtocol:
        return StrictConnection(
            server, slot, head_s=limits.head, refuse=refusal, read_bytes=PART_BYTES // 2
        )

    return HttpServer(
        app,
        config,
        ListenerOptions(
            ConnectionLimiter(limits.connections, limits.connections_per_address, config.proxies),
            stalled_s=limits.stalled,
        ),
        connect,
        another_port=_ANOTHER_PORT,
    )
