"""The file page's use cases: a person's session at the right file server, each act written down."""

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

import asyncssh

from dit4c_p2p.messages.grants import FolderGrant
from dit4c_p2p.messages.snapshot_names import SNAPSHOTS
from dit4c_p2p.portal.context import PortalContext
from dit4c_p2p.portal.errors import Forbidden, NotFound, Unavailable
from dit4c_p2p.portal.storage import file_actions
from dit4c_p2p.portal.storage.paths import FilePath, checked_name


@dataclass(frozen=True)
class Place:
    """A path within one of a person's folders: the grant, and the file server that is its home."""

    path: FilePath
    grant: FolderGrant
    server: str

    @property
    def below(self) -> tuple[bytes, ...]:
        """The names below the folder of the grant."""
        return self.path.names[self.grant.path.count("/") + 1 :]

    @property
    def is_past(self) -> bool:
        """Whether it is in a snapshot, or the folder of the snapshots."""
        return self.below[:1] == (SNAPSHOTS,)

    @property
    def snapshot(self) -> bytes | None:
        """The name of the snapshot that it is in."""
        return self.below[1] if self.is_past and len(self.below) > 1 else None

    @property
    def live(self) -> FilePath:
        """Where that which is in a snapshot was when the snapshot was made."""
        top = self.path.names[: len(self.path.names) - len(self.below)]
        return FilePath((*top, *self.below[2 if self.is_past else 0 :]))

    @property
    def writable(self) -> bool:
        """Whether the person may change something there."""
        return self.grant.write and not self.is_past

    @property
    def is_top(self) -> bool:
        """Whether it is the folder of the grant itself, which can't be renamed or deleted."""
        return self.path.text == f"/{self.grant.path}"


async def find_place(parts: PortalContext, person: str, path: FilePath) -> Place:
    """Where a path of a person's is.

    :raises NotFound: in none of the person's folders.
    :raises Unavailable: there is no file server.
    """
    names = tuple(name.decode(errors="replace") for name in path.names)
    for placed in await parts.grants.folders_of(person):
        prefix = tuple(placed.grant.path.split("/"))
        if names[: len(prefix)] == prefix:
            if placed.server is None:
                raise Unavailable("there is no file server yet", hint="ask an admin")
            return Place(path, placed.grant, placed.server)
    raise NotFound("there is no such folder", hint="your folders are on the page Files")


def check_writable(place: Place) -> None:
    """:raises Forbidden: the person may only read there."""
    if place.is_past:
        raise Forbidden(
            "snapshots can't be changed", hint="restore what you need, then change that"
        )
    if not place.grant.write:
        raise Forbidden(
            "you may only read this folder",
            hint="ask a manager of the group for the right to write",
        )


@contextlib.asynccontextmanager
async def session(
    parts: PortalContext, person: str, place: Place
) -> AsyncIterator[asyncssh.SFTPClient]:
    """A session of the person's at the place's file server; see :meth:`FileServers.session`."""
    async with parts.file_servers.session(place.server, person) as sftp:
        yield sftp


async def make_folder(parts: PortalContext, person: str, folder: Place, name: bytes) -> None:
    """A new folder in ``folder``."""
    check_writable(folder)
    path = folder.path.child(checked_name(name))
    await parts.audit.record_required("files.mkdir", who=person, about=path.text)
    async with session(parts, person, folder) as sftp:
        await file_actions.make_folder(sftp, path)


async def rename(parts: PortalContext, person: str, folder: Place, old: bytes, new: bytes) -> None:
    """Give something in ``folder`` another name."""
    check_writable(folder)
    before, after = folder.path.child(checked_name(old)), folder.path.child(checked_name(new))
    about = f"{before.text} to {after.text}"
    await parts.audit.record_required("files.rename", who=person, about=about)
    async with session(parts, person, folder) as sftp:
        await file_actions.rename(sftp, before, after)


async def delete(parts: PortalContext, person: str, folder: Place, name: bytes) -> None:
    """Remove something in ``folder``, with everything in it."""
    check_writable(folder)
    path = folder.path.child(checked_name(name))
    await parts.audit.record_required("files.delete", who=person, about=path.text)
    async with session(parts, person, folder) as sftp:
        await file_actions.delete(sftp, path)


async def check_upload(
    parts: PortalContext, person: str, folder: Place, relative: FilePath, *, replace: bool
) -> None:
    """Raise what :func:`upload` would, as far as it can be known before."""
    check_writable(folder)
    path = FilePath((*folder.path.names, *relative.names))
    if replace or not relative.names:
        return
    async with session(parts, person, folder) as sftp:
        await file_actions.check_free(sftp, path)


async def upload(
    parts: PortalContext,
    person: str,
    folder: Place,
    relative: FilePath,
    contents: AsyncIterator[bytes],
    *,
    replace: bool,
) -> int:
    """Store a file below ``folder``, in folders that are made if need be; returns its size.

    :param relative: the file's path below the folder.
    """
    check_writable(folder)
    path = FilePath((*folder.path.names, *relative.names))
    if not relative.names:
        raise NotFound("there is no file name")
    await parts.audit.record_required("files.upload", who=person, about=path.text)
    async with session(parts, person, folder) as sftp:
        await file_actions.make_folders(sftp, folder.path, path.parent)
        return await file_actions.write(sftp, path, contents, replace=replace)
