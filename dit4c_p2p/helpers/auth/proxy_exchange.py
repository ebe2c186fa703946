"""One request and its response between browser and app, bodies passed on as they come."""

import asyncio
import contextlib

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.auth.headers import FromApp
from dit4c_p2p.helpers.auth.stream import BufferedStream
from dit4c_p2p.helpers.auth.upstream import Upstream
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

# Without a byte either way; computations are long, so this is ten times nginx's minute.
SILENCE_LIMIT_S = 600.0
RESPONSE_HEAD_LIMIT_S = 60.0
# A WebSocket of which one end has closed.
CLOSING_LIMIT_S = 10.0

# May be sent again when a kept connection turns out to be dead (RFC 9110 section 9.2.2).
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS"})


class AppSlow(DitError):
    """The app accepted the request and said nothing for :data:`SILENCE_LIMIT_S`."""

    code = "app_slow"


class CutShort(DitError):
    """The response had begun and can't be finished; the browser's connection must be closed."""

    code = "cut_short"


class _Stale(Exception):
    """A kept connection had been closed by the app before our request."""


async def exchange(
    client: BufferedStream, head: RequestHead, request: bytes, app: Upstream, from_app: FromApp
) -> bool:
    """Pass a request on and its response back; whether ``client`` may be used for another.

    :param request: the head as the app is to get it.
    :raises AppUnreachable, AppSlow, BadResponse: nothing has been answered; 502 to 504.
    :raises BadRequest: the body is malformed; nothing has been answered.
    :raises CutShort: too late for an answer.
    """
    bodiless = head.body.kind is not BodyKind.CHUNKED and head.body.length == 0
    if bodiless and head.method in _REPEATABLE and head.upgrade is None:
        kept = app.take()
        if kept is not None:
            with contextlib.suppress(_Stale):
                attempt = _Attempt(client, head, kept, app, from_app, is_kept=True)
                return await attempt.run(request)
    upstream = await app.connect()
    attempt = _Attempt(client, head, upstream, app, from_app, is_kept=False)
    return await attempt.run(request)


class _Attempt:
    """An exchange over one connection to the app."""

    def __init__(
        self,
        client: BufferedStream,
        head: RequestHead,
        upstream: BufferedStream,
        app: Upstream,
        from_app: FromApp,
        *,
        is_kept: bool,
    ) -> None:
        self._client = client
        self._head = head
        self._upstream = upstream
        self._app = app
        self._is_kept = is_kept
        self._from_app = from_app
        self._body = framer_of(head.body)
        self._body_error: BadMessage | None = None
        self._reusable = False

    async def run(self, request: bytes) -> bool:
        """See :func:`exchange`.

        :raises _Stale: a kept connection was dead; nothing has been answered.
        """
        sending: asyncio.Task[None] | None = None
        try:
            self._send(request)
            if not self._body.complete:
                sending = asyncio.create_task(self._send_body(), name="request body")
            response = await self._response_head()
            if response.status == 101:
                await self._splice(response)
                return False
            return await self._answer(response)
        finally:
            if self._reusable:
                self._app.give_back(self._upstream)
            else:
                self._upstream.abort()
            if sending is not None:
                sending.cancel()
                await asyncio.gather(sending, return_exceptions=True)

    def _send(self, request: bytes) -> None:
        """The head, with what has come of the body already."""
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
            await _pump(self._client, self._body, self._upstream)
        except BadMessage as error:
            self._body_error = error
            self._upstream.abort()
        except (ConnectionResetError, TimeoutError) as error:
            if not self._upstream.lost:
                self._body_error = BadRequest(f"the body did not come: {error}")
                self._upstream.abort()

    async def _response_head(self) -> ResponseHead:
        """The final head; interim ones are passed on (RFC 9110 section 15.2)."""
        while True:
            try:
                data = await self._upstream.read_head(SILENCE_LIMIT_S, RESPONSE_HEAD_LIMIT_S)
            except TimeoutError:
                raise AppSlow("the app has not answered") from None
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
            if self._head.version == (1, 1):
                self._client.write(self._from_app.head(response, close=False))

    async def _answer(self, response: ResponseHead) -> bool:
        """Pass the response on; whether the browser's connection may go on."""
        body = framer_of(response.body, BadResponse)
        keep = (
            self._head.keep_alive
            and self._head.version == (1, 1)
            and response.body.kind is not BodyKind.UNTIL_CLOSE
            and (self._body.complete or response.status < 300)
        )
        head = self._from_app.head(response, close=not keep)
        try:
            data = self._upstream.read_now()
            taken = body.feed(data)
            self._client.write(head + data[:taken])
            self._upstream.unread(data[taken:])
            if self._client.is_behind:
                await self._client.drain(SILENCE_LIMIT_S)
            if not body.complete:
                await _pump(self._upstream, body, self._client)
        except (BadResponse, ConnectionResetError, TimeoutError) as error:
            raise CutShort(str(error)) from None
        self._reusable = response.keep_alive and body.complete and self._body.complete
        return keep and self._body.complete

    async def _splice(self, response: ResponseHead) -> None:
        """After 101: bytes both ways until both ends have closed."""
        self._client.on_gone = None  # a half-close is passed on
        try:
            self._client.write(self._from_app.head(response, close=False))
        except ConnectionResetError as error:
            raise CutShort(str(error)) from None
        ways = {
            asyncio.create_task(_copy(self._client, self._upstream), name="to the app"),
            asyncio.create_task(_copy(self._upstream, self._client), name="from the app"),
        }
        try:
            _, open_ways = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            if open_ways:
                await asyncio.wait(open_ways, timeout=CLOSING_LIMIT_S)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    def _no_answer(self) -> Exception:
        """The app closed before it said anything."""
        if self._is_kept:
            return _Stale()
        return self._body_error or BadResponse("the app closed the connection without an answer")


async def _pump(source: BufferedStream, framer: Framer, sink: BufferedStream) -> None:
    """Pass on the rest of one body.

    :raises BadMessage: malformed.
    :raises ConnectionResetError: it ended too early, or nobody takes it.
    :raises TimeoutError: nothing moved for :data:`SILENCE_LIMIT_S`.
    """
    while not framer.complete:
        data = await source.read(SILENCE_LIMIT_S)
        if not data:
            # An orderly end is how such a body is told to end; a reset is not.
            if framer.ends_with_stream and not source.was_reset:
                return
            raise ConnectionResetError("the body was cut short")
        taken = framer.feed(data)
        if taken < len(data):
            source.unread(data[taken:])
            data = data[:taken]
        sink.write(data)
        if sink.is_behind:
            await sink.drain(SILENCE_LIMIT_S)


async def _copy(source: BufferedStream, sink: BufferedStream) -> None:
    """Pass on everything, then the end."""
    try:
        await source.pour_into(sink, SILENCE_LIMIT_S)
    except (ConnectionResetError, TimeoutError):
        sink.abort()
    else:
        sink.write_eof()
