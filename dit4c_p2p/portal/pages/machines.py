"""``/admin/machines`` and ``/admin/instances``: what runs where, whose, and an end to it."""

from collections import Counter, defaultdict
from typing import Any

from aiohttp import web
from tortoise.expressions import Q

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import FINAL, LIVE, State
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.instances.catalogue import catalogue
from dit4c_p2p.portal.instances.memory import Memory
from dit4c_p2p.portal.instances.view import instance_page_view, memory_text
from dit4c_p2p.portal.models import Instance, Peer
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.listing import Listing
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import time_text
from dit4c_p2p.portal.services.instances import act_on_instances

# Each is a field of the form, which takes 32.
_SHOWN = 25
_COLUMNS = {
    "name": ("name", "id"),
    "owner": ("owner_id", "id"),
    "state": ("state", "id"),
    "machine": ("node", "id"),
    "created": ("created_at", "id"),
}
_MACHINE_COLUMNS = {
    "name": ("id",),
    "state": ("word", "id"),
    "since": ("since", "id"),
    "running": ("running", "id"),
    "total": ("total", "id"),
    "memory": ("memory", "id"),
}
_PICKED = "pick."


def machines_page_routes() -> list[web.RouteDef]:
    """Both pages, and the one form."""
    return [
        web.get("/admin/machines", page_handler(show_machines_page, admins=True)),
        web.get("/admin/instances", page_handler(instances_on_machines_page, admins=True)),
        web.post(
            "/admin/instances",
            form_handler(
                act_on_machines_page,
                again=instances_on_machines_page,
                admins=True,
                done="Asked; the list follows.",
            ),
        ),
    ]


async def show_machines_page(call: PageCall) -> web.Response:
    """Every machine of every cluster: reached or since when not, and what is there of whom."""
    peers = [
        peer for peer in await Peer.all().order_by("name") if _is_node_for_machines_page(peer.name)
    ]
    there: defaultdict[str, list[Instance]] = defaultdict(list)
    for instance in await Instance.filter(state__in=list(LIVE)).order_by("owner_id"):
        if instance.node is not None:
            there[instance.node].append(instance)
    listing = Listing.asked(call, "/admin/machines", _MACHINE_COLUMNS, usual="name")
    known = [_machine_for_machines_page(call, peer, there[peer.name]) for peer in peers]
    return call.page(
        "admin_machines.html",
        machines=listing.items(
            known,
            key=lambda machine, name: machine[name],
            text=lambda one: " ".join(
                [one["name"], one["cluster"], one["owner"], one["word"], one["why"], *one["people"]]
            ),
        ),
        listing=listing,
    )


async def instances_on_machines_page(call: PageCall) -> web.Response:
    """Everybody's instances, the newest first; found by name, id, owner, tool or machine."""
    listing = Listing.asked(call, "/admin/instances", _COLUMNS, usual="-created", size=_SHOWN)
    wanted = listing.wanted
    rows = Instance.filter(state__in=list(LIVE))
    if wanted:
        rows = rows.filter(
            Q(name__icontains=wanted)
            | Q(id__icontains=wanted)
            | Q(owner_id__icontains=wanted)
            | Q(image_name__icontains=wanted)
            | Q(node__icontains=wanted)
        )
    found = await listing.rows(rows)
    known, parts = await catalogue(call.parts.config), call.parts
    return call.page(
        "admin_instances.html",
        instances=[
            instance_page_view(one, parts.config, known, parts.reach.of(one), parts.memory.of(one))
            | {"owner": one.owner_id, "machine": one.node or "", "image": one.image_name}
            for one in found
        ],
        listing=listing,
    )


async def act_on_machines_page(call: PageCall) -> web.Response:
    """Stop or discard those that are ticked; discarding is asked about first."""
    action = call.form.get("action", "")
    picked = [name.removeprefix(_PICKED) for name in call.form if name.startswith(_PICKED)]
    if action not in ("stop", "discard"):
        raise BadRequest("there is no such button", field="action")
    if not picked:
        raise BadRequest("nothing is ticked", hint="tick the instances that it is about")
    if action == "discard" and call.form.get("sure") != "1":
        found = await Instance.filter(id__in=picked).exclude(state__in=list(FINAL))
        return call.page("admin_discard.html", instances=found)
    outcome = await act_on_instances(
        call.parts, "stop" if action == "stop" else "discard", picked, by=call.by
    )
    if outcome.refused:
        refused = "; ".join(f"{name}: {reason}" for name, reason in outcome.refused[:5])
        raise BadRequest(f"{outcome.done} done, {len(outcome.refused)} not: {refused}")
    return go_to("/admin/instances")


def _machine_for_machines_page(call: PageCall, peer: Peer, there: list[Instance]) -> dict[str, Any]:
    reach = call.parts.reach
    contact = reach.contact(peer.name)
    connected = peer.scheduler is not None and call.parts.links.connected(peer.scheduler)
    if (since := reach.revoked_since(peer.name)) is not None:
        word, tone, why = "Revoked", "bad", "its key was revoked"
    elif contact is None or not connected:
        word, tone = "Not known", "calm"
        why = "nothing was heard of it yet" if contact is None else "its cluster is not connected"
        since = contact.since if contact else None
    else:
        word, tone = ("Reached", "good") if contact.up else ("Not reached", "bad")
        why, since = contact.trouble, contact.since
    states = Counter(State(one.state) for one in there)
    used = [one for one in map(call.parts.memory.of, there) if one is not None]
    return {
        "name": peer.name,
        "id": PeerName.parse(peer.name).id,
        "cluster": peer.scheduler or "",
        "owner": peer.owner or "",
        "word": word,
        "tone": tone,
        "why": why,
        "since": "" if since is None else time_text(since),
        "running": states[State.RUNNING],
        "total": len(there),
        "memory": sum(one.used for one in used),
        "memory_text": memory_text(Memory(sum(m.used for m in used), sum(m.limit for m in used)))
        if used
        else "",
        "people": sorted({one.owner_id for one in there}),
    }


def _is_node_for_machines_page(name: str) -> bool:
    return PeerName.parse(name).kind is Kind.NODE
