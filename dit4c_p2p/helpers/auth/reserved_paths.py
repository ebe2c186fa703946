"""Requests that the auth helper answers itself: everything below ``/.dit4c/``, and the login."""

import logging
from functools import partial

from dit4c_p2p.helpers.auth import cookies, pages
from dit4c_p2p.helpers.auth.headers import Origin
from dit4c_p2p.helpers.auth.login import (
    LIFETIME_S,
    MAX_TRIES,
    InstanceLogin,
    LoginFailed,
    LoginLost,
    surplus_login_cookies,
)
from dit4c_p2p.helpers.auth.oauth import GrantRefused, PortalOAuth, PortalSilent
from dit4c_p2p.helpers.auth.pages import PageAnswer
from dit4c_p2p.helpers.auth.request_checks import (
    RequestRefused,
    check_cross_site,
    is_navigation_request,
    request_accepts_html,
)
from dit4c_p2p.helpers.auth.sessions import AppSessions
from dit4c_p2p.helpers.auth.upstream import AppUpstream
from dit4c_p2p.messages.pod import (
    ALIVE_PATH,
    CALLBACK_PATH,
    CLEAR_COOKIES_PATH,
    LOGOUT_PATH,
    OWN_PREFIX,
)
from dit4c_p2p.net.http1 import MAX_HEAD_BYTES, RequestHead
from dit4c_p2p.net.large_head import LargeHead
from dit4c_p2p.net.stranger_log import summed

logger = summed(logging.getLogger(__name__), logging.INFO)

_OWN_PREFIX = OWN_PREFIX.encode()
_TRY_AGAIN_S = 5
_ERRORS_THAT_PASS = frozenset({"temporarily_unavailable", "server_error"})


def is_reserved_path(head: RequestHead) -> bool:
    """Whether a request is for the helper itself."""
    return head.path.startswith(_OWN_PREFIX)


