"""Passkeys: made, renamed and removed by their person, and logging in with one.

``web/passkeys.js`` is the browser's part. It sends JSON, from the portal's own pages only.
"""

from typing import Any

from aiohttp import web

from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import Forbidden, Unauthorized
from dit4c_p2p.portal.http import cookies
from dit4c_p2p.portal.http.request_body import Body, read_json
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.login.passkeys import BegunPasskey
from dit4c_p2p.portal.pages import attempts
from dit4c_p2p.portal.pages.account import show_account_page
from dit4c_p2p.portal.pages.forms import check_csrf, check_origin, go_to
from dit4c_p2p.portal.pages.login import (
    after_login,
    canonical,
    current,
    describe_browser,
    earlier_session,
    enter,
)
from dit4c_p2p.portal.pages.page import PageCall, form_handler

_LATER = "passkey-later"
_LATER_S = 30 * 24 * 3600
# How long after logging in a passkey may be added: whoever finds an open browser adds none.
FRESH_S = 30 * 60.0


class Ask(Body, frozen=True):
    """Whoever is logged in wants to make a passkey."""

    csrf: str


class Created(Body, frozen=True):
    """What the authenticator has made."""

    csrf: str
    attempt: str
    credential: dict[str, Any]


class AskLogin(Body, frozen=True):
    """Somebody wants to log in."""


class Answered(Body, frozen=True):
    """What the authenticator answers."""

    attempt: str
    credential: dict[str, Any]


def passkeys_page_routes() -> list[web.RouteDef]:
    """Logging in, and a person's own."""
    one = "/account/passkeys/{passkey}"
    return [
        web.post("/passkeys/login/options", login_options_on_passkeys_page),
        web.post("/passkeys/login", log_in_on_passkeys_page),
        web.post("/account/passkeys/options", creation_options_on_passkeys_page),
        web.post("/account/passkeys", create_on_passkeys_page),
        web.post("/account/passkeys/later", form_handler(later_on_passkeys_page)),
        web.post(f"{one}/rename", form_handler(rename_on_passkeys_page, again=show_account_page)),
        web.post(f"{one}/remove", form_handler(remove_on_passkeys_page, again=show_account_page)),
    ]


async def login_options_on_passkeys_page(request: web.Request) -> web.Response:
    """Begin to log in: options for the authenticator, and the attempt's cookie."""
    canonical(request)
    check_origin(request)
    await read_json(request, AskLogin)
    return _begun_for_passkeys_page(request, services(request).passkeys.begin_login())


async def log_in_on_passkeys_page(request: web.Request) -> web.Response:
    """Log in with what the authenticator answers; says where the visitor was going."""
    canonical(request)
    check_origin(request)
    parts, body = services(request), await read_json(request, Answered)
    sealed = attempts.read(request, body.attempt)
    earlier = await earlier_session(request)
    token = await parts.sessions.log_in_by_passkey(
        parts.passkeys, sealed, body.credential, browser=describe_browser(request)
    )
    response = json_answer({"after": after_login(request)})
    attempts.remove(request, response, body.attempt)
    await enter(request, response, token, earlier)
    return response


async def creation_options_on_passkeys_page(request: web.Request) -> web.Response:
    """Begin to make a passkey: options for the authenticator, and the attempt's cookie."""
    session = await _session_for_passkeys_page(request)
    check_csrf(session, (await read_json(request, Ask)).csrf)
    if not _fresh_for_passkeys_page(request, session):
        raise Forbidden(
            "you logged in too long ago to add a passkey here",
            hint="log out, log in again, and add it then: so nobody adds one at a browser that "
            "you have left open",
        )
    return _begun_for_passkeys_page(
        request, await services(request).passkeys.begin_creation(session.who.id)
    )


async def create_on_passkeys_page(request: web.Request) -> web.Response:
    """Keep what the authenticator has made, named after the browser."""
    session = await _session_for_passkeys_page(request)
    parts, body = services(request), await read_json(request, Created)
    check_csrf(session, body.csrf)
    made = await parts.passkeys.finish_creation(
        session.who.id,
        attempts.read(request, body.attempt),
        body.credential,
        name=describe_browser(request) or "Passkey",
    )
    response = json_answer({"name": made.name}, status=201)
    attempts.remove(request, response, body.attempt)
    return response


async def rename_on_passkeys_page(call: PageCall) -> web.Response:
    """Give a passkey another name."""
    await call.parts.passkeys.rename(call.by, call.path("passkey"), call.form.get("name", ""))
    return go_to("/account#passkeys")


async def remove_on_passkeys_page(call: PageCall) -> web.Response:
    """Remove a passkey."""
    await call.parts.passkeys.remove(call.by, call.path("passkey"))
    return go_to("/account#passkeys")


async def later_on_passkeys_page(call: PageCall) -> web.Response:
    """Offer no passkey to this person in this browser for a month."""
    response = go_to("/")
    cookies.write_cookie(call.request, response, call.by, purpose=_LATER, max_age_s=_LATER_S)
    return response


async def offer_passkey_on_passkeys_page(call: PageCall) -> bool:
    """Whether the dashboard offers to make a first passkey."""
    passkeys = call.parts.passkeys
    if not passkeys.offered or not _fresh_for_passkeys_page(call.request, call.session):
        return False
    if cookies.read_cookie(call.request, _LATER) == call.by:
        return False
    return not await passkeys.of(call.by)


def _fresh_for_passkeys_page(request: web.Request, session: LoggedIn) -> bool:
    """Whether the person has logged in just now, and did not only leave the browser open."""
    return services(request).clock() - session.since <= FRESH_S


def _begun_for_passkeys_page(request: web.Request, begun: BegunPasskey) -> web.Response:
    id = attempts.new_id()
    response = json_answer({"attempt": id, "options": begun.options})
    attempts.write(request, response, id, begun.sealed)
    return response


async def _session_for_passkeys_page(request: web.Request) -> LoggedIn:
    check_origin(request)
    session = await current(request)
    if session is None:
        raise Unauthorized("you are not logged in any more", hint="log in again")
    return session
