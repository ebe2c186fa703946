"""Published keys: revoked and announced."""

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.models import SshKey


async def revoke_key(parts: PortalContext, fingerprint: str, *, by: str) -> None:
    """Put a key out of force, for good, and announce it.

    :raises NotFound: no such key.
    :raises BadRequest: it is the portal's own.
    """
    key = await SshKey.get_or_none(fingerprint=fingerprint)
    if key is not None and key.name == str(parts.config.name):
        raise BadRequest("the portal's own key signs everything and can't be revoked here")
    async with in_transaction("portal"):
        changes = await parts.registry.revoke(fingerprint, by=by)
    parts.registry.announce(changes)
