"""Which folders a peer sees at a file server; :mod:`dit4c_p2p.messages.grants` has the records.

- An instance sees its person's ``private``, its own ``instance`` and its person's groups. On a node
  that another person owns it sees ``instance`` alone until its person has consented to that owner.
- A person sees ``private``, the folders of their instances, and their groups, while their account
  is in force.
- A discarded instance sees nothing. Its folder is kept for a time, in which its person sees it.

A closed account keeps what its running instances see: what was started goes on. Of a
deleted account the portal alone sees ``private``, to remove what is in it; its instances see
nothing.
"""

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.messages.grants import Creator, FolderGrant, Grants, TreeQuota
from dit4c_p2p.messages.instances import FINAL
from dit4c_p2p.portal.accounts import groups, people
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.models import Instance, Person
from dit4c_p2p.portal.storage.consent import may_open_files
from dit4c_p2p.portal.storage.homes import Defaults, homes, tree_of_group, tree_of_person

# The newest are listed; nobody looks through more folders of instances.
_MAX_INSTANCES = 1000


@dataclass(frozen=True)
class PlacedFolder:
    """A granted folder, and the id of the file server where it is; None: there is none."""

    grant: FolderGrant
    server: str | None

    @property
    def is_own(self) -> bool:
        """Whether it is the person's ``private``, whose quota is the one of all their files."""
        return self.grant.path == "private"


class StorageGrants:
    """Answers file servers; each is told of the trees alone that it is the home of.

    :param kept_s: how long a discarded instance's folder is kept.
    """

    def __init__(
        self, defaults: Defaults, kept_s: float, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._defaults = defaults
        self._kept_s = kept_s
        self._clock = clock

    async def creator(self, server: str, instance_id: str) -> Creator:
        """Caller created an instance.

        :param server: the id of the file server that asks.
        :raises NotFound: no such instance, or its person's home is another file server.
        """
        instance = await self._instance(server, instance_id)
        return Creator(
            instance=str(PeerName(Kind.INSTANCE, instance.id)),
            user=str(PeerName(Kind.USER, instance.owner_id)),
        )

    async def of_instance(self, server: str, instance_id: str) -> Grants:
        """What an instance sees at a file server.

        A server that is the home of one of its groups is told of the group's folder alone.

        :raises NotFound: no such instance, or the server has nothing to do with it.
        """
        instance = await Instance.get_or_none(id=instance_id)
        if instance is None:
            raise _no_such_instance()
        tree = tree_of_person(instance.owner_id)
        own = FolderGrant(path="instance", tree=tree, folder=f"instances/{instance.id}", write=True)
        name = str(PeerName(Kind.INSTANCE, instance.id))
        if instance.state in FINAL:
            await self._check_home(server, tree)
            return Grants(peer=name, delete_after=instance.changed_at + self._kept_s)
        owner = await Person.get(id=instance.owner_id)
        if owner.deleted_at is not None:
            await self._check_home(server, tree)
            return Grants(peer=name, delete_after=owner.deleted_at)
        folders = [own]
        if await may_open_files(instance):
            folders.append(FolderGrant(path="private", tree=tree, folder="private", write=True))
            folders += await _shared(instance.owner_id)
        granted = await self._at(server, name, folders)
        if not granted.folders:
            raise _no_such_instance()
        return granted

    async def of_person(self, server: str, person_id: str) -> Grants:
        """What a person sees at a file server; nothing while their account is not in force.

        :raises NotFound: no such person.
        """
        person, now = await Person.get_or_none(id=person_id), self._clock()
        if person is None:
            raise NotFound("there is no such person")
        name = str(PeerName(Kind.USER, person.id))
        if person.deleted_at is not None:
            # No key logs this person in any more: the portal alone acts for them, and removes.
            removing = person.files_removed_at is None
            return await self._at(server, name, [_private(person.id)] if removing else [])
        if not people.account_in_force(person, now):
            return Grants(peer=name)
        folders = await self._folders_of(person.id)
        return await self._at(server, name, folders, ends_at=person.ends_at)

    async def folders_of(self, person: str) -> list[PlacedFolder]:
        """All folders of a person, at whichever file server they are."""
        folders = await self._folders_of(person)
        found = await homes((folder.tree for folder in folders), self._defaults)
        return [PlacedFolder(folder, found[folder.tree].server) for folder in folders]

    # ---- inside

    async def _folders_of(self, person: str) -> list[FolderGrant]:
        tree = tree_of_person(person)
        folders = [_private(person)]
        for instance in await self._kept_instances(person, self._clock()):
            folder = f"instances/{instance}"
            folders.append(FolderGrant(path=folder, tree=tree, folder=folder, write=True))
        return folders + await _shared(person)

    async def _at(
        self,
        server: str,
        peer: str,
        folders: Iterable[FolderGrant],
        *,
        ends_at: float | None = None,
    ) -> Grants:
        """The part of ``folders`` whose home the server is."""
        found = await homes((folder.tree for folder in folders), self._defaults)
        here = [folder for folder in folders if found[folder.tree].server == server]
        trees = dict.fromkeys(folder.tree for folder in here)
        return Grants(
            peer=peer,
            folders=here,
            quotas=[TreeQuota(tree=tree, bytes=found[tree].quota_bytes) for tree in trees],
            ends_at=ends_at,
        )

    async def _instance(self, server: str, id: str) -> Instance:
        instance = await Instance.get_or_none(id=id)
        if instance is None:
            raise _no_such_instance()
        await self._check_home(server, tree_of_person(instance.owner_id))
        return instance

    async def _check_home(self, server: str, tree: str) -> None:
        if (await homes([tree], self._defaults))[tree].server != server:
            raise _no_such_instance()

    async def _kept_instances(self, person: str, now: float) -> list[str]:
        """The ids of a person's instances whose folders are still kept, the newest first."""
        rows = Instance.filter(owner_id=person).order_by("-created_at").limit(_MAX_INSTANCES)
        kept_since = now - self._kept_s
        return [
            row.id
            for row in await rows.only("id", "state", "changed_at")
            if row.state not in FINAL or row.changed_at > kept_since
        ]


async def _shared(person: str) -> list[FolderGrant]:
    return [
        FolderGrant(
            path=f"shared/{member.group_id}",
            tree=tree_of_group(member.group_id),
            folder="",
            write=member.writes,
        )
        for member in await groups.memberships_of_person(person)
    ]


def _private(person: str) -> FolderGrant:
    return FolderGrant(path="private", tree=tree_of_person(person), folder="private", write=True)


def _no_such_instance() -> NotFound:
    return NotFound("there is no such instance")
