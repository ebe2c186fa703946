"""``/admin/keys``: who holds which key, and an end to it. For others the page does not exist."""

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.portal.api.keys import key_view, revoke_key
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.models import SshKey
from dit4c_p2p.portal.pages.forms import checked_form
from dit4c_p2p.portal.pages.login import current, login_needed, only_admins
from dit4c_p2p.portal.services import services

_MAX_SHOWN = 500


def routes() -> list[web.RouteDef]:
    """The list and the question."""
    return [
        web.get("/admin/keys", keys),
        web.get("/admin/keys/{fingerprint}/revoke", confirm_revoke),
        web.post("/admin/keys/{fingerprint}/revoke", revoke),
    ]


async def keys(request: web.Request) -> web.Response:
    """Keys in force first, then the revoked ones, the newest of each first."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    parts = services(request)
    await parts.registry.write_seen()
    in_force = SshKey.filter(revoked_at=None).order_by("-published_at").limit(_MAX_SHOWN)
    revoked = SshKey.exclude(revoked_at=None).order_by("-revoked_at").limit(_MAX_SHOWN)
    return aiohttp_jinja2.render_template(
        "admin_keys.html",
        request,
        {
            "session": session,
            "in_force": [key_view(key) for key in await in_force],
            "revoked": [key_view(key) for key in await revoked],
            "own": str(parts.config.name),
            "now": parts.clock(),
        },
    )


async def confirm_revoke(request: web.Request) -> web.Response:
    """What revoking means, before it is done."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    key = await SshKey.get_or_none(fingerprint=request.match_info["fingerprint"])
    if key is None:
        raise NotFound("there is no such key")
    return aiohttp_jinja2.render_template(
        "revoke.html", request, {"session": session, "key": key_view(key)}
    )


async def revoke(request: web.Request) -> web.Response:
    """The answer "yes"."""
    session = await current(request)
    if session is None:
        return login_needed(request)
    only_admins(session)
    await checked_form(request, session)
    await revoke_key(services(request), request.match_info["fingerprint"], by=session.who.id)
    return web.Response(status=303, headers={"Location": "/admin/keys"})
