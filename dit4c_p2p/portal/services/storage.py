"""Homes, quotas and consent: changed, written down, and told to the file servers."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.keys.owners import set_owner_of_node
from dit4c_p2p.portal.models import Instance
from dit4c_p2p.portal.storage import consent, homes


async def peers_of_person(person: str) -> list[str]:
    """The peer names whose grants depend on a person: their own and their instances'."""
    instances = await Instance.filter(owner_id=person).exclude(state__in=list(FINAL)).only("id")
    return [
        str(PeerName(Kind.USER, person)),
        *(str(PeerName(Kind.INSTANCE, instance.id)) for instance in instances),
    ]


async def set_storage_quota(
    parts: PortalContext, tree: str, quota_bytes: int | None, *, by: str
) -> None:
    """Choose how much a tree may hold; see :func:`homes.set_quota`."""
    async with in_transaction("portal"):
        await homes.set_quota(tree, quota_bytes)
        amount = "as in the settings" if quota_bytes is None else f"{quota_bytes} bytes"
        await parts.audit.record_required("storage.quota", who=by, about=f"{tree}: {amount}")
    parts.grant_events.all_changed()


async def set_home_file_server(parts: PortalContext, tree: str, server: str, *, by: str) -> None:
    """Choose a tree's home file server; see :func:`homes.set_server`."""
    async with in_transaction("portal"):
        await homes.set_server(tree, server, parts.storage_defaults)
        await parts.audit.record_required("storage.home", who=by, about=f"{tree}: {server}")
    parts.grant_events.all_changed()


async def give_machine_consent(parts: PortalContext, person: str, owner: str) -> None:
    """Let another person's machines open one's files; again changes nothing."""
    async with in_transaction("portal"):
        if await consent.give(person, owner, parts.clock()):
            await parts.audit.record_required("consent.give", who=person, about=owner)
        peers = await peers_of_person(person)
    parts.grant_events.changed(peers)
    await _tell_pages(parts, person)


async def withdraw_machine_consent(parts: PortalContext, person: str, owner: str) -> None:
    """Take a consent back: what is open there is closed within seconds."""
    async with in_transaction("portal"):
        await consent.withdraw(person, owner)
        await parts.audit.record_best_effort("consent.withdraw", who=person, about=owner)
        peers = await peers_of_person(person)
    parts.grant_events.changed(peers)
    await _tell_pages(parts, person)


async def set_node_owner(
    parts: PortalContext, node: PeerName, owner: str | None, *, by: str
) -> None:
    """Say whose machine a node is; see :func:`owners.set_owner_of_node`."""
    async with in_transaction("portal"):
        await set_owner_of_node(node, owner)
        about = f"{node}: {owner or 'the institution'}"
        await parts.audit.record_required("node.owner", who=by, about=about)
    parts.grant_events.all_changed()


async def _tell_pages(parts: PortalContext, person: str) -> None:
    """Have the person's open pages show their instances anew."""
    for instance in await Instance.filter(owner_id=person).exclude(state__in=list(FINAL)):
        parts.instances.changed(instance)
