"""Listening: aiohttp's server with a limit on how long a request's head may take."""

import asyncio
import errno
import logging
from collections.abc import Sequence
from functools import partial

from aiohttp import web

from dit4c_p2p.errors import ConfigError

_KEEPALIVE_S = 75.0
# Request lines hold login links.
_NO_ACCESS_LOG = logging.Logger("portal access", logging.CRITICAL)
_BACKLOG = 256
# Streams are told to end before this; it is for what does not listen.
_SHUTDOWN_S = 2.0


class _Connection(web.RequestHandler):
    """aiohttp has no such limit: a head that trickles in would hold a connection for ever."""

    __slots__ = ("_head_s", "_head_timer")

    def __init__(self, server: web.Server, *, head_s: float) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=_KEEPALIVE_S,
            access_log=_NO_ACCESS_LOG,
        )
        self._head_s = head_s
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._start_timer()

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count > before:
            self._stop_timer()
        elif self._head_timer is None and self._current_request is None:
            self._start_timer()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._stop_timer()
        super().connection_lost(exc)

    def _start_timer(self) -> None:
        loop = asyncio.get_running_loop()
        self._head_timer = loop.call_later(self._head_s, self._too_slow)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if self._current_request is None:
            self.force_close()


class HttpServer:
    """An application on several addresses."""

    def __init__(
        self, app: web.Application, addresses: Sequence[tuple[str, int]], *, head_s: float
    ) -> None:
        self._runner = web.AppRunner(app, shutdown_timeout=_SHUTDOWN_S, handle_signals=False)
        self._addresses = addresses
        self._head_s = head_s
        self._servers: list[asyncio.Server] = []
        self.ports: list[int] = []

    async def start(self) -> None:
        """Bind every address, or none.

        :raises ConfigError: one is taken, not ours to take, or not this machine's.
        """
        await self._runner.setup()
        server = self._runner.server
        if server is None:
            raise RuntimeError("aiohttp made no server")
        factory = partial(_Connection, server, head_s=self._head_s)
        try:
            for host, port in self._addresses:
                self._servers.append(await _bind(factory, host, port))
        except ConfigError:
            await self.stop()
            raise
        self.ports = [listening.sockets[0].getsockname()[1] for listening in self._servers]

    async def stop(self) -> None:
        """Take no more connections, end those there are."""
        for listening in self._servers:
            listening.close()
        self._servers.clear()
        await self._runner.cleanup()


async def _bind(factory: partial[_Connection], host: str, port: int) -> asyncio.Server:
    try:
        return await asyncio.get_running_loop().create_server(
            factory, host, port, backlog=_BACKLOG, reuse_address=True
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ConfigError(
                f"port {port} on {host} is taken by another program",
                hint="stop that program, or choose another port with --portal-port",
            ) from error
        raise ConfigError(
            f"the portal can't listen on {host}:{port}: {error.strerror or error}",
            hint="choose another address or port",
        ) from error
