"""``…/storage``: where a person's or a group's files are, and how much there may be."""

from msgspec import UNSET

from dit4c_p2p.portal.accounts import groups, people
from dit4c_p2p.portal.api.endpoint import Call, Endpoint
from dit4c_p2p.portal.http.token_auth import self_or_admin
from dit4c_p2p.portal.services.storage import set_quota, set_server
from dit4c_p2p.portal.storage.homes import homes, tree_of_group, tree_of_person
from dit4c_p2p.portal.storage.schemas import StorageChange, StorageView, storage_view


async def of_person(call: Call) -> StorageView:
    """A person's storage; anybody may see their own."""
    self_or_admin(call.who, call.path("id"))
    person = await people.get(call.path("id"))
    return await _view(call, tree_of_person(person.id))


async def change_person(call: Call, body: StorageChange) -> StorageView:
    """Choose a person's quota or home file server."""
    person = await people.get(call.path("id"))
    return await _change(call, tree_of_person(person.id), body)


async def of_group(call: Call) -> StorageView:
    """A group's storage, for its members and admins."""
    group = await groups.seen_by(call.who, call.path("id"))
    return await _view(call, tree_of_group(group.id))


async def change_group(call: Call, body: StorageChange) -> StorageView:
    """Choose a group's quota or home file server."""
    group = await groups.get(call.path("id"))
    return await _change(call, tree_of_group(group.id), body)


async def _change(call: Call, tree: str, body: StorageChange) -> StorageView:
    if body.server is not UNSET:
        await set_server(call.parts, tree, body.server, by=call.who.id)
    if body.quota_bytes is not UNSET:
        await set_quota(call.parts, tree, body.quota_bytes, by=call.who.id)
    return await _view(call, tree)


async def _view(call: Call, tree: str) -> StorageView:
    return storage_view((await homes([tree], call.parts.storage_defaults))[tree])


ENDPOINTS = (
    Endpoint("GET", "people/{id}/storage", of_person),
    Endpoint("PATCH", "people/{id}/storage", change_person, allowed="admin"),
    Endpoint("GET", "groups/{id}/storage", of_group),
    Endpoint("PATCH", "groups/{id}/storage", change_group, allowed="admin"),
)
