"""The login page, logging in by a one-time link, and logging out.

Opening the link spends nothing, so that a preview can't; a button does. The page is served with
``Referrer-Policy: no-referrer``, which makes a browser send ``Origin: null`` with the button's
POST: a value that only this page's visitor has, in a cookie and in the form, stands in for it.
"""

import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.accounts.user_agents import describe_user_agent
from dit4c_p2p.portal.audit import set_request_identity
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import AccountClosed, Forbidden, Misdirected
from dit4c_p2p.portal.http import cookies
from dit4c_p2p.portal.http.request_body import read_form
from dit4c_p2p.portal.opaque_tokens import new_token
from dit4c_p2p.portal.pages.forms import checked_form, go_to
from dit4c_p2p.portal.pages.institution import icon_url, show_institution_page

_VISIT = "login"
_AFTER = "after"
_AFTER_S = 3600
_VISIT_S = 3600
# Pages with a link that are open at the same time; each has a cookie of its own.
_MAX_VISITS = 12
_TOKEN = re.compile(r"[A-Za-z0-9_-]{20,100}", re.ASCII)
_MAX_AFTER_CHARS = 3000
# The only places, besides the dashboard, that logging in may lead to.
_AFTER_PATHS = ("/oauth/authorize", "/device")


def login_page_routes() -> list[web.RouteDef]:
    """Return the routes of login and logout."""
    return [
        web.get("/login/{token}", offer),
        web.post("/login/{token}", log_in),
        web.post("/logout", log_out),
    ]


async def current(request: web.Request, *, use: bool = True) -> LoggedIn | None:
    """The session of the request's cookie; see :meth:`Sessions.find`.

    :raises Misdirected: the page was asked for under another name than the canonical one, for
        which no cookie can be.
    :raises AccountClosed: the person may not come in any more.
    """
    canonical(request)
    token = cookies.read_cookie(request)
    session = await services(request).sessions.find(token, use=use) if token else None
    if session is not None:
        set_request_identity(session.who.id, session=session.digest)
    return session


async def still_in(request: web.Request) -> bool:
    """Whether a page that is open may go on; looking keeps no session alive."""
    try:
        return await current(request, use=False) is not None
    except AccountClosed:
        return False


def canonical(request: web.Request) -> None:
    """Pages exist under the canonical URL only.

    :raises Misdirected: asked for under an address that is for peers.
    """
    config = services(request).config
    if request.headers.get("Host", "").lower() != config.host:
        raise Misdirected("this page has another address", hint=f"it is at {config.url}/")


def login_needed(request: web.Request, *, after_login: str = "") -> web.Response:
    """The login page; where the visitor was going is kept in a cookie."""
    response = aiohttp_jinja2.render_template(
        "login_needed.html", request, login_ways(request), status=401
    )
    response.headers["WWW-Authenticate"] = 'Link realm="dit4c"'
    if after_login and len(after_login) <= _MAX_AFTER_CHARS:
        cookies.write_cookie(request, response, after_login, purpose=_AFTER, max_age_s=_AFTER_S)
    return response


def login_ways(request: web.Request) -> dict[str, Any]:
    """The ways to log in and the institution's words, for the templates."""
    parts = services(request)
    login, static = parts.config.login, parts.static
    return {
        "passkeys": parts.passkeys.offered,
        "providers": [
            {"id": one.id, "name": one.name, "icon": icon_url(login, static, one.id)}
            for one in parts.provider_logins.offered
        ],
        "institution": show_institution_page(login, static),
    }


def describe_browser(request: web.Request) -> str:
    """What a person knows the request's browser by; empty for what is none."""
    return describe_user_agent(request.headers.get("User-Agent", ""))


async def earlier_session(request: web.Request) -> LoggedIn | None:
    """The session that a login in this browser takes the place of."""
    try:
        return await current(request)
    except AccountClosed:
        # Somebody else's, who may not come in any more; it is no reason to keep this person out.
        return None


def after_login(request: web.Request) -> str:
    """Where the visitor was going; empty for the dashboard."""
    return _local_for_login_page(cookies.read_cookie(request, _AFTER))


async def enter(
    request: web.Request, response: web.StreamResponse, token: str, earlier: LoggedIn | None
) -> None:
    """Give the browser the token of its new session, and end the earlier one."""
    sessions = services(request).sessions
    if earlier is not None:
        await sessions.log_out(earlier)
    cookies.write_cookie(request, response, token, max_age_s=sessions.lifetime_s)
    for name in _visits_for_login_page(request):
        _forget_for_login_page(response, name)
    cookies.remove_cookie(request, response, _AFTER)


