"""Who may do what at an image server: decided here, asked for by the image server.

- An instance pulls from its own repository, from that of the image it is derived from, and from
  every base. It pushes to its own while the portal wants a save of it, and then to the base that it
  was started from.
- A node pulls every base, and what the instances on it are, or are derived from.
- The portal pulls and deletes everything.
- A person's secret pulls from the one repository that it was made for.

A peer's token names one repository, the verbs, and further repositories to pull from (``sources``):
what it does not name it is not good for.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tortoise.expressions import Q
from tortoise.queryset import QuerySet

from dit4c_p2p.database import in_transaction
from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.tokens import VerifiedToken
from dit4c_p2p.messages.image_access import RepositoryVerb
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.messages.saved_images import SAVED_REGISTRY
from dit4c_p2p.oci.names import (
    BaseRepository,
    InstanceRepository,
    is_repository,
    parse_repository,
)
from dit4c_p2p.oci.reference import is_digest, split_image
from dit4c_p2p.portal.accounts import people
from dit4c_p2p.portal.models import ImageSave, ImageSecret, Instance, Person
from dit4c_p2p.portal.opaque_tokens import digest, new_token

_MAX_SOURCES = 16
# For the countersignature, which is stored beside the image once that is confirmed.
_AFTER_CONFIRMED_S = 300.0
# A secret's last use is written down when the one before is so long ago.
_USED_AGAIN_S = 60.0


@dataclass(frozen=True)
class PeerRights:
    """What a verified token of a peer is good for."""

    peer: PeerName
    repository: str
    verbs: frozenset[str]
    sources: frozenset[str]

    def cover(self, verb: RepositoryVerb, repository: str) -> bool:
        """Whether the token names this."""
        if repository == self.repository:
            return verb in self.verbs
        return verb is RepositoryVerb.PULL and repository in self.sources


@dataclass(frozen=True)
class SecretRights:
    """What a person's secret is good for: pulling ``repository``."""

    person: str
    repository: str


Rights = PeerRights | SecretRights


def rights_of_token(token: VerifiedToken) -> PeerRights | None:
    """What a verified token says that it is for; None: it says nothing proper."""
    repository = token.claims.get("repository")
    verbs, sources = (
        _texts_of_claim(token.claims.get("verbs")),
        _texts_of_claim(token.claims.get("sources", [])),
    )
    if not isinstance(repository, str) or verbs is None or sources is None:
        return None
    names = [repository, *sources]
    if len(sources) > _MAX_SOURCES or not all(is_repository(name) for name in names):
        return None
    return PeerRights(token.issuer, repository, frozenset(verbs), frozenset(sources))


def _texts_of_claim(value: Any) -> list[str] | None:
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return value
    return None


def source_repository(image: str) -> str:
    """The repository of the image that an instance was derived from; empty: of a tool's image."""
    repository, _ = split_image(image) or ("", "")
    host, _, name = repository.partition("/")
    return name if host == SAVED_REGISTRY else ""


class SavedImageAccess:
    """The decisions, from the database as it is."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock

    async def may(self, rights: Rights, verb: RepositoryVerb, repository: str) -> bool:
        """Whether who has these rights may do this now."""
        if isinstance(rights, SecretRights):
            return verb is RepositoryVerb.PULL and repository == rights.repository
        if not rights.cover(verb, repository):
            return False
        try:
            wanted = parse_repository(repository)
        except DitError:
            return False
        match rights.peer.kind:
            case Kind.PORTAL:
                return verb in (RepositoryVerb.PULL, RepositoryVerb.DELETE)
            case Kind.INSTANCE:
                return await self._instance_may(rights.peer.id, verb, wanted)
            case Kind.NODE:
                return await self._node_may(rights.peer, verb, wanted)
        return False

    async def find_secret(self, person: str, secret: str) -> SecretRights | None:
        """What a secret is good for now; None: nothing.

        :param person: the user name that came with it, which has to be the secret's person.
        """
        now = self._clock()
        row = await ImageSecret.get_or_none(digest=digest(secret), revoked_at=None)
        if row is None or row.person_id != person or row.ends_at <= now:
            return None
        owner = await Person.get_or_none(id=row.person_id)
        if owner is None or not people.account_in_force(owner, now):
            return None
        if row.used_at is None or now - row.used_at > _USED_AGAIN_S:
            await ImageSecret.filter(digest=row.digest).update(used_at=now)
        return SecretRights(row.person_id, row.repository)

    async def _instance_may(
        self, id: str, verb: RepositoryVerb, wanted: InstanceRepository | BaseRepository
    ) -> bool:
        instance = await Instance.get_or_none(id=id)
        if instance is None or instance.state in FINAL:
            return False
        if verb is RepositoryVerb.PULL:
            own = wanted == InstanceRepository(id) or str(wanted) == source_repository(
                instance.image
            )
            return own or isinstance(wanted, BaseRepository)
        if verb is not RepositoryVerb.PUSH:
            return False
        if isinstance(wanted, InstanceRepository):
            return wanted.instance == id and bool(await self._open_saves(id).exists())
        return await self._may_push_base(instance, wanted)

    async def _may_push_base(self, instance: Instance, wanted: BaseRepository) -> bool:
        """The image that it was started from, where the portal knows that by its id; where it knows
        the image's name at a registry only, one that the save claims by asking."""
        if source_repository(instance.image):
            return False
        save = await self._open_saves(instance.id).first()
        if save is None:
            return False
        if is_digest(instance.image):
            return instance.image == wanted.image
        if save.base is None:
            async with in_transaction("portal"):
                await ImageSave.filter(id=save.id, base=None).update(base=str(wanted.image))
            save = await ImageSave.get(id=save.id)
        return bool(save.base == wanted.image)

    def _open_saves(self, instance: str) -> QuerySet[ImageSave]:
        just_confirmed = Q(ended_at__gt=self._clock() - _AFTER_CONFIRMED_S, digest__isnull=False)
        return ImageSave.filter(Q(ended_at=None) | just_confirmed, instance_id=instance)

    async def _node_may(
        self, node: PeerName, verb: RepositoryVerb, wanted: InstanceRepository | BaseRepository
    ) -> bool:
        if verb is not RepositoryVerb.PULL:
            return False
        if isinstance(wanted, BaseRepository):
            return True
        here = Instance.filter(node=str(node)).exclude(state__in=[str(state) for state in FINAL])
        derived = here.filter(image__startswith=f"{SAVED_REGISTRY}/{wanted}@")
        return await derived.exists() or await here.filter(id=wanted.instance).exists()


async def create_image_secret(
    person: str, repository: str, *, now: float, lifetime_s: float
) -> str:
    """A secret with which ``person`` pulls one repository for ``lifetime_s``.

    The caller has made sure that the person may, and is in a transaction with its audit line.
    """
    secret = new_token()
    await ImageSecret.create(
        digest=digest(secret),
        person_id=person,
        repository=repository,
        created_at=now,
        ends_at=now + lifetime_s,
    )
    return secret


async def remove_expired_image_secrets(now: float) -> None:
    """Forget those that are not good for anything any more."""
    await ImageSecret.filter(ends_at__lt=now).delete()
