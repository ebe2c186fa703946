"""People's own SSH keys: add, remove, prove; see :mod:`dit4c_p2p.portal.keys.user_keys`."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity.tokens import VerifiedToken
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import Conflict, NotFound, Unauthorized
from dit4c_p2p.portal.keys.user_keys import UserKey, user_name
from dit4c_p2p.portal.models import PendingKey
from dit4c_p2p.portal.oauth.server import claim_peer_token


async def add_ssh_key_of_person(
    parts: PortalContext, person: str, *, line: str, label: str
) -> UserKey:
    """Add a pending key for a person; see :meth:`UserKeys.add`."""
    try:
        async with in_transaction("portal"):
            fingerprint, changes = await parts.user_keys.add(person, line, label)
    except Conflict as error:
        await parts.audit.record_refusal("key.add", error, who=person)
        raise
    parts.registry.announce(changes)
    return await find_ssh_key_of_person(parts, person, fingerprint)


async def find_ssh_key_of_person(parts: PortalContext, person: str, fingerprint: str) -> UserKey:
    """One of a person's keys.

    :raises NotFound: the person has no such key.
    """
    for key in await parts.user_keys.of(person):
        if key.fingerprint == fingerprint:
            return key
    raise NotFound("there is no such key")


async def remove_ssh_key_of_person(
    parts: PortalContext, person: str, fingerprint: str, *, by: str
) -> None:
    """End a person's key everywhere, and cut what uses it; see :meth:`UserKeys.remove`."""
    async with in_transaction("portal"):
        changes = await parts.user_keys.remove(person, fingerprint, by=by)
    parts.registry.announce(changes)


async def prove_ssh_key_of_person(
    parts: PortalContext, token: VerifiedToken, person: str, fingerprint: str
) -> None:
    """Take a server's word that a key has logged in; see :meth:`UserKeys.prove`.

    :param token: the server's; it is used up.
    :raises Unauthorized: the token was used before.
    """
    by = str(token.issuer)
    try:
        async with in_transaction("portal"):
            if not await claim_peer_token(token):
                raise Unauthorized("the token was used before", hint="make a new one for each call")
            changes = await parts.user_keys.prove(person, fingerprint, by=by)
    except Conflict as error:
        about = f"{user_name(person)} {fingerprint}"
        await parts.audit.record_refusal("key.prove", error, who=by, about=about)
        raise
    parts.registry.announce(changes)


async def end_pending_ssh_keys(parts: PortalContext) -> None:
    """End the pending keys whose time is over; called every now and then."""
    if not await PendingKey.exists(expires_at__lte=parts.clock()):
        return
    async with in_transaction("portal"):
        changes = await parts.user_keys.expire()
    parts.registry.announce(changes)
