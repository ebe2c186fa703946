"""The file page's use cases of snapshots: what there is of a folder, and restoring from it."""

from dataclasses import dataclass

from dit4c_p2p.messages.snapshot_names import SNAPSHOTS, snapshot_time
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import NotFound
from dit4c_p2p.portal.services.files import Place, check_writable, session
from dit4c_p2p.portal.storage import file_actions, restoring
from dit4c_p2p.portal.storage.paths import FilePath


@dataclass(frozen=True)
class FileVersion:
    """A folder as it was: ``at`` in seconds since 1970, ``path`` in the snapshot."""

    at: float
    path: FilePath


@dataclass(frozen=True)
class Restorable:
    """What is about to be restored.

    :ivar at: when the snapshot was made, in seconds since 1970.
    :ivar item: what it is, in the snapshot.
    :ivar there: what is in its place now.
    """

    at: float
    item: file_actions.Item
    there: file_actions.Item | None


async def file_versions(parts: PortalContext, person: str, folder: Place) -> list[FileVersion]:
    """The snapshots that hold a folder, the newest first."""
    top = FilePath(folder.live.names[: folder.grant.path.count("/") + 1])
    below = folder.live.names[len(top.names) :]
    kept = top.child(SNAPSHOTS)
    async with session(parts, person, folder) as sftp:
        try:
            items = await file_actions.list_folder(sftp, kept)
        except NotFound:
            return []
        found = [
            FileVersion(at, FilePath((*kept.names, item.name, *below)))
            for item in items
            if (at := snapshot_time(item.name)) is not None
        ]
        there = await restoring.existing(sftp, [one.path for one in found])
    return sorted((one for one in found if one.path in there), key=lambda one: -one.at)


async def restorable_version(parts: PortalContext, person: str, place: Place) -> Restorable:
    """What is at a path in a snapshot, and what restoring it would replace.

    :raises NotFound: it is no path in a snapshot, or nothing is there.
    :raises Forbidden: the person may only read there.
    """
    at = _check_snapshot(place)
    async with session(parts, person, place) as sftp:
        item = await file_actions.look_at(sftp, place.path)
        try:
            there = await file_actions.look_at(sftp, place.live)
        except NotFound:
            there = None
    return Restorable(at, item, there)


async def restore_version(
    parts: PortalContext, person: str, place: Place, *, replace: bool
) -> None:
    """Copy a file or a folder from a snapshot to where it was.

    :param replace: whether what is there now may go.
    :raises Conflict: something is there, and it may not.
    """
    _check_snapshot(place)
    about = f"{place.path.text} to {place.live.text}"
    await parts.audit.record_required("files.restore", who=person, about=about)
    async with session(parts, person, place) as sftp:
        await restoring.restore(sftp, place.path, place.live, replace=replace)


def _check_snapshot(place: Place) -> float:
    at = snapshot_time(place.snapshot or b"")
    if at is None or len(place.below) < 3:
        raise NotFound("there is no such page")
    check_writable(Place(place.live, place.grant, place.server))
    return at