def where_to(request: web.Request) -> web.Response:
    """Lead a visitor who has just logged in to where they were going."""
    after = after_login(request)
    if not after:
        return go_to("/")
    # A redirect would carry the form's Content-Security-Policy along to the instance's host.
    return aiohttp_jinja2.render_template("logged_in.html", request, {"after": after})


@dataclass(frozen=True)
class Visit:
    """A page with a link in its URL, as one browser sees it; ``token`` goes into its form."""

    token: str

    def keep(self, request: web.Request, response: web.StreamResponse) -> None:
        """Give the browser what :func:`checked_visit` looks for."""
        cookies.write_cookie(
            request,
            response,
            self.token,
            purpose=_visit_purpose_for_login_page(self.token),
            max_age_s=_VISIT_S,
            same_site="Strict",
        )
        for name in _visits_for_login_page(request)[: -_MAX_VISITS or None]:
            _forget_for_login_page(response, name)


def _visit_purpose_for_login_page(token: str) -> str:
    """The purpose of a visit's cookie: tabs opened together don't overwrite each other's."""
    return f"{_VISIT}-{token[:11]}"


def _visits_for_login_page(request: web.Request) -> list[str]:
    """The names of the cookies of visits in this browser."""
    prefix = f"{cookies.PREFIX}-{_VISIT}-"
    return [name for name in request.cookies if name.startswith(prefix)]


def _forget_for_login_page(response: web.StreamResponse, name: str) -> None:
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Strict")


def new_visit() -> Visit:
    """A visit that begins now."""
    return Visit(new_token())


async def checked_visit(request: web.Request) -> Mapping[str, str]:
    """The form of a page with a link in its URL. Programs, which send no ``Origin``, need no visit.

    :raises Forbidden: it was sent from elsewhere.
    """
    form = await read_form(request) if request.can_read_body else {}
    origin = request.headers.get("Origin")
    if origin == "null":
        sent = form.get("visit", "")
        visit = (
            cookies.read_cookie(request, _visit_purpose_for_login_page(sent))
            if _TOKEN.fullmatch(sent)
            else ""
        )
        if not visit or not hmac.compare_digest(visit.encode(), sent.encode()):
            raise Forbidden("the button was not on this page", hint="open the link again")
    elif origin not in (None, services(request).config.url):
        raise Forbidden("the request comes from another site", hint="open the link itself")
    return form


async def offer(request: web.Request) -> web.Response:
    """Whom the link logs in, and the button."""
    canonical(request)
    now = services(request).clock()
    person = await people.person_of_login_link(request.match_info["token"], now=now)
    if person is None:
        return private(_spent_for_login_page(request))
    visit = new_visit()
    response = aiohttp_jinja2.render_template(
        "login.html", request, {"person": person, "visit": visit.token, **login_ways(request)}
    )
    visit.keep(request, response)
    return private(response)


async def log_in(request: web.Request) -> web.Response:
    """Log in by the link, which is spent."""
    canonical(request)
    await checked_visit(request)
    earlier = await earlier_session(request)
    token = await services(request).sessions.log_in(
        request.match_info["token"], browser=describe_browser(request)
    )
    if token is None:
        return private(_spent_for_login_page(request))
    response = where_to(request)
    await enter(request, response, token, earlier)
    return private(response)


async def log_out(request: web.Request) -> web.Response:
    """End this session, or with ``everywhere`` all of the person's."""
    session = await current(request)
    if session is None:
        return go_to("/")
    form = await checked_form(request, session)
    await services(request).sessions.log_out(session, everywhere=form.get("everywhere") == "1")
    response = go_to("/")
    cookies.remove_cookie(request, response)
    return response


def _spent_for_login_page(request: web.Request) -> web.Response:
    return aiohttp_jinja2.render_template(
        "login_spent.html", request, login_ways(request), status=410
    )


def private(response: web.Response) -> web.Response:
    """Keep the URL, which contains the link, from caches and other sites."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def _local_for_login_page(target: str) -> str:
    """The target if it is one of the paths that are allowed, else nothing: no open redirect."""
    parts = urlsplit(target)
    allowed = not parts.scheme and not parts.netloc and parts.path in _AFTER_PATHS
    return target if allowed and target.startswith(f"{parts.path}?") else ""