class ReservedPaths:
    """Answers of one instance; takes what it needs and holds nothing."""

    def __init__(
        self,
        origin: Origin,
        app: AppUpstream,
        sessions: AppSessions,
        login: InstanceLogin,
        oauth: PortalOAuth,
        portal_url: str,
    ) -> None:
        self._origin = origin
        self._app = app
        self._sessions = sessions
        self._login = login
        self._oauth = oauth
        self._portal_url = portal_url

    async def respond(self, head: RequestHead) -> PageAnswer:
        """The answer to a request below ``/.dit4c/``.

        :raises Refused: no such page, or a wrong method.
        """
        path, _, query = head.path.decode("ascii").partition("?")
        if path == ALIVE_PATH:
            _require_allowed_method(head, "GET", "HEAD")
            if await self._app.answers():
                return pages.plain_page(200, "alive")
            return pages.plain_page(503, "not yet")
        if path == CALLBACK_PATH:
            _require_allowed_method(head, "GET")
            return await self._callback(head, query)
        if path == CLEAR_COOKIES_PATH:
            _require_allowed_method(head, "GET", "HEAD", "POST")
            if head.method == "POST":
                return pages.cookies_deleted_page(self._origin.text.decode() + "/")
            return self.too_many_cookies(head, 200)
        if path == LOGOUT_PATH:
            _require_allowed_method(head, "POST")
            return self._logout(head)
        raise RequestRefused(404, "There is no such page")

    def too_large(self, head: LargeHead) -> PageAnswer:
        """The answer to a request whose head is too large: its line and its Host decide."""
        if head.host != self._origin.host:
            return pages.problem_page(421, "This address is not served here", as_html=False)
        if head.method == "POST" and head.path == CLEAR_COOKIES_PATH.encode():
            return pages.cookies_deleted_page(self._origin.text.decode() + "/")
        if head.cookie_bytes < MAX_HEAD_BYTES // 2:
            hint = f"{MAX_HEAD_BYTES // 1024} KiB can be passed on."
            as_html = head.accepts_html
            return pages.problem_page(
                431, "The request's head is too large", as_html=as_html, hint=hint
            )
        return pages.too_many_cookies_page(
            431, size_bytes=head.cookie_bytes, domain=self._domain, as_html=head.accepts_html
        )

    def too_many_cookies(self, head: RequestHead, status: int) -> PageAnswer:
        """The page that says so, where our own limit is not the one that was reached."""
        size_bytes = sum(map(len, head.get_all(b"cookie")))
        return pages.too_many_cookies_page(
            status, size_bytes=size_bytes, domain=self._domain, as_html=request_accepts_html(head)
        )

    @property
    def _domain(self) -> str:
        """Below which this instance and its siblings have their addresses."""
        return self._origin.host.decode().partition(":")[0].partition(".")[2]

    async def to_login(self, head: RequestHead) -> PageAnswer:
        """The answer to a request of nobody known: to the portal with pages, 401 for the rest."""
        if not is_navigation_request(head):
            return pages.problem_page(
                401,
                "Nobody is logged in here",
                as_html=request_accepts_html(head),
                hint="Open this address in a browser and log in first.",
            )
        if not await self._oauth.is_up():
            return self._try_again(head)
        return self._begin(head, b"/" if is_reserved_path(head) else head.path)

    def _begin(self, head: RequestHead, return_path: bytes, *, tries: int = 0) -> PageAnswer:
        """To the portal, with cookies of one more attempt."""
        begun = self._login.begin(return_path, tries=tries)
        gone = surplus_login_cookies(cookies.cookie_names(head.get_all(b"cookie")))
        return pages.redirect_page(
            begun.location.encode("ascii"),
            cookies.our_set_cookie(begun.cookie, begun.secret, LIFETIME_S),
            cookies.our_set_cookie(cookies.LOGIN_COOKIE, "1", LIFETIME_S),
            *(cookies.our_set_cookie(name, "", 0) for name in gone),
        )

    async def _callback(self, head: RequestHead, query: str) -> PageAnswer:
        sent = head.get_all(b"cookie")
        try:
            answered = self._login.finish(query, partial(cookies.find_cookie, sent))
            if answered.error in _ERRORS_THAT_PASS:
                return self._try_again(head)
            if answered.error:
                raise GrantRefused("The portal did not let you in")
            grant = await self._oauth.exchange(answered.code, answered.verifier)
        except PortalSilent as error:
            logger.warning("a login could not be finished: %s", error)
            return self._try_again(head)
        except LoginLost as error:
            return self._lost(head, error)
        except LoginFailed as error:
            return self._failed(head, 400, str(error), error.hint)
        except GrantRefused as error:
            logger.warning("a login was refused: %s", error)
            return self._failed(head, 403, str(error), error.hint)
        value, lifetime_s = self._sessions.start(
            grant.person, grant.access_token, grant.expires_in_s
        )
        # Absolute, so that no path can be read as another host.
        return pages.redirect_page(
            self._origin.text + answered.return_path,
            cookies.our_set_cookie(cookies.SESSION_COOKIE, value, lifetime_s),
            cookies.our_set_cookie(answered.cookie, "", 0),
        )

    def _lost(self, head: RequestHead, error: LoginLost) -> PageAnswer:
        """A login that began here can't be finished: go on if another tab's was, or begin again."""
        sent = head.get_all(b"cookie")
        if self._sessions.find(cookies.find_cookie(sent, cookies.SESSION_COOKIE)) is not None:
            return pages.redirect_page(self._origin.text + error.return_path)
        if error.tries < MAX_TRIES and cookies.find_cookie(sent, cookies.LOGIN_COOKIE) is not None:
            return self._begin(head, error.return_path, tries=error.tries)
        return self._failed(head, 400, str(error), error.hint)

    def _logout(self, head: RequestHead) -> PageAnswer:
        check_cross_site(head, self._origin)
        value = cookies.find_cookie(head.get_all(b"cookie"), cookies.SESSION_COOKIE)
        session = self._sessions.find(value)
        if session is not None:
            self._sessions.end_all_of(session.person, "logged out")
        gone = cookies.our_set_cookie(cookies.SESSION_COOKIE, "", 0)
        return pages.redirect_page(f"{self._portal_url}/".encode("ascii"), gone)

    def _try_again(self, head: RequestHead) -> PageAnswer:
        return pages.problem_page(
            503,
            "The portal does not answer right now",
            as_html=request_accepts_html(head),
            hint="Logging in needs it. Whoever is logged in already can go on; try again soon.",
            link=(self._origin.text.decode() + "/", "Try again"),
        )

    def _failed(self, head: RequestHead, status: int, message: str, hint: str) -> PageAnswer:
        return pages.problem_page(
            status,
            message,
            as_html=request_accepts_html(head),
            hint=hint,
            link=(self._origin.text.decode() + "/", "Log in again"),
        )


def _require_allowed_method(head: RequestHead, *methods: str) -> None:
    if head.method not in methods:
        allow = ", ".join(methods)
        raise RequestRefused(405, f"Only {allow} can be asked for here", allow=allow)
