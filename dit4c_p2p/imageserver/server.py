"""Listening: aiohttp's server on every address of an image server, behind a strict reader."""

import asyncio
import ssl

from aiohttp import web
from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.imageserver.http_body import PART_BYTES
from dit4c_p2p.imageserver.http_errors import refusal
from dit4c_p2p.net.http_connection import StrictConnection
from dit4c_p2p.net.listener import (
    ConnectionLimiter,
    ConnectionSlot,
    Listener,
    ListenerOptions,
    close_all,
)
from dit4c_p2p.net.tls import Certificate

_SHUTDOWN_S = 2.0
_ANOTHER_PORT = "choose another port ('dit4c up': --images-port)"


class HttpServer:
    """An application on all addresses of an image server.

    :ivar ports: the port of each plain address, once started.
    :ivar secure_ports: of each with TLS.
    """

    def __init__(self, app: web.Application, config: ImageServerConfig) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S, handle_signals=False)
        self._config = config
        limits = config.limits
        self._options = ListenerOptions(
            ConnectionLimiter(limits.connections, limits.connections_per_address, config.proxies),
            stalled_s=limits.stalled,
        )
        self._listeners: list[Listener] = []
        self._certificate: Certificate | None = None
        self.ports: list[int] = []
        self.secure_ports: list[int] = []

    async def start(self) -> None:
        """Bind every address, or none.

        :raises ConfigError: one is taken, not ours to take, or not this machine's; or the
            certificate is no good.
        """
        config = self._config
        if not config.addresses and not config.secure_addresses:
            raise ConfigError("the image server has no address to listen on", hint="give it one")
        if config.tls is not None:
            self._certificate = Certificate(config.tls, [URL(config.url).host or ""])
            self._certificate.load()
        await self._runner.setup()
        try:
            context = None if self._certificate is None else self._certificate.context
            self.ports = [self._bind(*pair, None) for pair in config.addresses]
            self.secure_ports = [self._bind(*pair, context) for pair in config.secure_addresses]
        except ConfigError:
            await self.stop()
            raise

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return self._options.room.taken

    async def follow(self) -> None:
        """Follow the certificate's files, for ever; without one there is nothing to do."""
        if self._certificate is None:
            await asyncio.Event().wait()
        else:
            await self._certificate.run()

    async def stop(self) -> None:
        """Take no more connections, end those there are."""
        listeners, self._listeners = self._listeners, []
        await close_all(listeners)
        await self._runner.cleanup()

    def _bind(self, host: str, port: int, tls: ssl.SSLContext | None) -> int:
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")

        def client(slot: ConnectionSlot) -> asyncio.BaseProtocol:
            return StrictConnection(
                server,
                slot,
                head_s=self._config.limits.head,
                refuse=refusal,
                read_bytes=PART_BYTES // 2,
            )

        listener = Listener(client, self._options, tls=tls)
        self._listeners.append(listener)
        return listener.listen(host, port, another=_ANOTHER_PORT)
