"""Checks of forms: they must come from the portal's own pages and from the session's browser."""

import hmac
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

from aiohttp import web

from dit4c_p2p.portal.accounts.sessions import LoggedIn
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import BadRequest, Forbidden
from dit4c_p2p.portal.http.request_body import read_form


def go_to(path: str) -> web.Response:
    """Redirect to a page after a form."""
    return web.Response(status=303, headers={"Location": path})


async def checked_form(request: web.Request, session: LoggedIn) -> Mapping[str, str]:
    """Return the form's fields.

    :raises Forbidden: the ``Origin`` is not exactly the portal's, or the session's token is not in
        the form.
    """
    check_origin(request)
    form = await read_form(request)
    check_csrf(session, form.get("csrf", ""))
    return form


def end_of_day(text: str, *, field: str) -> float | None:
    """The end of the day (UTC) in a form's field, in seconds since 1970; None if it is empty.

    :raises BadRequest: not a day.
    """
    if not text:
        return None
    try:
        day = date.fromisoformat(text) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise BadRequest("the end date is not a day", field=field) from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def day_of(at: float) -> str:
    """A day (UTC) as a form's field has it."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


def check_origin(request: web.Request) -> None:
    """:raises Forbidden: the ``Origin`` is not exactly the portal's."""
    if request.headers.get("Origin") != services(request).config.url:
        raise Forbidden("the request comes from another site", hint="use the portal's own page")


def check_csrf(session: LoggedIn, token: str) -> None:
    """:raises Forbidden: not the session's own form token."""
    if not hmac.compare_digest(token.encode(), session.csrf.encode()):
        raise Forbidden("the page was too old for this", hint="load it again and try once more")
