"""``/admin/keys``: list and revoke published keys; admins only."""

from aiohttp import web

from dit4c_p2p.portal.api.keys import key_view, revoke_key
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.models import SshKey
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler

_MAX_SHOWN = 500


def routes() -> list[web.RouteDef]:
    """Return the routes of the list and of revocation."""
    one = "/admin/keys/{fingerprint}/revoke"
    return [
        web.get("/admin/keys", page_handler(keys, admins=True)),
        web.get(one, page_handler(confirm_revoke, admins=True)),
        web.post(one, form_handler(revoke, admins=True, done="The key is revoked everywhere.")),
    ]


async def keys(call: PageCall) -> web.Response:
    """Show the keys in force, then the revoked ones, the newest first."""
    await call.parts.registry.write_seen()
    in_force = SshKey.filter(revoked_at=None).order_by("-published_at").limit(_MAX_SHOWN)
    revoked = SshKey.exclude(revoked_at=None).order_by("-revoked_at").limit(_MAX_SHOWN)
    return call.page(
        "admin_keys.html",
        in_force=[key_view(key) for key in await in_force],
        revoked=[key_view(key) for key in await revoked],
        own=str(call.parts.config.name),
    )


async def confirm_revoke(call: PageCall) -> web.Response:
    """Ask for confirmation, with the consequences of revoking."""
    key = await SshKey.get_or_none(fingerprint=call.path("fingerprint"))
    if key is None:
        raise NotFound("there is no such key")
    return call.page("revoke.html", key=key_view(key))


async def revoke(call: PageCall) -> web.Response:
    """Revoke the key."""
    await revoke_key(call.parts, call.path("fingerprint"), by=call.by)
    return go_to("/admin/keys")
