"""One request and its response between browser and app, bodies passed on as they come."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.auth.headers import FromApp
from dit4c_p2p.helpers.auth.request_checks import is_navigation_request
from dit4c_p2p.helpers.auth.stream import BufferedStream, Data
from dit4c_p2p.helpers.auth.upstream import AppUpstream
from dit4c_p2p.net.http1 import (
    BadMessage,
    BadRequest,
    BadResponse,
    BodyKind,
    Framer,
    RequestHead,
    ResponseHead,
    framer_of,
)

# Without a byte in either direction; computations are long. A setting of the pod.
SILENCE_LIMIT_S = 3600.0
RESPONSE_HEAD_LIMIT_S = 60.0
# A WebSocket of which one end has closed.
CLOSING_LIMIT_S = 10.0
# Interim responses (1xx) to one request; one every 10 s for longer than any request lasts.
MAX_INTERIM = 1000

# With these, servers refuse a head that is too large for them (RFC 6585 section 5); aiohttp and
# gunicorn take 8 KiB a field, Node 16 KiB in all.
_REFUSES_HEADS = frozenset({400, 413, 431, 494})
_COMMON_LIMIT_BYTES = 7 * 1024

_LAST_CHUNK = b"0\r\n\r\n"
T = TypeVar("T")

# May be sent again when a kept connection turns out to be dead (RFC 9110 section 9.2.2).
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


class AppSlow(DitError):
    """The app accepted the request and said nothing for :data:`SILENCE_LIMIT_S`."""

    code = "app_slow"


class CutShort(DitError):
    """The response has begun and can't be finished; the browser's connection must be closed."""

    code = "cut_short"


class AppRefusesCookies(DitError):
    """The app does not take so many cookies with a page that a person opens."""

    code = "app_refuses_cookies"


class _StaleConnection(Exception):
    """A kept connection had been closed by the app before our request."""


async def proxy_exchange(
    client: BufferedStream,
    head: RequestHead,
    request: bytes,
    app: AppUpstream,
    from_app: FromApp,
    *,
    silence_s: float | None = None,
) -> bool:
    """Pass a request on and its response back; whether ``client`` may be used for another.

    :param request: the head as the app is to get it.
    :param silence_s: how long no byte may move in either direction; :data:`SILENCE_LIMIT_S`.
    :raises AppRefusesCookies: nothing has been answered; a page has to say so.
    :raises AppUnreachable, AppSlow, BadResponse: nothing has been answered; 502 to 504.
    :raises BadRequest: the body is malformed; nothing has been answered.
    :raises CutShort: too late for an answer.
    """
    limit_s = SILENCE_LIMIT_S if silence_s is None else silence_s
    bodiless = head.body.kind is not BodyKind.CHUNKED and head.body.length == 0
    if bodiless and head.method in _REPEATABLE and head.upgrade is None:
        kept = app.take()
        if kept is not None:
            with contextlib.suppress(_StaleConnection):
                attempt = _ExchangeAttempt(client, head, kept, app, from_app, limit_s, is_kept=True)
                return await attempt.run(request)
    upstream = await app.connect()
    attempt = _ExchangeAttempt(client, head, upstream, app, from_app, limit_s, is_kept=False)
    return await attempt.run(request)


class _ExchangeAttempt:
    """An exchange over one connection to the app."""

    def __init__(
        self,
        client: BufferedStream,
        head: RequestHead,
        upstream: BufferedStream,
        app: AppUpstream,
        from_app: FromApp,
        silence_s: float,
        *,
        is_kept: bool,
    ) -> None:
        self._silence_s = silence_s
        self._client = client
        self._head = head
        self._upstream = upstream
        self._app = app
        self._is_kept = is_kept
        self._from_app = from_app
        self._body = framer_of(head.body)
        self._body_error: BadMessage | None = None
        self._reusable = False
        self._whole = False  # the response was passed on to its end
        self._switched = False  # from HTTP to WebSocket

    async def run(self, request: bytes) -> bool:
        """See :func:`proxy_exchange`.

        :raises _Stale: a kept connection was dead; nothing has been answered.
        """
        sending: asyncio.Task[None] | None = None
        try:
            self._send(request)
            if not self._body.complete:
                sending = asyncio.create_task(self._send_body(), name="request body")
            response = await self._response_head()
            if response.status in _REFUSES_HEADS and self._has_large_cookies():
                raise AppRefusesCookies("the app does not take so many cookies")
            if response.status == 101:
                await self._splice(response)
                return False
            return await self._answer(response)
        finally:
            if self._reusable:
                self._app.give_back(self._upstream)
            elif self._whole or (self._body.complete and not self._switched):
                self._upstream.close()  # it has the whole request; nobody wants the answer
            else:
                self._upstream.reset()
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _send(self, request: bytes) -> None:
        """Send the head, with the part of the body that has arrived."""
        if not self._body.complete:
            data = self._client.read_now()
            taken = self._body.feed(data)
            self._client.unread(data[taken:])
            request += data[:taken]
        try:
            self._upstream.write(request)
        except ConnectionResetError:
            raise self._no_answer() from None

    async def _send_body(self) -> None:
        """The rest of the body. A malformed one ends the exchange; an app that doesn't want it
        may still have answered."""
        try:
            await self._pump(self._client, self._body, self._upstream)
        except BadMessage as error:
            self._body_error = error
            self._upstream.reset()
        except (ConnectionResetError, TimeoutError) as error:
            if not self._upstream.lost:
                self._body_error = BadRequest(f"the body did not come: {error}")
                self._upstream.reset()

    async def _response_head(self) -> ResponseHead:
        """The final head; interim ones are passed on (RFC 9110 section 15.2)."""
        interim, limit_s = 0, self._silence_s
        while True:
            try:
                data = await self._upstream.read_head(limit_s, RESPONSE_HEAD_LIMIT_S)
            except TimeoutError:
                # However long the request's body takes to move.
                limit_s = self._patience_s()
                if self._upstream.buffered or limit_s <= 0:
                    raise AppSlow("the app has not answered") from None
                continue
            except BadRequest as error:
                raise BadResponse(str(error)) from None
            except ConnectionResetError as error:
                raise self._body_error or BadResponse(str(error)) from None
            if data is None:
                raise self._no_answer()
            self._is_kept = False  # from here on it wasn't stale
            response = self._from_app.read(data, self._head.method)
            if response.status == 101 and self._head.upgrade is None:
                raise BadResponse("the app switched protocols unasked")
            if response.body.kind is BodyKind.CHUNKED and self._head.version == (1, 0):
                raise BadResponse("the app answered HTTP/1.0 with chunks")
            if not response.interim:
                return response
            interim += 1
            if interim > MAX_INTERIM:
                raise BadResponse(f"the app sent more than {MAX_INTERIM} interim responses")
            if self._head.version == (1, 1):
                self._client.write(self._from_app.head(response, close=False))
                if self._client.is_behind:
                    await self._patiently(self._client.drain)

    async def _answer(self, response: ResponseHead) -> bool:
        """Pass the response on; whether the browser's connection may go on.

        A body that ends with the app's connection is sent in chunks where the browser understands
        them (HTTP/1.1): without the last chunk it is seen to be incomplete.
        """
        body = framer_of(response.body, BadResponse)
        to_close = response.body.kind is BodyKind.UNTIL_CLOSE
        chunking = to_close and self._head.version == (1, 1)
        keep = (
            self._head.keep_alive
            and self._head.version == (1, 1)
            and (chunking or not to_close)
            and (self._body.complete or response.status < 300)
        )
        head = self._from_app.head(response, close=not keep, chunking=chunking)
        try:
            data = self._upstream.read_now()
            taken = body.feed(data)
            first = data[:taken]
            self._client.write(head + (_chunk_of_body(first) if chunking else first))
            self._upstream.unread(data[taken:])
            if self._client.is_behind:
                await self._patiently(self._client.drain)
            if not body.complete:
                await self._pump(self._upstream, body, self._client, chunking=chunking)
            if chunking:
                self._client.write(_LAST_CHUNK)
        except (BadResponse, ConnectionResetError, TimeoutError) as error:
            raise CutShort(str(error)) from None
        self._whole = True
        self._reusable = response.keep_alive and body.complete and self._body.complete
        return keep and self._body.complete

    async def _splice(self, response: ResponseHead) -> None:
        """After 101: bytes both ways until both ends have closed.

        :raises CutShort: one of them was cut, or did not close after the other.
        """
        self._switched = True
        self._client.on_gone = None  # a half-close is passed on
        try:
            self._client.write(self._from_app.head(response, close=False))
        except ConnectionResetError as error:
            raise CutShort(str(error)) from None
        ways = {
            asyncio.create_task(self._copy(self._client, self._upstream), name="to the app"),
            asyncio.create_task(self._copy(self._upstream, self._client), name="from the app"),
        }
        try:
            _, open_ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if open_ways:
                _, open_ways = await asyncio.wait(open_ways, timeout=CLOSING_LIMIT_S)
        finally:
            for way in ways:
                way.cancel()
            results = await asyncio.gather(*ways, return_exceptions=True)
        if not all(result is True for result in results):
            raise CutShort("a WebSocket was cut")
        self._whole = True

    async def _pump(
        self,
        source: BufferedStream,
        framer: Framer,
        sink: BufferedStream,
        *,
        chunking: bool = False,
    ) -> None:
        """Forward the rest of one body.

        :param chunking: frame it anew, in chunks; the last one is the caller's.
        :raises BadMessage: malformed.
        :raises ConnectionResetError: it ended too early, or nobody takes it.
        :raises TimeoutError: nothing moved in either direction for too long.
        """
        while not framer.complete:
            data = await self._patiently(source.read)
            if not data:
                # An orderly end is how such a body is told to end; a reset is not.
                if framer.ends_with_stream and not source.was_reset:
                    return
                raise ConnectionResetError("the body was cut short")
            taken = framer.feed(data)
            if taken < len(data):
                source.unread(data[taken:])
                data = data[:taken]
            sink.write(_chunk_of_body(data) if chunking else data)
            if sink.is_behind:
                await self._patiently(sink.drain)

    async def _copy(self, source: BufferedStream, sink: BufferedStream) -> bool:
        """Pass on everything, then the end; False if it was cut, which is passed on as well."""
        try:
            await source.pour_into(sink, self._silence_s)
            if source.was_reset:
                raise ConnectionResetError("the stream was cut")
        except (ConnectionResetError, TimeoutError):
            sink.reset()
            return False
        sink.write_eof()
        return True

    async def _patiently(self, wait: Callable[[float], Awaitable[T]]) -> T:
        """``await wait(limit_s)``, for as long as bytes move in either direction.

        :raises TimeoutError: none did for too long.
        """
        while True:
            try:
                return await wait(self._patience_s())
            except TimeoutError:
                if self._patience_s() <= 0:
                    raise

    def _patience_s(self) -> float:
        """How long from now on nothing may move."""
        moved_at = max(self._client.moved_at, self._upstream.moved_at)
        return moved_at + self._silence_s - asyncio.get_running_loop().time()

    def _has_large_cookies(self) -> bool:
        """A page is opened with more cookies than common servers take."""
        size = sum(map(len, self._head.get_all(b"cookie")))
        return size > _COMMON_LIMIT_BYTES and is_navigation_request(self._head)

    def _no_answer(self) -> Exception:
        """Return the error for an app that closed before it answered."""
        if self._is_kept:
            return _StaleConnection()
        return self._body_error or BadResponse("the app closed the connection without an answer")


def _chunk_of_body(data: Data) -> Data:
    """One chunk (RFC 9112 section 7.1); nothing for no data, which would be the last one."""
    return b"%x\r\n%b\r\n" % (len(data), bytes(data)) if data else b""
