"""``/admin/people``: who has an account, and how they come in. For others the pages don't exist."""

from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, timedelta

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal import people
from dit4c_p2p.portal.api.people import change_person, invite_person, login_link, person_view
from dit4c_p2p.portal.api.records import LoginLinkView, PersonView
from dit4c_p2p.portal.errors import BadRequest, PortalError
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.pages.forms import checked_form
from dit4c_p2p.portal.pages.login import current, login_needed, only_admins
from dit4c_p2p.portal.paging import MAX_CURSOR_CHARS, page
from dit4c_p2p.portal.people import Change
from dit4c_p2p.portal.services import services
from dit4c_p2p.portal.sessions import LoggedIn

_SHOWN = 50
_HOUR_S = 3600
# What the forms offer; the longest that the API takes is a month.
_LINK_HOURS = {"24": "1 day", "72": "3 days", "168": "1 week", "720": "30 days"}
_USUAL_LINK_HOURS = "168"
_NEW = {"name": "", "id": "", "admin": "", "ends": "", "link_hours": _USUAL_LINK_HOURS}


def routes() -> list[web.RouteDef]:
    """The list, inviting, one person and what can be done."""
    one = "/admin/people/{id}"
    return [
        web.get("/admin/people", everybody),
        web.post("/admin/people", invite),
        web.get(one, somebody),
        web.post(f"{one}/login-link", make_link),
        web.post(f"{one}/end", change_end),
        web.get(f"{one}/disable", confirm_disable),
        web.post(f"{one}/disable", disable),
        web.post(f"{one}/enable", enable),
    ]


async def everybody(request: web.Request) -> web.Response:
    """Who there is, the newest first, and a form for one more."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    return await _list(request, session, _NEW)


async def invite(request: web.Request) -> web.Response:
    """A new account; its link is shown this one time."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    form = await checked_form(request, session)
    try:
        person, login = await invite_person(
            services(request),
            by=session.who.id,
            name=form.get("name", ""),
            id=form.get("id", "").strip(),
            is_admin=form.get("admin") == "1",
            ends_at=_end(form),
            link_s=_link_s(form),
        )
    except PortalError as error:
        return await _list(request, session, form, error)
    view = person_view(person, services(request).clock())
    return _link_page(request, session, view, login, invited=True)


async def somebody(request: web.Request) -> web.Response:
    """One person."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    return await _one(request, session)


async def make_link(request: web.Request) -> web.Response:
    """Another link; it is shown this one time."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    form = await checked_form(request, session)
    parts, id = services(request), request.match_info["id"]
    try:
        login = await login_link(parts, id, link_s=_link_s(form))
    except PortalError as error:
        return await _one(request, session, error)
    view = person_view(await people.get(id), parts.clock())
    return _link_page(request, session, view, login, invited=False)


async def change_end(request: web.Request) -> web.Response:
    """Another end date, or none."""
    return await _change(request, lambda form: Change(ends_at=_end(form)))


async def confirm_disable(request: web.Request) -> web.Response:
    """What disabling means, before it is done."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    person = await people.get(request.match_info["id"])
    running = await Instance.filter(owner_id=person.id).exclude(state="discarded").count()
    return aiohttp_jinja2.render_template(
        "disable.html",
        request,
        {
            "session": session,
            "person": person_view(person, services(request).clock()),
            "running": running,
        },
    )


async def disable(request: web.Request) -> web.Response:
    """The answer "yes"."""
    return await _change(request, lambda _: Change(disabled=True))


async def enable(request: web.Request) -> web.Response:
    """Let the person in again, by a new link."""
    return await _change(request, lambda _: Change(disabled=False))


async def _change(
    request: web.Request, wanted: Callable[[Mapping[str, str]], Change]
) -> web.Response:
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    form = await checked_form(request, session)
    id = request.match_info["id"]
    try:
        await change_person(services(request), id, wanted(form), by=session.who.id)
    except PortalError as error:
        return await _one(request, session, error)
    return web.Response(status=303, headers={"Location": f"/admin/people/{id}"})


async def _list(
    request: web.Request,
    session: LoggedIn,
    form: Mapping[str, str],
    error: PortalError | None = None,
) -> web.Response:
    parts = services(request)
    wanted = request.query.get("q", "")[:100]
    now = parts.clock()
    rows = people.search(wanted, now=now)
    cursor = request.query.get("cursor", "")[:MAX_CURSOR_CHARS]
    found, further = await page(rows, _SHOWN, cursor, time="created_at", id="id")
    return aiohttp_jinja2.render_template(
        "admin_people.html",
        request,
        {
            "session": session,
            "people": [person_view(person, now) for person in found],
            "wanted": wanted,
            "first": not cursor,
            "further": further,
            "form": {**_NEW, **form},
            "link_hours": _LINK_HOURS,
            "today": _today(now),
            "error": error,
        },
        status=error.status if error else 200,
    )


async def _one(
    request: web.Request, session: LoggedIn, error: PortalError | None = None
) -> web.Response:
    parts = services(request)
    person = await people.get(request.match_info["id"])
    now = parts.clock()
    return aiohttp_jinja2.render_template(
        "admin_person.html",
        request,
        {
            "session": session,
            "person": person_view(person, now),
            "end_day": _end_day(person.ends_at),
            "running": await Instance.filter(owner_id=person.id).exclude(state="discarded").count(),
            "link_hours": _LINK_HOURS,
            "today": _today(now),
            "error": error,
        },
        status=error.status if error else 200,
    )


def _link_page(
    request: web.Request,
    session: LoggedIn,
    person: PersonView,
    login: LoginLinkView,
    *,
    invited: bool,
) -> web.Response:
    return aiohttp_jinja2.render_template(
        "admin_link.html",
        request,
        {"session": session, "person": person, "login": login, "invited": invited},
    )


def _end(form: Mapping[str, str]) -> float | None:
    """The end of the day (UTC) that the form names, or None for no end.

    :raises BadRequest: not a day.
    """
    text = form.get("ends", "")
    if not text:
        return None
    try:
        day = date.fromisoformat(text) + timedelta(days=1)
    except (ValueError, OverflowError):
        raise BadRequest("the end date is not a day", field="ends") from None
    return datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()


def _end_day(ends_at: float | None) -> str:
    """The last day of an account, as a form's field has it."""
    return "" if ends_at is None else datetime.fromtimestamp(ends_at - 1, UTC).date().isoformat()


def _today(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def _link_s(form: Mapping[str, str]) -> float:
    hours = form.get("link_hours", _USUAL_LINK_HOURS)
    if hours not in _LINK_HOURS:
        raise BadRequest("a link lasts for one of the times offered", field="link_hours")
    return int(hours) * _HOUR_S
