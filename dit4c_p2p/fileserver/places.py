"""Where a path leads: a directory that is held open, and a name in it.

The path is resolved beneath the tree's folder by the kernel (``openat2``) when it is used. What
works on the name afterwards takes a single name relative to the open directory and follows no link.
"""

import errno
import os
import stat
from collections.abc import Iterable

from dit4c_p2p.fileserver.layout import Folder, Parts, View, VirtualFolder, split_session_path
from dit4c_p2p.fileserver.leases import Session
from dit4c_p2p.fileserver.syscalls import BENEATH, Resolve, open_beneath, os_error

_MAX_LINKS = 40
_DIRECTORY = os.O_PATH | os.O_DIRECTORY


class Place:
    """A name in a directory; used as a context, which closes the directory.

    :ivar folder: the folder of a tree that it is in.
    :ivar directory: descriptor of the directory, open for paths only.
    :ivar directory_id: its file id.
    :ivar name: the name; empty: the folder itself is meant, and ``directory`` is that folder.
    """

    __slots__ = ("directory", "directory_id", "folder", "name", "parts")

    def __init__(
        self, folder: Folder, directory: int, directory_id: int, name: bytes, parts: Parts
    ) -> None:
        self.folder = folder
        self.directory = directory
        self.directory_id = directory_id
        self.name = name
        self.parts = parts

    def __enter__(self) -> "Place":
        return self

    def __exit__(self, *error: object) -> None:
        if self.directory != self.folder.fd:
            os.close(self.directory)
        self.folder.leave()

    def status(self) -> os.stat_result:
        """What is there now, a link not followed.

        :raises OSError: ENOENT, or another.
        """
        if not self.name:
            return os.fstat(self.directory)
        return os.stat(self.name, dir_fd=self.directory, follow_symlinks=False)

    def status_or_none(self) -> os.stat_result | None:
        """The same; None if nothing is there."""
        try:
            return self.status()
        except FileNotFoundError:
            return None

    def directory_status(self) -> os.stat_result:
        """Of the directory that the name is in."""
        return os.fstat(self.directory)

    def open(self, flags: int, mode: int = 0) -> int:
        """Open what is there; a link is not followed.

        :raises OSError: ELOOP for a link, or another.
        """
        flags |= os.O_NOFOLLOW
        if not flags & os.O_PATH:  # openat2(2) takes no other flags beside that
            flags |= os.O_NOCTTY
        return open_beneath(
            *(self.directory, self.name, flags, mode), BENEATH | Resolve.NO_SYMLINKS
        )

    def require_name(self) -> None:
        """:raises OSError: EBUSY, the folder itself is meant, which stays where it is."""
        if not self.name:
            raise os_error(errno.EBUSY)

    @property
    def parents(self) -> tuple[int, ...]:
        """The directory whose lease covers what is there; none for the folder itself."""
        return (self.directory_id,) if self.name else ()


def locate(
    session: Session, view: View, path: bytes, *, through_links: bool
) -> Place | VirtualFolder:
    """Find the place of a path.

    :param through_links: whether directories on the way may be links.
    :raises OSError: a directory on the way is missing, is none, or leads out of its folder.
    :raises LeaseConflict: another session may have changed the way.
    """
    found = view.find(split_session_path(path))
    if isinstance(found, VirtualFolder):
        return found
    folder, parts = found
    folder.enter()
    try:
        return _locate_for_places(session, folder, parts, through_links=through_links)
    except BaseException:
        folder.leave()
        raise


def _locate_for_places(
    session: Session, folder: Folder, parts: Parts, *, through_links: bool
) -> Place:
    if not parts:
        return Place(folder, folder.fd, folder.file_id, b"", parts)
    above = parts[:-1]
    if above and folder.tree.leases.writers_but(session):
        check_way(session, folder, above)
    if not above:
        return Place(folder, folder.fd, folder.file_id, parts[-1], parts)
    resolve = BENEATH if through_links else BENEATH | Resolve.NO_SYMLINKS
    directory = open_beneath(folder.fd, b"/".join(above), _DIRECTORY, resolve=resolve)
    return Place(folder, directory, os.fstat(directory).st_ino, parts[-1], parts)


def check_way(session: Session, folder: Folder, parts: Iterable[bytes]) -> None:
    """Read each directory on the way as far as leases are concerned, before the kernel does.

    :raises LeaseConflict: another session may change one behind our back.
    """
    leases = folder.tree.leases
    waiting, done = list(parts), list[bytes]()
    links = 0
    descriptor = os.dup(folder.fd)
    try:
        while waiting:
            leases.begin(session, (os.fstat(descriptor).st_ino,))
            name = waiting.pop(0)
            try:
                inner = open_beneath(descriptor, name, os.O_PATH | os.O_NOFOLLOW, resolve=BENEATH)
            except OSError:
                return  # whoever resolves the path is told
            status = os.fstat(inner)
            if stat.S_ISLNK(status.st_mode):
                target = os.readlink(b"", dir_fd=inner)
                os.close(inner)
                links += 1
                if target.startswith(b"/") or links > _MAX_LINKS:
                    return
                waiting = [*split_session_path(b"/".join([*done, target])), *waiting]
                done = []
                inner = os.dup(folder.fd)
            else:
                done.append(name)
            os.close(descriptor)
            descriptor = inner
    finally:
        os.close(descriptor)


def follow_link(session: Session, place: Place) -> Place:
    """The place that a link at ``place`` leads to; ``place`` has been closed afterwards.

    :raises OSError: it leads nowhere, out of its folder, or in a circle.
    :raises LeaseConflict: another session may have changed the way.
    """
    folder = place.folder
    folder.enter()
    try:
        with place:
            target = open_beneath(folder.fd, b"/".join(place.parts), os.O_PATH)
        try:
            # Where the kernel has come to. This only says which names to look at next: those are
            # resolved beneath the folder again.
            real, root = _path_of_for_places(target), _path_of_for_places(folder.fd)
        finally:
            os.close(target)
        if real == root:
            return _locate_for_places(session, folder, (), through_links=False)
        if not real.startswith(root + b"/"):
            raise os_error(errno.ENOENT)
        parts = split_session_path(real[len(root) + 1 :])
        return _locate_for_places(session, folder, parts, through_links=False)
    except BaseException:
        folder.leave()
        raise


def _path_of_for_places(descriptor: int) -> bytes:
    return os.readlink(f"/proc/self/fd/{descriptor}".encode())  # noqa: PTH115
