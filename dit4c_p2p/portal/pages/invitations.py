"""Invitation links: what a guest sees, and ``/admin/invitations``, where admins make them."""

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal.accounts import groups, invitations
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import BadRequest, PortalError
from dit4c_p2p.portal.models import Invitation, Person
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.pages.forms import day_of, end_of_day, go_to
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.login import (
    canonical,
    checked_visit,
    describe_browser,
    earlier_session,
    enter,
    login_ways,
    new_visit,
    private,
    where_to,
)
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import time_text
from dit4c_p2p.portal.services.invitations import end_invitation, make_invitation
from dit4c_p2p.portal.services.logins import accept_invitation

_USUAL_S = 7 * 24 * 3600.0
_COLUMNS = {
    "label": ("label", "digest"),
    "expires": ("expires_at", "digest"),
    "created": ("created_at", "digest"),
}
_NEW = {"label": "", "uses": "1", "expires": "", "admin": "", "group": "", "ends": ""}


def invitations_page_routes() -> list[web.RouteDef]:
    """For guests, and for admins."""
    return [
        web.get("/invitation/{token}", offer_on_invitations_page),
        web.post("/invitation/{token}", accept_on_invitations_page),
        web.get(
            "/admin/invitations", page_handler(all_invitations_on_invitations_page, admins=True)
        ),
        web.post(
            "/admin/invitations",
            form_handler(
                make_on_invitations_page, again=all_invitations_on_invitations_page, admins=True
            ),
        ),
        web.post(
            "/admin/invitations/{id}/end",
            form_handler(end_on_invitations_page, admins=True, done="The invitation is ended."),
        ),
    ]


# ---- for a guest


async def offer_on_invitations_page(request: web.Request) -> web.Response:
    """Who invites, and how to come in; nothing is used up yet."""
    canonical(request)
    return await _offer_for_invitations_page(request)


async def _offer_for_invitations_page(
    request: web.Request, *, name: str = "", error: PortalError | None = None
) -> web.Response:
    token, parts = request.match_info["token"], services(request)
    invitation = await invitations.find_invitation(token, now=parts.clock())
    inviter = await Person.get_or_none(id=invitation.made_by)
    visit = new_visit()
    response = aiohttp_jinja2.render_template(
        "invitation.html",
        request,
        {
            **login_ways(request),
            "inviter": inviter.name if inviter else "",
            "earlier": await earlier_session(request),
            "token": token,
            "visit": visit.token,
            "form": {"name": name},
            "error": error,
        },
        status=error.status if error else 200,
    )
    visit.keep(request, response)
    return private(response)


async def accept_on_invitations_page(request: web.Request) -> web.Response:
    """Make the account and log its person in."""
    canonical(request)
    form = await checked_visit(request)
    earlier, name = await earlier_session(request), form.get("name", "")
    try:
        token = await accept_invitation(
            services(request),
            request.match_info["token"],
            name=name,
            browser=describe_browser(request),
        )
    except BadRequest as error:
        return await _offer_for_invitations_page(request, name=name, error=error)
    response = where_to(request)
    await enter(request, response, token, earlier)
    return private(response)


# ---- for admins


async def all_invitations_on_invitations_page(call: PageCall, url: str = "") -> web.Response:
    """Those there are, the newest first, and a form for one more; what was typed stays in it.

    :param url: of an invitation just made, shown this one time.
    """
    now = call.parts.clock()
    usual = {**_NEW, "expires": day_of(now + _USUAL_S)}
    listing = Listing.asked(call, "/admin/invitations", _COLUMNS, usual="-created")
    return call.page(
        "admin_invitations.html",
        invitations=[
            _view_for_invitations_page(one, now)
            for one in listing.items(
                await invitations.all_invitations(),
                key=getattr,
                text=lambda one: f"{one.label} {one.group} {one.made_by}",
            )
        ],
        listing=listing,
        groups={"": "none", **{group.id: group.title for group in await groups.search_groups()}},
        form={**usual, **call.form},
        today=day_of(now),
        url=url,
    )


async def make_on_invitations_page(call: PageCall) -> web.Response:
    """Make an invitation; its link is shown this one time."""
    form = {**_NEW, **call.form}
    if not form["uses"].isascii() or not form["uses"].isdigit():
        raise BadRequest("give a number of people", field="uses")
    expires_at = end_of_day(form["expires"], field="expires")
    if expires_at is None:
        raise BadRequest("an invitation needs a last day", field="expires")
    _, url = await make_invitation(
        call.parts,
        label=form["label"],
        uses=int(form["uses"][:9]),
        expires_at=expires_at,
        is_admin=form["admin"] == "1",
        group=form["group"],
        person_ends_at=end_of_day(form["ends"], field="ends"),
        by=call.by,
    )
    return await all_invitations_on_invitations_page(PageCall(call.request, call.session), url)


async def end_on_invitations_page(call: PageCall) -> web.Response:
    """Let nobody come by an invitation any more."""
    await end_invitation(call.parts, call.path("id"), by=call.by)
    return go_to("/admin/invitations")


def _view_for_invitations_page(invitation: Invitation, now: float) -> dict[str, object]:
    return {
        "id": public_id(invitation.digest),
        "label": invitation.label,
        "state": invitations.invitation_state(invitation, now),
        "used": invitation.used,
        "uses": invitation.uses,
        "expires": time_text(invitation.expires_at),
        "admin": invitation.is_admin,
        "group": invitation.group,
        "by": invitation.made_by,
    }
