"""A form that somebody logged in sent from a page of the portal, and from nowhere else."""

import hmac
from collections.abc import Mapping

from aiohttp import web

from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import Forbidden
from dit4c_p2p.portal.http.request_body import read_form


def go_to(path: str) -> web.Response:
    """Where a form leads when it is done."""
    return web.Response(status=303, headers={"Location": path})


async def checked_form(request: web.Request, session: LoggedIn) -> Mapping[str, str]:
    """The form's fields.

    :raises Forbidden: the ``Origin`` is not exactly the portal's, or the session's token is not in
        the form.
    """
    check_origin(request)
    form = await read_form(request)
    check_csrf(session, form.get("csrf", ""))
    return form


def check_origin(request: web.Request) -> None:
    """:raises Forbidden: the ``Origin`` is not exactly the portal's."""
    if request.headers.get("Origin") != services(request).config.url:
        raise Forbidden("the request comes from another site", hint="use the portal's own page")


def check_csrf(session: LoggedIn, token: str) -> None:
    """:raises Forbidden: not the session's own form token."""
    if not hmac.compare_digest(token.encode(), session.csrf.encode()):
        raise Forbidden("the page was too old for this", hint="load it again and try once more")
