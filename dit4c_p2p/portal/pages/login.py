"""The login page, logging in by a one-time link, and logging out.

Opening the link spends nothing, so that a preview can't; a button does. The page is served with
``Referrer-Policy: no-referrer``, which makes a browser send ``Origin: null`` with the button's
POST: a value that only this page's visitor has, in a cookie and in the form, stands in for it.
"""

import hmac
from urllib.parse import urlsplit

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.accounts.user_agents import describe
from dit4c_p2p.portal.audit import set_request_identity
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import AccountClosed, Forbidden, Misdirected
from dit4c_p2p.portal.http import cookies
from dit4c_p2p.portal.http.request_body import read_form
from dit4c_p2p.portal.opaque_tokens import new_token
from dit4c_p2p.portal.pages.forms import checked_form, go_to

_VISIT = "login"
_AFTER = "after"
_AFTER_S = 3600
_VISIT_S = 3600
_MAX_AFTER_CHARS = 3000
# The only place, besides the dashboard, that logging in may lead to.
_AFTER_PATH = "/oauth/authorize"


def routes() -> list[web.RouteDef]:
    """In and out."""
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
    token = cookies.read(request)
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
        "login_needed.html", request, {"passkeys": services(request).passkeys.offered}, status=401
    )
    response.headers["WWW-Authenticate"] = 'Link realm="dit4c"'
    if after_login and len(after_login) <= _MAX_AFTER_CHARS:
        cookies.write(request, response, after_login, purpose=_AFTER, max_age_s=_AFTER_S)
    return response


def describe_browser(request: web.Request) -> str:
    """What a person knows the request's browser by; empty for what is none."""
    return describe(request.headers.get("User-Agent", ""))


async def earlier_session(request: web.Request) -> LoggedIn | None:
    """The session that a login in this browser takes the place of."""
    try:
        return await current(request)
    except AccountClosed:
        # Somebody else's, who may not come in any more; it is no reason to keep this person out.
        return None


def after_login(request: web.Request) -> str:
    """Where the visitor was going; empty for the dashboard."""
    return _local(cookies.read(request, _AFTER))


async def enter(
    request: web.Request, response: web.StreamResponse, token: str, earlier: LoggedIn | None
) -> None:
    """Give the browser the token of its new session, and end the earlier one."""
    sessions = services(request).sessions
    if earlier is not None:
        await sessions.log_out(earlier)
    cookies.write(request, response, token, max_age_s=sessions.lifetime_s)
    cookies.remove(request, response, _VISIT)
    cookies.remove(request, response, _AFTER)


async def offer(request: web.Request) -> web.Response:
    """Whom the link logs in, and the button."""
    canonical(request)
    now = services(request).clock()
    person = await people.link_person(request.match_info["token"], now=now)
    if person is None:
        return _private(_spent(request))
    visit = new_token()
    response = aiohttp_jinja2.render_template(
        "login.html", request, {"person": person, "visit": visit}
    )
    cookies.write(request, response, visit, purpose=_VISIT, max_age_s=_VISIT_S, same_site="Strict")
    return _private(response)


async def log_in(request: web.Request) -> web.Response:
    """Spend the link. Programs, which send no ``Origin``, need no visit before."""
    canonical(request)
    parts = services(request)
    form = await read_form(request) if request.can_read_body else {}
    origin = request.headers.get("Origin")
    if origin == "null":
        visit = cookies.read(request, _VISIT)
        if not visit or not hmac.compare_digest(visit.encode(), form.get("visit", "").encode()):
            raise Forbidden("the button was not on this page", hint="open the link again")
    elif origin not in (None, parts.config.url):
        raise Forbidden("the request comes from another site", hint="open the link itself")
    earlier = await earlier_session(request)
    token = await parts.sessions.log_in(
        request.match_info["token"], browser=describe_browser(request)
    )
    if token is None:
        return _private(_spent(request))
    after = after_login(request)
    # A redirect would carry the form's Content-Security-Policy along to the instance's host.
    response = (
        aiohttp_jinja2.render_template("logged_in.html", request, {"after": after})
        if after
        else go_to("/")
    )
    await enter(request, response, token, earlier)
    return _private(response)


async def log_out(request: web.Request) -> web.Response:
    """End this session, or with ``everywhere`` all of the person's."""
    session = await current(request)
    if session is None:
        return go_to("/")
    form = await checked_form(request, session)
    await services(request).sessions.log_out(session, everywhere=form.get("everywhere") == "1")
    response = go_to("/")
    cookies.remove(request, response)
    return response


def _spent(request: web.Request) -> web.Response:
    return aiohttp_jinja2.render_template(
        "login_spent.html", request, {"passkeys": services(request).passkeys.offered}, status=410
    )


def _private(response: web.Response) -> web.Response:
    """The link is in the URL: it must not go on to anywhere."""
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["Cache-Control"] = "no-store"
    return response


def _local(target: str) -> str:
    """The target if it is the one path that is allowed, else nothing: no open redirect."""
    parts = urlsplit(target)
    allowed = not parts.scheme and not parts.netloc and parts.path == _AFTER_PATH
    return target if allowed and target.startswith(_AFTER_PATH + "?") else ""
