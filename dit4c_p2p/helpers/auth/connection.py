"""A connection of the listener: its requests are handled in order, each checked by itself.

Only what a session was found for keeps a connection alive: a tunnel has 256 of them, and strangers
must not sit on those.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.auth import cookies, pages
from dit4c_p2p.helpers.auth.headers import FromApp, Origin, ToApp
from dit4c_p2p.helpers.auth.proxy_exchange import (
    AppRefusesCookies,
    AppSlow,
    CutShort,
    proxy_exchange,
)
from dit4c_p2p.helpers.auth.request_checks import (
    RequestRefused,
    check_cross_site,
    check_request_head,
    request_accepts_html,
)
from dit4c_p2p.helpers.auth.reserved_paths import ReservedPaths, is_reserved_path
from dit4c_p2p.helpers.auth.sessions import AppSession, AppSessions
from dit4c_p2p.helpers.auth.stream import BufferedStream
from dit4c_p2p.helpers.auth.upstream import AppUnreachable, AppUpstream
from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.http1 import BadMessage, BadRequest, BodyKind, Headers, RequestHead, parse_head
from dit4c_p2p.net.large_head import LargeHead
from dit4c_p2p.net.proxy_protocol import BadProxyHeader
from dit4c_p2p.net.stranger_log import summed

logger = summed(logging.getLogger(__name__), logging.INFO)

# Security figure: headers that trickle in are cut after 10 s.
HEAD_LIMIT_S = 10.0
# nginx's keepalive_timeout.
IDLE_LIMIT_S = 75.0
LINGER_LIMIT_S = 2.0
# An app that is starting is worth looking at again after this.
_RETRY_AFTER_S = 2


@dataclass(frozen=True)
class InstanceContext:
    """State shared by all connections of this instance."""

    origin: Origin
    app: AppUpstream
    sessions: AppSessions
    own: ReservedPaths
    silence_s: float | None = None


class AuthConnection:
    """Serves one wire; :meth:`cut` ends it from outside.

    :param on_known: called with it when a session was found for what it asks.
    """

    def __init__(
        self,
        house: InstanceContext,
        wire: BufferedStream,
        on_known: Callable[["AuthConnection"], None] = lambda connection: None,
    ) -> None:
        self._house = house
        self._on_known = on_known
        self._wire = wire
        self._to_app: ToApp
        self._from_app = FromApp(secure=house.origin.secure)
        self._let_in: tuple[Headers, str, AppSession] | None = None
        self._last: RequestHead | None = None
        self._task: asyncio.Task[None] | None = None
        self._is_cut = False

    def start(self) -> asyncio.Task[None]:
        """Start the task that serves the connection until its end."""
        self._task = asyncio.create_task(self._run(), name="connection")
        return self._task

    def cut(self) -> None:
        """End the connection at once, with the app's connection behind it."""
        if not self._is_cut:  # a second cancellation would break into the first one's cleaning up
            self._is_cut = True
            self._wire.abort()
            if self._task is not None:
                self._task.cancel()

    async def _run(self) -> None:
        try:
            if await self._read_proxy_header():
                await self._serve()
        except (ConnectionResetError, TimeoutError):
            self._wire.abort()
        finally:
            self._wire.on_gone = None
            if not self._wire.lost and not self._wire.transport.is_closing():
                self._wire.abort()

    async def _read_proxy_header(self) -> bool:
        """Read the client's address; return False if the stream ends or has no PROXY header."""
        fixed = await self._wire.read_exactly(proxy_protocol.FIXED_BYTES, HEAD_LIMIT_S)
        if fixed is None:
            return False
        try:
            rest = proxy_protocol.proxy_header_length(fixed) - len(fixed)
            data = await self._wire.read_exactly(rest, HEAD_LIMIT_S)
            if data is None:
                return False
            self._to_app = ToApp(
                self._house.origin, proxy_protocol.decode_proxy_header(fixed + data)
            )
        except BadProxyHeader as error:
            logger.warning("refused a connection: %s", error)
            return False
        return True

    async def _serve(self) -> None:
        """Handle requests until one of them is the last."""
        idle_s = HEAD_LIMIT_S
        while True:
            try:
                data = await self._wire.read_head(idle_s, HEAD_LIMIT_S)
                if data is None:
                    break
                head = self._last = parse_head(data, self._last)
            except BadRequest as error:
                if error.status == 431 and self._wire.buffered:
                    await self._answer_large_head()
                else:
                    await self._refuse_unread(error.status, str(error))
                return
            except TimeoutError:
                if self._wire.buffered:
                    await self._refuse_unread(408, "The request did not come in time")
                    return
                break
            if self._wire.at_end:
                return  # gone; see Wire
            self._wire.on_gone = self.cut
            try:
                keep = await self._handle(head)
            except CutShort as error:
                logger.info("a response was cut short: %s", error)
                await self._wire.break_off(LINGER_LIMIT_S)
                return
            self._wire.on_gone = None
            if not keep:
                break
            idle_s = IDLE_LIMIT_S
        await self._wire.linger(IDLE_LIMIT_S, LINGER_LIMIT_S)

    async def _handle(self, head: RequestHead) -> bool:
        """Answer one request; return whether another may follow."""
        try:
            return await self._pass(head)
        except RequestRefused as error:
            answer = pages.problem_page(
                error.status, str(error), as_html=request_accepts_html(head), hint=error.hint
            )
            if error.allow:
                answer.headers.append((b"Allow", error.allow.encode()))
            return await self._reply(head, answer, close=True)
        except BadRequest as error:
            answer = pages.problem_page(error.status, str(error), as_html=False)
            return await self._reply(head, answer, close=True)
        except AppRefusesCookies:
            return await self._reply(head, self._house.own.too_many_cookies(head, 431), close=False)
        except (AppUnreachable, AppSlow, BadMessage) as error:
            return await self._reply(head, _about_the_app(head, error), close=False)

    async def _pass(self, head: RequestHead) -> bool:
        house = self._house
        session = self._known(head)
        if session is None:
            check_request_head(head, house.origin)
            if is_reserved_path(head):
                return await self._reply(head, await house.own.respond(head), close=True)
            session = await self._session(head)
            if session is None:
                return await self._reply(head, await house.own.to_login(head), close=True)
            check_cross_site(head, house.origin)
            self._let_in = (head.headers, head.method, session)
            self._on_known(self)
        request = self._to_app.head(head, session.person)
        session.open.add(self)
        try:
            return await proxy_exchange(
                self._wire, head, request, house.app, self._from_app, silence_s=house.silence_s
            )
        finally:
            session.open.discard(self)

    def _known(self, head: RequestHead) -> AppSession | None:
        """The session of a request that differs in its target alone from the one let in before.

        All other checks depend on method and fields only, and what repeats itself has the same
        headers object (parse_head).
        """
        last = self._let_in
        if (
            last is None
            or last[0] is not head.headers
            or last[1] != head.method
            or is_reserved_path(head)
            or not self._house.sessions.use(last[2])
        ):
            return None
        return last[2]

    async def _session(self, head: RequestHead) -> AppSession | None:
        sessions = self._house.sessions
        value = cookies.find_cookie(head.get_all(b"cookie"), cookies.SESSION_COOKIE)
        session = sessions.find(value)
        if session is None or sessions.is_fresh(session) or await sessions.confirm(session):
            return session
        if session.ended:
            return None
        raise RequestRefused(
            503,
            "It is not certain that you are still logged in",
            hint="You or an admin have ended a login, and the portal does not answer. Try again.",
        )

    async def _reply(self, head: RequestHead, answer: pages.PageAnswer, *, close: bool) -> bool:
        """Send the helper's own answer; an unread request body ends the connection."""
        unread = head.body.kind is BodyKind.CHUNKED or head.body.length > 0
        close = close or unread or not head.keep_alive or head.version == (1, 0)
        data = pages.render_page(
            answer,
            close=close,
            without_body=head.method == "HEAD",
            secure=self._house.origin.secure,
        )
        self._wire.write(data)
        await self._wire.drain(HEAD_LIMIT_S)
        return not close

    async def _answer_large_head(self) -> None:
        """Read a head that is too large to its end, throw it away, and answer."""
        head, loop = LargeHead(), asyncio.get_running_loop()
        deadline = loop.time() + HEAD_LIMIT_S
        try:
            while not head.complete:
                data = await self._wire.read(deadline - loop.time())
                if not data:
                    return
                self._wire.unread(data[head.feed(data) :])
        except BadRequest as error:
            await self._refuse_unread(error.status, str(error))
            return
        except TimeoutError:
            await self._refuse_unread(408, "The request did not come in time")
            return
        answer = self._house.own.too_large(head)
        secure = self._house.origin.secure
        self._wire.write(pages.render_page(answer, close=True, without_body=False, secure=secure))
        await self._wire.linger(HEAD_LIMIT_S, LINGER_LIMIT_S)

    async def _refuse_unread(self, status: int, message: str) -> None:
        """Answer a malformed request, and close."""
        answer = pages.problem_page(status, message, as_html=False)
        self._wire.write(
            pages.render_page(
                answer, close=True, without_body=False, secure=self._house.origin.secure
            )
        )
        await self._wire.linger(HEAD_LIMIT_S, LINGER_LIMIT_S)


def _about_the_app(head: RequestHead, error: DitError) -> pages.PageAnswer:
    """Whose fault it is, and whether waiting helps."""
    as_html = request_accepts_html(head)
    match error:
        case AppUnreachable(was_ready=False):
            return pages.problem_page(
                503,
                "The application is still starting",
                as_html=as_html,
                hint="This page looks again by itself.",
                retry_after_s=_RETRY_AFTER_S,
            )
        case AppUnreachable():
            return pages.problem_page(
                502,
                "The application does not answer any more",
                as_html=as_html,
                hint="It may have ended, or be starting again. Its log is on the portal.",
                retry_after_s=_RETRY_AFTER_S,
            )
        case AppSlow():
            return pages.problem_page(
                504, "The application took too long to answer", as_html=as_html
            )
        case _:
            logger.warning("the app's answer was not passed on: %s", error)
            return pages.problem_page(
                502,
                "The application's answer could not be understood",
                as_html=as_html,
                hint=f"It broke the rules of HTTP: {error}.",
            )
