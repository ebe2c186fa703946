"""Identities at providers that let people in, each belonging to one person."""

import time
from collections.abc import Callable

from dit4c_p2p.portal.audit import Audit
from dit4c_p2p.portal.errors import Conflict, NotFound
from dit4c_p2p.portal.login.identity import Identity
from dit4c_p2p.portal.models import PersonIdentity
from dit4c_p2p.portal.opaque_tokens import digest, public_id

_MAX_IDENTITIES = 20


class IdentityTaken(Conflict):
    """The identity is another person's; whose is not told."""

    code = "identity_taken"

    def __init__(self, identity: Identity) -> None:
        super().__init__(
            f"{identity.label} belongs to another account of this portal",
            hint="log in with it to use that account, and remove it there first",
        )


class Identities:
    """Everybody's. What changes something works in the caller's transaction."""

    def __init__(self, audit: Audit, *, clock: Callable[[], float] = time.time) -> None:
        self._audit = audit
        self._clock = clock

    async def of(self, person: str) -> list[PersonIdentity]:
        """A person's identities, the oldest first."""
        found: list[PersonIdentity] = await PersonIdentity.filter(person_id=person).order_by(
            "created_at", "digest"
        )
        return found

    async def find(self, identity: Identity) -> PersonIdentity | None:
        """Whose an identity is; its ``person`` is fetched. Provider and subject alone decide."""
        return await PersonIdentity.get_or_none(digest=_identity_digest(identity)).prefetch_related(
            "person"
        )

    async def note_use(self, identity: Identity) -> None:
        """Note that an identity has let its person in, and what it is called now."""
        await PersonIdentity.filter(digest=_identity_digest(identity)).update(
            label=identity.label, used_at=self._clock()
        )

    async def link(self, person: str, identity: Identity) -> PersonIdentity:
        """Let an identity let a person in; again changes nothing.

        :raises IdentityTaken: it is somebody else's.
        :raises Conflict: the person has as many as they may.
        """
        there = await self.find(identity)
        if there is not None:
            if there.person_id != person:
                raise IdentityTaken(identity)
            return there
        if await PersonIdentity.filter(person_id=person).count() >= _MAX_IDENTITIES:
            raise Conflict(f"you have {_MAX_IDENTITIES} identities", hint="remove one first")
        made = await PersonIdentity.create(
            digest=_identity_digest(identity),
            person_id=person,
            provider=identity.provider,
            subject=identity.subject,
            label=identity.label,
            created_at=self._clock(),
        )
        await self._audit.record_required("identity.link", about=_about_identity(made))
        return made

    async def unlink(self, person: str, id: str) -> None:
        """Have one of a person's identities let nobody in any more.

        :param id: its :func:`~dit4c_p2p.portal.opaque_tokens.public_id`.
        :raises NotFound: the person has none such.
        """
        for one in await self.of(person):
            if public_id(one.digest) == id:
                await PersonIdentity.filter(digest=one.digest).delete()
                await self._audit.record_best_effort("identity.unlink", about=_about_identity(one))
                return
        raise NotFound("there is no such identity")


def _identity_digest(identity: Identity) -> str:
    return digest(identity.provider, identity.subject)


def _about_identity(one: PersonIdentity) -> str:
    return f"{one.person_id} {one.provider}:{one.subject[:80]}"
