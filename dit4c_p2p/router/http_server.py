"""The router's HTTP side: it opens a stream to the instance that a connection's first Host names.

Only the head of the first request is read, strictly. Everything after it is forwarded unchanged,
keep-alive requests and WebSockets included. A request that can't be forwarded is answered by a
page.

    reading ──head──▶ opening ──channel──▶ spliced (StreamEnd has the socket now)
       └──────────┬──────┘
                  ▼
               answered: the page is sent, what still arrives is thrown away, then closed
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.ports import INSTANCE_HTTP_PORT
from dit4c_p2p.net.connection_limits import rate_limit_key
from dit4c_p2p.net.first_request import FirstRequest
from dit4c_p2p.net.http1 import BadRequest, RequestHead
from dit4c_p2p.net.https_redirect import host_of_authority, https_location, redirect_answer
from dit4c_p2p.net.large_head import LargeHeadStream, large_head_without_cookies
from dit4c_p2p.net.listener import ConnectionLimiter, ConnectionSlot
from dit4c_p2p.net.reset import is_tls_transport, reset
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.net.trusted_proxies import RequestOrigin
from dit4c_p2p.overlay.splice import HIGH_WATER_BYTES, ChannelEnd, StreamEnd
from dit4c_p2p.overlay.ssh_options import WINDOW_BYTES
from dit4c_p2p.router import error_pages
from dit4c_p2p.router.config import RouterConfig
from dit4c_p2p.router.error_pages import ErrorPage, ErrorPageRenderer
from dit4c_p2p.router.instance_states import PageStateClockOff, PageStatePortalSilent, PageStates
from dit4c_p2p.router.metrics import RouterMetrics
from dit4c_p2p.router.proxy_pinning import HostPinnedStream
from dit4c_p2p.router.splice import ProxiedChannelEnd, ProxiedStreamEnd
from dit4c_p2p.router.ssh_server import TunnelBusy, TunnelRegistry
from dit4c_p2p.router.window_budget import WindowBudget

_log = summed(logging.getLogger(__name__))

# How long a visitor waits for a stream into an instance that has as many as it may.
_BUSY_WAIT_S = 2.0
_BUSY_RETRY_S = 0.1
_MAX_BUSY_WAITING = 128

# An instance's id, and whose streams into it are counted.
Stream = tuple[str, str]


class HttpFrontend:
    """State shared by all visitors' connections.

    :param board: where the tunnels are.
    :param states: asked when there is none.
    :ivar room: counts them.
    :ivar windows: of their channels.
    """

    def __init__(
        self,
        board: TunnelRegistry,
        states: PageStates,
        renderer: ErrorPageRenderer,
        config: RouterConfig,
        metrics: RouterMetrics,
    ) -> None:
        self.board = board
        self.metrics = metrics
        self.config = config
        self.limits = limits = config.limits
        self.room = ConnectionLimiter(limits.visitors, limits.visitors_per_address, config.proxies)
        self.windows = WindowBudget(WINDOW_BYTES)
        self._states = states
        self._renderer = renderer
        self._suffix = "." + config.user_domain
        self._portal_url = config.portal.url + "/"
        self._transports: set[asyncio.Transport] = set()
        self._streams: Counter[Stream] = Counter()
        self._waiting: Counter[str] = Counter()  # for a stream into an instance
        self._tasks: set[asyncio.Task[None]] = set()

    def visitor(self, place: ConnectionSlot) -> "ClientConnection":
        """The factory that the listener calls for each connection."""
        return ClientConnection(self, place)

    @property
    def visitors(self) -> int:
        """How many connections there are, those that shake hands included."""
        return self.room.taken

    def enter(self, transport: asyncio.Transport) -> None:
        """Know a connection, to cut it in the end."""
        self._transports.add(transport)

    def leave(self, transport: asyncio.Transport) -> None:
        """A connection is gone."""
        self._transports.discard(transport)

    def canonical(self, host: str) -> str | None:
        """The origin by which instance ``host`` is to be visited, or None: it is none of ours."""
        instance = self._named(host)
        return self.config.instance_origin(instance.id) if instance is not None else None

    def origin(self, head: RequestHead, place: ConnectionSlot) -> RequestOrigin:
        """Where a request comes from; its connection counts for that address from now on."""

        def field(name: str) -> list[str]:
            return [value.decode("latin-1") for value in head.get_all(name.lower().encode())]

        origin = self.config.proxies.origin(place.peer, place.address[0], field)
        if origin.address != place.address[0]:
            place.move((origin.address, 0))
        return origin

    def take_stream(self, instance: PeerName, place: ConnectionSlot) -> Stream | None:
        """Count one more stream of a visitor's into an instance; None: there may be no more.

        A proxy that doesn't say for whom it calls has no share of its own.
        """
        stream = (instance.id, rate_limit_key(place.address[0]))
        if self._streams[stream] >= self.limits.channels_per_visitor and not (
            self.config.proxies.trusts(place.address[0])
        ):
            return None
        self._streams[stream] += 1
        return stream

    def give_stream_back(self, stream: Stream) -> None:
        """Called once for each that was taken."""
        self._streams[stream] -= 1
        if not self._streams[stream]:
            del self._streams[stream]

    @property
    def streams(self) -> int:
        """How many streams are open or opening."""
        return self._streams.total()

    def start(self, work: Any, name: str) -> None:
        """Run a coroutine of a visitor, kept until it ends."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("%s failed", task.get_name(), exc_info=task.exception())

    def instance_of(self, head: RequestHead) -> PeerName | ErrorPage:
        """The instance that a request is for, or the page that says why it is for none."""
        host = host_of_authority(head.host)
        label = host.removesuffix(self._suffix)
        if label == host or "." in label:
            return error_pages.wrong_host_page()
        return self._named(host) or error_pages.no_such_instance_page(self._portal_url)

    def _named(self, host: str) -> PeerName | None:
        """The instance that a host in lower case can only be the name of."""
        if not host.endswith(self._suffix):
            return None
        try:
            return PeerName(Kind.INSTANCE, host.removesuffix(self._suffix))
        except InvalidName:
            return None

    async def open(
        self,
        instance: PeerName,
        session: Callable[[], asyncssh.SSHTCPSession[bytes]],
        origin: tuple[str, int],
        window_bytes: int,
    ) -> asyncssh.SSHTCPChannel[bytes]:
        """Open a stream into an instance; see :meth:`TunnelRegistry.open`.

        Where it has as many as it may, strangers give way to each other at its auth helper: a
        visitor waits for a moment, as long as not too many do.
        """
        port, loop = INSTANCE_HTTP_PORT, asyncio.get_running_loop()
        deadline = loop.time() + _BUSY_WAIT_S
        while True:
            try:
                return await self.board.open(instance, port, session, origin, window_bytes)
            except TunnelBusy:
                if loop.time() >= deadline or self._waiting[instance.id] >= _MAX_BUSY_WAITING:
                    raise
            self._waiting[instance.id] += 1
            try:
                await asyncio.sleep(_BUSY_RETRY_S)
            finally:
                self._waiting[instance.id] -= 1
                if not self._waiting[instance.id]:
                    del self._waiting[instance.id]

    async def absent(self, instance: PeerName, address: str) -> ErrorPage:
        """The page for an instance that is not connected here; ``address`` wants to know."""
        try:
            known = await self._states.of(instance.id, address)
        except PageStateClockOff:
            return error_pages.clock_off_page()
        except PageStatePortalSilent:
            return error_pages.portal_silent_page()
        page = error_pages.STATES.get(known.state, error_pages.STATES["unknown"])
        return page(known.title, self._portal_url, instance.id)

    def render(self, page: ErrorPage, head: RequestHead | None) -> bytes:
        """The bytes of a page, in the form that the request prefers."""
        if head is None:
            return self._renderer.render(page)
        accept = b",".join(head.get_all(b"accept")).decode("latin-1")
        return self._renderer.render(
            page, as_json=error_pages.client_prefers_json(accept), head_only=head.method == "HEAD"
        )

    async def close(self) -> None:
        """Cut every visitor's connection."""
        for transport in list(self._transports):
            reset(transport)
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._states.close()


