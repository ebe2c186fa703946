"""``people/{id}/ssh-keys``: people's own SSH keys; for admins, and for each their own."""

from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.api.endpoint import PREFIX, Call, Endpoint
from dit4c_p2p.portal.errors import Conflict, TooMany
from dit4c_p2p.portal.http.token_auth import check_self_or_admin
from dit4c_p2p.portal.services.user_keys import add_ssh_key_of_person, remove_ssh_key_of_person
from dit4c_p2p.portal.storage.schemas import NewUserKey, UserKeyView, key_view


async def list_keys(call: Call) -> list[UserKeyView]:
    """A person's SSH keys, the newest first; anybody may see their own."""
    id = call.path("id")
    check_self_or_admin(call.who, id)
    await people.get_person(id)
    await call.parts.registry.write_seen()
    return [key_view(key) for key in await call.parts.user_keys.of(id)]


async def add(call: Call, body: NewUserKey) -> UserKeyView:
    """Add an SSH key. It is pending until its first login, for a day at the most.

    For admins: a token that leaks can't make itself a way in that lasts.
    """
    id = call.path("id")
    await people.get_person(id)
    key = await add_ssh_key_of_person(call.parts, id, line=body.line, label=body.name)
    call.located(f"{PREFIX}/people/{id}/ssh-keys")
    return key_view(key)


async def remove(call: Call) -> list[UserKeyView]:
    """End an SSH key at once; answers with those that are left. Anybody may end their own."""
    id = call.path("id")
    check_self_or_admin(call.who, id)
    await people.get_person(id)
    await remove_ssh_key_of_person(call.parts, id, call.path("fingerprint"), by=call.who.id)
    return [key_view(key) for key in await call.parts.user_keys.of(id)]


ENDPOINTS = (
    Endpoint("GET", "people/{id}/ssh-keys", list_keys),
    Endpoint(
        "POST",
        "people/{id}/ssh-keys",
        add,
        allowed="admin",
        status=201,
        location=True,
        errors=(Conflict, TooMany),
    ),
    Endpoint("POST", "people/{id}/ssh-keys/{fingerprint}/remove", remove),
)
