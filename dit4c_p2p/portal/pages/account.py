"""``/account``: what lets oneself in, and an end to each of it."""

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal import api_tokens, people
from dit4c_p2p.portal.api.people import end_api_token, new_api_token, person_view, token_view
from dit4c_p2p.portal.api.records import NewTokenView, time_text
from dit4c_p2p.portal.digests import public_id
from dit4c_p2p.portal.errors import BadRequest, PortalError
from dit4c_p2p.portal.pages.forms import checked_form
from dit4c_p2p.portal.pages.login import current, login_needed
from dit4c_p2p.portal.services import services
from dit4c_p2p.portal.sessions import LoggedIn

_DAYS = {"7": "1 week", "30": "30 days", "90": "90 days", "366": "1 year"}


def routes() -> list[web.RouteDef]:
    """The page and its buttons."""
    return [
        web.get("/account", account),
        web.post("/account/sessions/{session}/end", end_session),
        web.post("/account/tokens", make_token),
        web.post("/account/tokens/{token}/revoke", revoke_token),
    ]


async def account(request: web.Request) -> web.Response:
    """Browsers and tokens of one's own."""
    session = await current(request)
    return login_needed(request) if session is None else await _show(request, session)


async def end_session(request: web.Request) -> web.Response:
    """Log another browser out, or this one."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    await checked_form(request, session)
    await services(request).sessions.end_one(session.who.id, request.match_info["session"])
    return _back()


async def make_token(request: web.Request) -> web.Response:
    """A token for programs; its text is shown this one time."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    form = await checked_form(request, session)
    try:
        if form.get("days") not in _DAYS:
            raise BadRequest("a token lasts for one of the times offered", field="days")
        made, text = await new_api_token(
            services(request),
            session.who.id,
            label=form.get("label", ""),
            scope="admin" if form.get("admin") == "1" else "user",
            days=int(form["days"]),
        )
    except PortalError as error:
        return await _show(request, session, error=error)
    view = token_view(made)
    fields = {name: getattr(view, name) for name in view.__struct_fields__}
    return await _show(request, session, made=NewTokenView(**fields, token=text))


async def revoke_token(request: web.Request) -> web.Response:
    """End one of one's own tokens."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    await checked_form(request, session)
    await end_api_token(services(request), session.who.id, request.match_info["token"])
    return _back()


async def _show(
    request: web.Request,
    session: LoggedIn,
    *,
    made: NewTokenView | None = None,
    error: PortalError | None = None,
) -> web.Response:
    parts, now = services(request), services(request).clock()
    return aiohttp_jinja2.render_template(
        "account.html",
        request,
        {
            "session": session,
            "person": person_view(await people.get(session.who.id), now),
            "sessions": [
                {
                    "id": public_id(one.digest),
                    "browser": one.browser or "A browser or a program",
                    "since": time_text(one.created_at),
                    "used": time_text(one.used_at),
                    "this": one.digest == session.digest,
                }
                for one in await parts.sessions.of(session.who.id)
            ],
            "tokens": [
                {
                    "view": token_view(token),
                    "over": token.expires_at is not None and token.expires_at <= now,
                }
                for token in await api_tokens.of(session.who.id)
            ],
            "days": _DAYS,
            "made": made,
            "error": error,
        },
        status=error.status if error else 200,
    )


def _back() -> web.Response:
    return web.Response(status=303, headers={"Location": "/account"})
