"""``…/storage``: where files are, and how much there may be; ``…/consents``: who may open them."""

from msgspec import UNSET

from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.portal.accounts import groups, people
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.http.token_auth import check_self_or_admin
from dit4c_p2p.portal.keys.owners import owner_of
from dit4c_p2p.portal.services.storage import (
    give_machine_consent,
    set_home_file_server,
    set_node_owner,
    set_storage_quota,
    withdraw_machine_consent,
)
from dit4c_p2p.portal.storage import consent
from dit4c_p2p.portal.storage.homes import homes, tree_of_group, tree_of_person
from dit4c_p2p.portal.storage.schemas import (
    ConsentView,
    NewConsent,
    NodeChange,
    NodeOwnerView,
    StorageChange,
    StorageView,
    consent_view,
    storage_view,
)


async def of_person(call: Call) -> StorageView:
    """A person's storage; anybody may see their own."""
    check_self_or_admin(call.who, call.path("id"))
    person = await people.get_person(call.path("id"))
    return await _storage_view(call, tree_of_person(person.id))


async def change_person(call: Call, body: StorageChange) -> StorageView:
    """Choose a person's quota or home file server."""
    person = await people.get_person(call.path("id"))
    return await _change_tree(call, tree_of_person(person.id), body)


async def of_group(call: Call) -> StorageView:
    """A group's storage, for its members and admins."""
    group = await groups.group_seen_by(call.who, call.path("id"))
    return await _storage_view(call, tree_of_group(group.id))


async def change_group(call: Call, body: StorageChange) -> StorageView:
    """Choose a group's quota or home file server."""
    group = await groups.get_group(call.path("id"))
    return await _change_tree(call, tree_of_group(group.id), body)


async def list_consents(call: Call) -> list[ConsentView]:
    """Whose machines may open a person's files; anybody may see their own."""
    id = call.path("id")
    check_self_or_admin(call.who, id)
    await people.get_person(id)
    return [consent_view(one) for one in await consent.given_by(id)]


async def give(call: Call, body: NewConsent) -> list[ConsentView]:
    """Let the machines that another person lends open one's files. Nobody does it for others.

    The owner of a machine can read what is opened there.
    """
    id = call.path("id")
    if call.who.id != id:
        raise NotFound("there is no such person")
    await give_machine_consent(call.parts, id, body.owner)
    return [consent_view(one) for one in await consent.given_by(id)]


async def withdraw(call: Call) -> list[ConsentView]:
    """Take a consent back; answers with those that are left. Anybody may take back their own."""
    id = call.path("id")
    check_self_or_admin(call.who, id)
    await people.get_person(id)
    await withdraw_machine_consent(call.parts, id, call.path("person"))
    return [consent_view(one) for one in await consent.given_by(id)]


async def change_node(call: Call, body: NodeChange) -> NodeOwnerView:
    """Say whose machine a node is; ``owner`` null is the institution's."""
    try:
        name = PeerName(Kind.NODE, call.path("id"))
    except InvalidName:
        raise NotFound("there is no such node") from None
    await set_node_owner(call.parts, name, body.owner, by=call.who.id)
    return NodeOwnerView(id=name.id, owner=await owner_of(str(name)))


async def _change_tree(call: Call, tree: str, body: StorageChange) -> StorageView:
    if body.server is not UNSET:
        await set_home_file_server(call.parts, tree, body.server, by=call.who.id)
    if body.quota_bytes is not UNSET:
        await set_storage_quota(call.parts, tree, body.quota_bytes, by=call.who.id)
    return await _storage_view(call, tree)


async def _storage_view(call: Call, tree: str) -> StorageView:
    return storage_view((await homes([tree], call.parts.storage_defaults))[tree])


ENDPOINTS = (
    Endpoint("GET", "people/{id}/storage", of_person),
    Endpoint("PATCH", "people/{id}/storage", change_person, allowed="admin"),
    Endpoint("GET", "people/{id}/consents", list_consents),
    Endpoint("POST", "people/{id}/consents", give),
    Endpoint("POST", "people/{id}/consents/{person}/withdraw", withdraw),
    Endpoint("PATCH", "nodes/{id}", change_node, allowed="admin"),
    Endpoint("GET", "groups/{id}/storage", of_group),
    Endpoint("PATCH", "groups/{id}/storage", change_group, allowed="admin"),
)