class ClientConnection(FirstRequest):
    """A visitor's connection until it is spliced or answered."""

    def __init__(self, door: HttpFrontend, place: ConnectionSlot) -> None:
        super().__init__(place, door.limits.head_s)
        self._door = door
        self._lost = False
        self._stream: Stream | None = None
        self._is_large = False  # its head, too large to be read whole

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop when a connection was accepted."""
        self._door.enter(cast(asyncio.Transport, transport))
        super().connection_made(transport)

    def eof_received(self) -> bool:
        """The visitor has nothing more to send; it is kept only while its stream is opening."""
        return not self._reading and self._to_drain < 0 and not is_tls_transport(self._transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop when the visitor has gone."""
        self._lost = True
        super().connection_lost(exc)

    def _gone(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            self._door.give_stream_back(stream)
        super()._gone()
        self._door.leave(self._transport)

    # ---- opening

    def _requested(self, head: RequestHead) -> None:
        place = self._place
        origin = self._door.origin(head, place)
        place.busy(True)
        if not place.within:
            self._turn_away(head)
            return
        if origin.plain_http and self._door.config.secure:
            elsewhere = https_location(self._door.canonical, head)
            if elsewhere is not None:
                self._answer(redirect_answer(308, elsewhere))
                return
        instance = self._door.instance_of(head)
        if isinstance(instance, ErrorPage):
            self._show(instance, head)
            return
        self._stream = self._door.take_stream(instance, place)
        if self._stream is None:
            most = self._door.limits.channels_per_visitor
            who = place.address[0]
            _log.warning("turned away a visitor of %s from %s: %d streams", instance, who, most)
            self._show(error_pages.crowded_page(most), head)
            return
        self._transport.pause_reading()
        self._door.start(self._open(instance, head, origin), f"visit to {instance}")

    async def _open(self, instance: PeerName, head: RequestHead, origin: RequestOrigin) -> None:
        """Open a stream to ``instance`` and hand the socket over, or answer with a page."""
        door = self._door
        lease = door.windows.lease()

        def channel_gone(moved: int) -> None:
            lease()
            door.metrics.to_visitors(moved)

        passing: HostPinnedStream | LargeHeadStream | None = None
        if origin.by_proxy:
            passing = LargeHeadStream() if self._is_large else HostPinnedStream(head.host)
        end = (
            ChannelEnd(self._transport, channel_gone)
            if passing is None
            else ProxiedChannelEnd(self._transport, channel_gone, passing)
        )
        try:
            channel = await door.open(instance, lambda: end, self._place.address, lease.size_bytes)
        except DitError as error:
            lease()
            if isinstance(error, TunnelBusy):
                _log.warning("a visitor of %s was turned away: %s", instance, error)
                page = error_pages.busy_page()
            else:
                page = await door.absent(instance, self._place.address[0])
            self._show(page, head)
            return
        if self._lost:
            channel.abort()
            return
        first = len(self._buffer) if passing is None else 0  # its own end counts all

        def socket_gone(moved: int) -> None:
            self._gone()
            door.metrics.from_visitors(first + moved)

        data = bytes(self._buffer)
        self._buffer.clear()
        common = (self._transport, channel, door.limits.stalled_s, socket_gone)
        room_bytes = min(lease.size_bytes // 2, HIGH_WATER_BYTES)
        if passing is None:
            try:
                channel.write(data)
            except OSError:  # it was closed in the moment between, and with it this connection
                self._gone()
                reset(self._transport)
                return
            self._transport.set_protocol(StreamEnd(*common, room_bytes=room_bytes))
        else:
            proxied = ProxiedStreamEnd(*common, passing, room_bytes=room_bytes)
            self._transport.set_protocol(proxied)
            proxied.data_received(data)
        if not self._transport.is_closing():
            self._transport.resume_reading()

    # ---- answering

    def _refused(self, error: BadRequest) -> None:
        if error.status == 431 and not self._is_large:
            head = large_head_without_cookies(self._buffer)
            if head is not None:
                # The instance says what is the matter, and has the way out.
                self._is_large = True
                self._reading = False
                self._timer.cancel()
                self._requested(head)
                return
        self._show(error_pages.bad_request_page(error.status, str(error)))

    def _late(self) -> None:
        self._show(error_pages.head_late_page(self._door.limits.head_s))

    def _crowded(self) -> None:
        self._turn_away()

    def _turn_away(self, head: RequestHead | None = None) -> None:
        _log.warning("turned away a visitor from %s: too many", self._place.address[0])
        self._show(error_pages.busy_page(), head)

    def _show(self, page: ErrorPage, head: RequestHead | None = None) -> None:
        """Send a page as the last answer."""
        self._door.metrics.pages.labels(page.status).inc()
        self._answer(self._door.render(page, head))
