"""An aiohttp application on every address of a component, behind a strict reader of requests."""

import asyncio
import ssl
from collections.abc import Callable, Sequence
from typing import Protocol

from aiohttp import web
from yarl import URL

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.net.https_redirect import HttpsRedirect
from dit4c_p2p.net.listener import (
    ConnectionSlot,
    Factory,
    Listener,
    ListenerOptions,
    close_all_listeners,
)
from dit4c_p2p.net.tls import Certificate, TlsFiles

Addresses = Sequence[tuple[str, int]]
# Makes the protocol of a client's connection to aiohttp's server.
Connect = Callable[[web.Server, ConnectionSlot], asyncio.BaseProtocol]

# Streams are told to end before this; it is for what does not listen.
_SHUTDOWN_S = 2.0


class ServedConfig(Protocol):
    """What a component's configuration says of its addresses.

    :ivar url: the component's canonical URL.
    :ivar addresses: ``(host, port)`` pairs to listen on by plain HTTP; port 0 takes a free one.
    :ivar secure_addresses: the same, with TLS by ``tls``.
    """

    @property
    def url(self) -> str: ...
    @property
    def addresses(self) -> Addresses: ...
    @property
    def secure_addresses(self) -> Addresses: ...
    @property
    def tls(self) -> TlsFiles | None: ...


class HttpServer:
    """An application on all addresses of a component.

    :param options: for every connection.
    :param another_port: how another port is chosen, for an address that is taken.
    :param redirect_addresses: those that lead to ``config.url`` only.
    :ivar ports: the port of each plain address, once started.
    :ivar secure_ports: of each with TLS.
    :ivar redirect_ports: of each that leads to those.
    """

    def __init__(
        self,
        app: web.Application,
        config: ServedConfig,
        options: ListenerOptions,
        connect: Connect,
        *,
        another_port: str,
        redirect_addresses: Addresses = (),
    ) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S, handle_signals=False)
        self._config = config
        self._options = options
        self._connect = connect
        self._another_port = another_port
        self._redirect_addresses = redirect_addresses
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
            raise ConfigError("there is no address to listen on", hint="give it one")
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
        await close_all_listeners(listeners)
        await self._runner.cleanup()

    def _listen(self) -> None:
        config, server = self._config, self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")

        def client(slot: ConnectionSlot) -> asyncio.BaseProtocol:
            return self._connect(server, slot)

        def astray(slot: ConnectionSlot) -> asyncio.BaseProtocol:
            return HttpsRedirect(self._canonical, slot)

        tls = None if self._certificate is None else self._certificate.context
        self.ports = [self._bind(*pair, client) for pair in config.addresses]
        self.secure_ports = [self._bind(*pair, client, tls) for pair in config.secure_addresses]
        self.redirect_ports = [self._bind(*pair, astray) for pair in self._redirect_addresses]

    def _bind(
        self, host: str, port: int, factory: Factory, tls: ssl.SSLContext | None = None
    ) -> int:
        listener = Listener(factory, self._options, tls=tls)
        self._listeners.append(listener)
        return listener.listen(host, port, another=self._another_port)

    def _canonical(self, host: str) -> str | None:
        """The component's origin, for its own host."""
        return self._config.url if host == URL(self._config.url).host else None
