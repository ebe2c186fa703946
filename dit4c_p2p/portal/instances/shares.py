"""Links to what was saved: whoever opens one gets a copy of their own, or the archive.

A link is to one save and has an end; its maker can revoke it and sees who used it. It never leads
to the instance itself.
"""

import time
from collections.abc import Callable

from dit4c_p2p.database import in_transaction
from dit4c_p2p.messages.saved_images import repository_of, saved_reference
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import BadRequest, Conflict, NotFound
from dit4c_p2p.portal.instances.instances import Instances
from dit4c_p2p.portal.instances.saves import newest_save
from dit4c_p2p.portal.models import ImageSave, ImageShare, ImageShareUse, Instance
from dit4c_p2p.portal.opaque_tokens import digest, new_token, public_id

MAX_DAYS = 365
_DAY_S = 24 * 3600
_MAX_SHARES = 50


class Shares:
    """What can be done with links to saved instances."""

    def __init__(
        self, instances: Instances, audit: Audit, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._instances = instances
        self._audit = audit
        self._clock = clock

    # ---- by who has saved it

    async def create(self, owner: Caller, id: str, days: int) -> tuple[ImageShare, str]:
        """A link to what was saved last of an instance, and its secret, which is told once.

        :raises NotFound: not this person's.
        :raises BadRequest: not a number of days.
        :raises Conflict: nothing of it is saved, or there are too many links.
        """
        if not 1 <= days <= MAX_DAYS:
            raise BadRequest(f"a link is good for 1 to {MAX_DAYS} days", field="days")
        secret, now = new_token(), self._clock()
        async with in_transaction("portal"):
            instance = await self._instances.get(owner, id)
            save = await newest_save(id)
            if save is None:
                raise Conflict("nothing of it has been saved", hint="save it first")
            in_force = ImageShare.filter(image__instance_id=id, revoked_at=None, ends_at__gt=now)
            if await in_force.count() >= _MAX_SHARES:
                raise Conflict(
                    f"there are {_MAX_SHARES} links to it already", hint="revoke one of them"
                )
            share = await ImageShare.create(
                digest=digest(secret),
                image_id=save.id,
                by_id=owner.id,
                created_at=now,
                ends_at=now + days * _DAY_S,
            )
            about = f"instance-{instance.id} share {public_id(share.digest)}"
            await self._audit.record_required("share.create", who=owner.id, about=about)
        return share, secret

    async def of(self, owner: Caller, id: str) -> list[ImageShare]:
        """The links to an instance's saves, the newest first.

        :raises NotFound: not this person's.
        """
        await self._instances.get(owner, id)
        return await ImageShare.filter(image__instance_id=id).order_by("-created_at")

    async def uses(self, share: ImageShare) -> list[ImageShareUse]:
        """Who used a link, and for what."""
        return await ImageShareUse.filter(share_id=share.digest).order_by("-at").limit(200)

    async def revoke(self, owner: Caller, id: str) -> ImageShare:
        """End a link; asking again changes nothing.

        :param id: its public id.
        :raises NotFound: not this person's.
        """
        async with in_transaction("portal"):
            found = await ImageShare.filter(digest__startswith=id, by_id=owner.id)
            share = next((one for one in found if public_id(one.digest) == id), None)
            if share is None:
                raise NotFound("there is no such link")
            if share.revoked_at is None:
                share.revoked_at = self._clock()
                await share.save(update_fields=["revoked_at"])
                await self._audit.record_required("share.revoke", who=owner.id, about=id)
        return share

    # ---- by whoever has a link

    async def find(self, secret: str) -> tuple[ImageShare, ImageSave, Instance]:
        """What a link is to.

        :raises NotFound: there is no such link, or not any more.
        """
        share = await ImageShare.get_or_none(digest=digest(secret), revoked_at=None)
        if share is not None and share.ends_at > self._clock():
            save = await ImageSave.get(id=share.image_id)
            instance = await Instance.get(id=save.instance_id)
            if save.removed_at is None and save.digest is not None:
                return share, save, instance
        raise NotFound(
            "this link leads nowhere", hint="it may have ended: ask whoever sent it for another"
        )

    async def derive(self, person: Caller, secret: str, name: str = "") -> Instance:
        """A new instance of the person's own that goes on from what the link is to.

        :raises NotFound: there is no such link, or not any more.
        :raises Conflict: the person has as many as they may.
        """
        share, save, source = await self.find(secret)
        reference = saved_reference(repository_of(source.id), str(save.digest))
        made = await self._instances.start_from(person, source, reference, name)
        await self.used(person, share, "copy")
        return made

    async def used(self, person: Caller, share: ImageShare, what: str) -> None:
        """Write down that a person used a link."""
        await ImageShareUse.create(
            share_id=share.digest, person_id=person.id, what=what, at=self._clock()
        )
        about = f"{public_id(share.digest)} {what}"
        await self._audit.record_best_effort("share.use", who=person.id, about=about)
