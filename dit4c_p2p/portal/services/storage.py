"""Homes, quotas and consent: changed, written down, and told to the file servers."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.storage import homes


async def peers_of_person(person: str) -> list[str]:
    """The peer names whose grants depend on a person: their own and their instances'."""
    instances = await Instance.filter(owner_id=person).exclude(state__in=list(FINAL)).only("id")
    return [
        str(PeerName(Kind.USER, person)),
        *(str(PeerName(Kind.INSTANCE, instance.id)) for instance in instances),
    ]


async def set_quota(parts: PortalContext, tree: str, quota_bytes: int | None, *, by: str) -> None:
    """Choose how much a tree may hold; see :func:`homes.set_quota`."""
    async with in_transaction("portal"):
        await homes.set_quota(tree, quota_bytes)
        amount = "as in the settings" if quota_bytes is None else f"{quota_bytes} bytes"
        await parts.audit.record_required("storage.quota", who=by, about=f"{tree}: {amount}")
    parts.grant_events.all_changed()


async def set_server(parts: PortalContext, tree: str, server: str, *, by: str) -> None:
    """Choose a tree's home file server; see :func:`homes.set_server`."""
    async with in_transaction("portal"):
        await homes.set_server(tree, server, parts.storage_defaults)
        await parts.audit.record_required("storage.home", who=by, about=f"{tree}: {server}")
    parts.grant_events.all_changed()
