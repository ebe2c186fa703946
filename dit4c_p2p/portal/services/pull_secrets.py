"""Secrets with which stock clients pull saved images: made and revoked."""

from yarl import URL

from dit4c_p2p.database import in_transaction
from dit4c_p2p.messages.saved_images import repository_of
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import Conflict, NotFound
from dit4c_p2p.portal.instances.images import create_image_secret
from dit4c_p2p.portal.instances.saves import newest_save
from dit4c_p2p.portal.models import ImageSecret
from dit4c_p2p.portal.opaque_tokens import public_id
from dit4c_p2p.portal.schemas import PullSecretView, time_text

_HOUR_S = 3600.0


async def create_pull_secret(
    parts: PortalContext, who: Caller, id: str, hours: int
) -> PullSecretView:
    """Make a secret for pulling what was saved last of one of the person's instances.

    :raises NotFound: not this person's.
    :raises Conflict: nothing is saved, or no container engine could pull it.
    """
    instance = await parts.instances.get(who, id)
    save = await newest_save(instance.id)
    if save is None:
        raise Conflict("nothing of it has been saved", hint="save it first")
    if not parts.config.imageservers:
        raise Conflict("there is no image server", hint="ask an admin to set one up")
    url = URL(parts.config.imageservers[0].info.url)
    if url.path.strip("/"):
        raise Conflict(
            "the image server is below a path, which container engines know nothing of",
            hint="export it as an archive",
        )
    repository, now = repository_of(instance.id), parts.clock()
    async with in_transaction("portal"):
        secret = await create_image_secret(who.id, repository, now=now, lifetime_s=hours * _HOUR_S)
        await parts.audit.record_required("image.secret", about=f"instance-{instance.id}")
    registry = str(url.origin()).partition("://")[2]  # a usual port is not said
    return PullSecretView(
        registry=registry,
        user=who.id,
        secret=secret,
        image=f"{registry}/{repository}@{save.digest}",
        ends=time_text(now + hours * _HOUR_S),
    )


async def revoke_pull_secret(parts: PortalContext, who: Caller, id: str, secret: str) -> None:
    """End one of the person's secrets for one of their instances.

    :raises NotFound: not this person's instance, or there is no such secret.
    """
    instance = await parts.instances.get(who, id)
    mine = ImageSecret.filter(person_id=who.id, repository=repository_of(instance.id))
    for one in await mine:
        if public_id(one.digest) == secret:
            break
    else:
        raise NotFound("there is no such secret")
    async with in_transaction("portal"):
        await ImageSecret.filter(digest=one.digest, revoked_at=None).update(
            revoked_at=parts.clock()
        )
        await parts.audit.record_required(
            "image.secret_revoke", who=who.id, about=f"instance-{instance.id}"
        )
