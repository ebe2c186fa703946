"""A file's attributes as the mount keeps them, whichever server they come from."""

import stat
from dataclasses import dataclass

from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.operations import OWN_ID, FileAttrs, SetAttrs, SetMask

SECOND_NS = 1_000_000_000
_MOST_SECONDS = 0xFFFFFFFF


@dataclass(slots=True)
class Attributes:
    """What a server says of one file. Times are nanoseconds since 1970; None: it did not say.

    ``file_id``, ``links`` and ``ctime_ns`` come from servers of this project only, and so do a
    ``uid`` and a ``gid`` other than ``OWN_ID``, the mount's own.
    """

    mode: int = 0
    size: int = 0
    atime_ns: int = 0
    mtime_ns: int = 0
    ctime_ns: int | None = None
    links: int | None = None
    file_id: int | None = None
    blocks: int | None = None
    uid: int = OWN_ID
    gid: int = OWN_ID

    @property
    def is_folder(self) -> bool:
        """Whether it is a directory."""
        return stat.S_ISDIR(self.mode)

    @property
    def is_regular(self) -> bool:
        """Whether it is a regular file."""
        return stat.S_ISREG(self.mode)

    @property
    def kind(self) -> int:
        """The type's bits of ``mode``."""
        return stat.S_IFMT(self.mode)

    def version(self) -> tuple[int, int, int | None]:
        """What differs when the contents may differ."""
        return self.size, self.mtime_ns, self.ctime_ns


@dataclass(slots=True, frozen=True)
class Changes:
    """Attributes to set; None: leave it. ``mode`` is permissions alone."""

    size: int | None = None
    mode: int | None = None
    atime_ns: int | None = None
    mtime_ns: int | None = None
    uid: int | None = None
    gid: int | None = None

    def to_attrs(self, now: Attributes) -> Attrs:
        """For version 3, which has whole seconds, and both times or none."""
        atime = mtime = None
        if self.atime_ns is not None or self.mtime_ns is not None:
            atime = _seconds_for_mount_attributes(
                now.atime_ns if self.atime_ns is None else self.atime_ns
            )
            mtime = _seconds_for_mount_attributes(
                now.mtime_ns if self.mtime_ns is None else self.mtime_ns
            )
        return Attrs(size=self.size, mode=self.mode, atime=atime, mtime=mtime)

    def to_set_attrs(self) -> SetAttrs:
        """For a server of this project."""
        mask = SetMask(0)
        for flag, value in (
            (SetMask.SIZE, self.size),
            (SetMask.MODE, self.mode),
            (SetMask.ATIME, self.atime_ns),
            (SetMask.MTIME, self.mtime_ns),
            (SetMask.UID, self.uid),
            (SetMask.GID, self.gid),
        ):
            if value is not None:
                mask |= flag
        return SetAttrs(
            *(mask, self.size or 0, self.mode or 0, self.atime_ns or 0, self.mtime_ns or 0),
            *(self.uid or 0, self.gid or 0),
        )


def from_attrs(attrs: Attrs) -> Attributes:
    """What version 3 says, with whole seconds; a missing field is 0."""
    return Attributes(
        mode=attrs.mode or 0,
        size=attrs.size or 0,
        atime_ns=(attrs.atime or 0) * SECOND_NS,
        mtime_ns=(attrs.mtime or 0) * SECOND_NS,
    )


def from_file_attrs(attrs: FileAttrs) -> Attributes:
    """What a server of this project says."""
    return Attributes(
        attrs.mode,
        attrs.size,
        attrs.atime_ns,
        attrs.mtime_ns,
        attrs.ctime_ns,
        attrs.nlink,
        attrs.file_id,
        attrs.blocks,
        attrs.uid,
        attrs.gid,
    )


def _seconds_for_mount_attributes(time_ns: int) -> int:
    return min(max(time_ns // SECOND_NS, 0), _MOST_SECONDS)
