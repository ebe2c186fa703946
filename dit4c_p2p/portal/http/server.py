"""Listening: aiohttp's server on every address of a portal, behind a strict reader."""

import asyncio
import ssl
from functools import partial

from aiohttp import web
from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.http_connection import StrictConnection
from dit4c_p2p.net.https_redirect import Redirect
from dit4c_p2p.net.listener import (
    ConnectionLimiter,
    ConnectionSlot,
    Factory,
    Listener,
    ListenerOptions,
    close_all,
)
from dit4c_p2p.net.tls import Certificate
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.http.responses import refusal

# Streams are told to end before this; it is for what does not listen.
_SHUTDOWN_S = 2.0
_ANOTHER_PORT = "choose another port ('dit4c up': --portal-port)"


class HttpServer:
    """An application on all addresses of a portal.

    :ivar ports: the port of each plain address, once started.
    :ivar secure_ports: of each with TLS.
    :ivar redirect_ports: of each that leads to those.
    """

    def __init__(self, app: web.Application, config: PortalConfig) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S, handle_signals=False)
        self._config = config
        limits = config.limits
        self._manner = ListenerOptions(
            ConnectionLimiter(limits.connections, limits.connections_per_address, config.proxies),
            handshake_s=limits.handshake_s,
            stalled_s=limits.stalled_s,
        )
        self._listeners: list[Listener] = []
        self._certificate: Certificate | None = None
        self.ports: list[int] = []
        self.secure_ports: list[int] = []
        self.redirect_ports: list[int] = []

    async def start(self) -> None:
        """Bind every address, or none.

        :raises ConfigError: one is taken, not ours to take, or not this machine's; or the
            certificate is no good.
        """
        config = self._config
        if not config.addresses and not config.secure_addresses:
            raise ConfigError("the portal has no address to listen on", hint="give it one")
        if config.tls is not None:
            self._certificate = Certificate(config.tls, [URL(config.url).host or ""])
            self._certificate.load()
        await self._runner.setup()
        try:
            self._listen()
        except ConfigError:
            await self.stop()
            raise

    @property
    def connections(self) -> int:
        """How many visitors are connected."""
        return self._manner.room.taken

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

    def _listen(self) -> None:
        config, server = self._config, self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        refuse = partial(refusal, https=config.url.startswith("https:"))
        head_s = config.limits.head_s

        def visitor(place: ConnectionSlot) -> asyncio.BaseProtocol:
            return StrictConnection(server, place, head_s=head_s, refuse=refuse)

        def astray(place: ConnectionSlot) -> asyncio.BaseProtocol:
            return Redirect(self._canonical, place)

        context = None if self._certificate is None else self._certificate.context
        self.ports = [self._bind(*pair, visitor) for pair in config.addresses]
        self.secure_ports = [
            self._bind(*pair, visitor, context) for pair in config.secure_addresses
        ]
        self.redirect_ports = [self._bind(*pair, astray) for pair in config.redirect_addresses]

    def _bind(
        self, host: str, port: int, factory: Factory, tls: ssl.SSLContext | None = None
    ) -> int:
        listener = Listener(factory, self._manner, tls=tls)
        self._listeners.append(listener)
        return listener.listen(host, port, another=_ANOTHER_PORT)

    def _canonical(self, host: str) -> str | None:
        """The portal's origin, for its own host."""
        return self._config.url if host == URL(self._config.url).host else None
