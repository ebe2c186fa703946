"""From which saved instance another one was started, as a tree."""

from dataclasses import dataclass

from tortoise.expressions import Q

from dit4c_p2p.messages.kept_files import KEPT_REGISTRY, split_kept
from dit4c_p2p.messages.saved_images import SAVED_REGISTRY, repository_of, split_saved
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.instances.saves import newest_save
from dit4c_p2p.portal.models import ImageSave, Instance

# A tree of more is cut off; a person sees the nearest.
_MOST = 100
_MOST_UP = 130


@dataclass(frozen=True)
class Relative:
    """One instance of a tree. ``parent`` is the id of the one that it was started from, or empty.

    ``name`` and ``owner`` are empty where it is somebody else's. ``depth`` is 0 for the oldest.
    ``save`` is what was saved of it last.
    """

    id: str
    name: str
    owner: str
    parent: str
    depth: int
    state: str
    save: ImageSave | None


async def lineage_of_instance(owner: Caller, instance: Instance) -> list[Relative]:
    """The instance's ancestors and what was started from them, a parent before its children.

    What is somebody else's is in it without its name, and nothing that was started from it.
    """
    oldest = instance
    for _ in range(_MOST_UP):
        above = await _ancestors_of_instance(oldest)
        # One that has gone on elsewhere is of its own checkpoint.
        if above is None or above.id == oldest.id:
            break
        oldest = above
    found: list[Relative] = []
    waiting: list[tuple[Instance, int]] = [(oldest, 0)]
    while waiting and len(found) < _MOST:
        one, depth = waiting.pop(0)
        found.append(await _relative_of_instance(owner, one, depth))
        below = await Instance.filter(
            Q(image__startswith=f"{SAVED_REGISTRY}/{repository_of(one.id)}@")
            | Q(image__startswith=f"{KEPT_REGISTRY}/{one.id}/"),
            ~Q(id=one.id),
            owner_id=owner.id,
        ).order_by("created_at")
        waiting[:0] = [(child, depth + 1) for child in below]
    return found


async def _ancestors_of_instance(instance: Instance) -> Instance | None:
    if kept := split_kept(instance.image):
        return await Instance.get_or_none(id=kept[0])
    saved = split_saved(instance.image)
    if saved is None:
        return None
    return await Instance.get_or_none(id=saved[0].rpartition("/")[2])


async def _relative_of_instance(owner: Caller, one: Instance, depth: int) -> Relative:
    mine = one.owner_id == owner.id
    above = split_saved(one.image)
    return Relative(
        id=one.id if mine else "",
        name=one.name if mine else "",
        owner=one.owner_id if mine else "",
        parent="" if above is None else above[0].rpartition("/")[2],
        depth=depth,
        state=one.state if mine else "",
        save=await newest_save(one.id),
    )
