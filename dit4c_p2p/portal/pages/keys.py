"""``/admin/keys``: published keys with their owners and history; list and revoke; admins only."""

from collections.abc import Iterable
from dataclasses import dataclass

from aiohttp import web
from tortoise.expressions import Q

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import LIVE
from dit4c_p2p.portal.api.keys import key_view
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.keys.user_keys import openssh_fingerprint
from dit4c_p2p.portal.models import Instance, KeyChange, Peer, Person, SshKey
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import time_text
from dit4c_p2p.portal.services.keys import revoke_key

_COLUMNS = {
    "holder": ("name", "fingerprint"),
    "since": ("published_at", "fingerprint"),
    "seen": ("seen_at", "fingerprint"),
    "revoked": ("revoked_at", "fingerprint"),
}
_STATES = ("in_force", "revoked")
_MAX_CHANGES = 200


@dataclass(frozen=True)
class Holder:
    """Whose key it is: ``owner`` is a person's id, ``label`` what the holder or key is called."""

    owner: str = ""
    label: str = ""


def keys_page_routes() -> list[web.RouteDef]:
    """Return the routes of the list, of one key and of revocation."""
    one = "/admin/keys/{fingerprint}"
    return [
        web.get("/admin/keys", page_handler(show_keys_page, admins=True)),
        web.get(one, page_handler(history_on_keys_page, admins=True)),
        web.get(f"{one}/revoke", page_handler(confirm_revoke_on_keys_page, admins=True)),
        web.post(
            f"{one}/revoke",
            form_handler(revoke_on_keys_page, admins=True, done="The key is revoked everywhere."),
        ),
    ]


async def show_keys_page(call: PageCall) -> web.Response:
    """Show the keys in force or the revoked ones, found by holder, label or fingerprint."""
    await call.parts.registry.write_seen()
    state = call.request.query.get("state", "")
    if state not in _STATES:
        state = _STATES[0]
    usual = "-since" if state == "in_force" else "-revoked"
    listing = Listing.asked(call, "/admin/keys", _COLUMNS, usual=usual, kept={"state": state})
    rows = SshKey.filter(revoked_at__isnull=state == "in_force")
    if listing.wanted:
        rows = rows.filter(await _like_for_keys_page(listing.wanted, in_force=state == "in_force"))
    found = await listing.rows(rows)
    return call.page(
        "admin_keys.html",
        keys=await _shown_for_keys_page(found),
        state=state,
        others=await SshKey.filter(revoked_at__isnull=state != "in_force").count(),
        listing=listing,
        own=str(call.parts.config.name),
    )


async def history_on_keys_page(call: PageCall) -> web.Response:
    """Show one key with its whole fingerprint and what happened to it.

    :raises NotFound: no such key.
    """
    key = await _key_for_keys_page(call)
    changes = KeyChange.filter(fingerprint=key.fingerprint).order_by("-change")
    (shown,) = await _shown_for_keys_page([key])
    return call.page(
        "admin_key.html",
        key=shown,
        changes=[
            {"what": change.what, "by": change.by, "at": time_text(change.at)}
            for change in await changes.limit(_MAX_CHANGES)
        ],
        own=str(call.parts.config.name),
    )


async def confirm_revoke_on_keys_page(call: PageCall) -> web.Response:
    """Ask for confirmation, with the consequences of revoking."""
    return call.page("revoke.html", key=key_view(await _key_for_keys_page(call)))


async def revoke_on_keys_page(call: PageCall) -> web.Response:
    """Revoke the key."""
    await revoke_key(call.parts, call.path("fingerprint"), by=call.by)
    return go_to("/admin/keys")


async def _key_for_keys_page(call: PageCall) -> SshKey:
    key = await SshKey.get_or_none(fingerprint=call.path("fingerprint"))
    if key is None:
        raise NotFound("there is no such key")
    return key


async def _like_for_keys_page(wanted: str, *, in_force: bool) -> Q:
    """Return the condition of a search: holder, label, fingerprint in either form, or owner."""
    plain = wanted.removeprefix("SHA256:").replace("+", "-").replace("/", "_").rstrip("=")
    owned = Instance.filter(Q(owner_id__icontains=wanted) | Q(name__icontains=wanted)).limit(
        _MAX_CHANGES
    )
    if in_force:
        # Instances that are gone have no key any more; of those there may be very many.
        owned = owned.filter(state__in=list(LIVE))
    names = [f"{Kind.INSTANCE}-{id}" for id in await owned.values_list("id", flat=True)]
    like = Q(name__icontains=wanted) | Q(label__icontains=wanted) | Q(fingerprint__startswith=plain)
    return like | Q(name__in=names) if names else like


async def _shown_for_keys_page(found: Iterable[SshKey]) -> list[dict[str, object]]:
    rows = list(found)
    holders = await _holders_for_keys_page(rows)
    return [
        {
            "view": key_view(row),
            "openssh": openssh_fingerprint(row.fingerprint),
            "owner": holders[row.name].owner,
            "label": row.label or holders[row.name].label,
        }
        for row in rows
    ]


async def _holders_for_keys_page(rows: Iterable[SshKey]) -> dict[str, Holder]:
    """Return whose key each is, by the peer's name."""
    names = {row.name: PeerName.parse(row.name) for row in rows}
    ids = [name.id for name in names.values()]
    instances = {one.id: one for one in await Instance.filter(id__in=ids)}
    people = {one.id: one for one in await Person.filter(id__in=ids)}
    nodes = {one.name: one for one in await Peer.filter(name__in=list(names))}
    found = {}
    for text, name in names.items():
        holder = Holder()
        if name.kind is Kind.INSTANCE and name.id in instances:
            instance = instances[name.id]
            holder = Holder(instance.owner_id, instance.name)
        elif name.kind is Kind.USER and name.id in people:
            holder = Holder(name.id, people[name.id].name)
        elif text in nodes and nodes[text].owner:
            holder = Holder(nodes[text].owner or "")
        found[text] = holder
    return found
