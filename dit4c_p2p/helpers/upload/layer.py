"""What an app has written → an OCI layer (image-spec, "layer.md"), the same bytes each time.

The entries come sorted by name, a folder before what is in it; times are whole seconds; owners are
numbers. Deleted files, which overlayfs keeps as character devices 0/0, become ``.wh.`` entries, and
folders that hide what was below them get a ``.wh..wh..opq``. The app's volumes are part of it: each
hides what the image had at that place.

Left out is what is not the app's: all below ``/mnt``, the files that the engine makes in each
container, and sockets.
"""

# Names are bytes here, which pathlib does not take.
# ruff: noqa: PTH115, PTH208

import os
import stat
import struct
import tarfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from dit4c_p2p.errors import DitError
from dit4c_p2p.oci.manifest import MAX_ENTRIES, MAX_IMAGE_BYTES

BLOCK = 512
_END = bytes(2 * BLOCK)
_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_OPAQUE_MARKS = ("trusted.overlay.opaque", "user.overlay.opaque")
# A layer with one of these is a patch to the one below it, which can't be told in a tar.
_PATCHES = (
    "trusted.overlay.redirect",
    "trusted.overlay.metacopy",
    "user.overlay.redirect",
    "user.overlay.metacopy",
)
_NOT_THE_APPS = frozenset({b"etc/hosts", b"etc/hostname", b"etc/resolv.conf", b".dockerenv"})
_STAMP = struct.Struct("<QQQq")
_KEPT_EMPTY = frozenset({b"mnt", b"proc", b"sys", b"dev"})
# What the app's own programs have set; ACLs and file capabilities are among them.
_KEPT_XATTRS = (
    "user.",
    "security.capability",
    "system.posix_acl_access",
    "system.posix_acl_default",
)


class LayerFailed(DitError):
    """The layer can't be told as a tar; ``code`` says why."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Part:
    """Some bytes of the tar: ``head``, then ``size`` bytes of the file ``path``, then padding.

    ``offset`` is where in the file these bytes begin. ``stamp`` changes whenever the file does.
    """

    head: bytes
    path: bytes = b""
    size: int = 0
    offset: int = 0
    stamp: bytes = b""

    @property
    def length(self) -> int:
        """How many bytes of the tar that is."""
        return len(self.head) + self.size + -self.size % BLOCK


def layer_parts(
    root: Path | None, volumes: Mapping[str, Path], *, live: bool = False
) -> Iterator[Part]:
    """Everything of the layer, in order, the tar's end included.

    :param root: the writable layer; None: the engine tells that, ``/mnt`` included. Then the
        volumes are wanted, and a mark that hides what is below ``/mnt``.
    :param volumes: by the absolute path in the app's file system.
    :param live: the app runs; files that vanish during the walk are left out.
    :raises LayerFailed: too much, or not to be told as a tar.
    :raises OSError: it can't be read.
    """
    targets = {os.fsencode(target.strip("/")): source for target, source in volumes.items()}
    walk = _Walk(targets, live=live)
    if root is not None:
        yield from walk.folder(os.fsencode(root), b"")
    else:
        yield from walk.hidden(b"mnt")
    for target, source in sorted(walk.volumes.items()):
        yield from walk.volume(target, source)
    yield Part(_END)


def measure_layer(root: Path | None, volumes: Mapping[str, Path]) -> tuple[int, int]:
    """How many bytes the tar has, and how many entries.

    :raises LayerFailed: too much, or not to be told as a tar.
    """
    size = entries = 0
    for part in layer_parts(root, volumes):
        size += part.length
        entries += 1
        if size > MAX_IMAGE_BYTES:
            limit = MAX_IMAGE_BYTES // 1024**3
            raise LayerFailed("too_large", f"it has more than {limit} GiB of files of its own")
    return size, entries - 1


class _Walk:
    """One walk over everything."""

    def __init__(self, volumes: Mapping[bytes, Path], *, live: bool = False) -> None:
        self.volumes = volumes
        self._live = live
        self._entries = 0
        # By device and inode: the name that the first of several links had.
        self._links: dict[tuple[int, int], bytes] = {}

    def volume(self, target: bytes, source: Path) -> Iterator[Part]:
        """A volume, in the place where the app saw it."""
        path = os.fsencode(source)
        yield self._entry(target, path, os.lstat(path))
        yield self._mark(target + b"/" + _OPAQUE)
        yield from self.folder(path, target)

    def folder(self, path: bytes, name: bytes) -> Iterator[Part]:
        """What is in the folder at ``path``, which the app sees as ``name``."""
        for child in sorted(os.listdir(path)):
            try:
                yield from self._child(path, name, child)
            except (FileNotFoundError, NotADirectoryError):
                if not self._live:
                    raise

    def _child(self, path: bytes, name: bytes, child: bytes) -> Iterator[Part]:
        child_path = path + b"/" + child
        child_name = name + b"/" + child if name else child
        if child_name in _NOT_THE_APPS or (child_name in self.volumes and name != child_name):
            return
        about = os.lstat(child_path)
        if stat.S_ISCHR(about.st_mode) and about.st_rdev == 0:
            yield self._mark((name + b"/" if name else b"") + _WHITEOUT + child)
            return
        if child.startswith(_WHITEOUT):
            raise LayerFailed(
                "bad_name", "a file's name begins with .wh., which an image can't hold"
            )
        if stat.S_ISSOCK(about.st_mode) or stat.S_ISCHR(about.st_mode):
            return
        if stat.S_ISBLK(about.st_mode):
            return
        yield self._entry(child_name, child_path, about)
        if not stat.S_ISDIR(about.st_mode):
            return
        if _is_opaque_for_layer(child_path):
            yield self._mark(child_name + b"/" + _OPAQUE)
        if child_name not in _KEPT_EMPTY:
            yield from self.folder(child_path, child_name)

    def hidden(self, name: bytes) -> Iterator[Part]:
        """An empty folder, whatever the layers below have in it."""
        self._count()
        entry = tarfile.TarInfo(os.fsdecode(name))
        entry.type, entry.mode = tarfile.DIRTYPE, 0o755
        yield Part(_encoded_for_layer(entry))
        yield self._mark(name + b"/" + _OPAQUE)

    def _mark(self, name: bytes) -> Part:
        """An empty file with a meaning."""
        self._count()
        entry = tarfile.TarInfo(os.fsdecode(name))
        entry.mode = 0
        return Part(_encoded_for_layer(entry))

    def _entry(self, name: bytes, path: bytes, about: os.stat_result) -> Part:
        self._count()
        entry = tarfile.TarInfo(os.fsdecode(name))
        entry.mode = stat.S_IMODE(about.st_mode)
        entry.uid, entry.gid = about.st_uid, about.st_gid
        entry.mtime = int(about.st_mtime)
        link = self._linked(name, about)
        if link:
            entry.type, entry.linkname = tarfile.LNKTYPE, os.fsdecode(link)
            return Part(_encoded_for_layer(entry))
        entry.pax_headers = _xattrs_for_layer(path)
        match stat.S_IFMT(about.st_mode):
            case stat.S_IFDIR:
                entry.type = tarfile.DIRTYPE
            case stat.S_IFLNK:
                entry.type, entry.linkname = tarfile.SYMTYPE, os.fsdecode(os.readlink(path))
            case stat.S_IFIFO:
                entry.type = tarfile.FIFOTYPE
            case _:
                entry.size = about.st_size
                return Part(
                    _encoded_for_layer(entry), path, about.st_size, 0, _stamp_for_layer(about)
                )
        return Part(_encoded_for_layer(entry))

    def _linked(self, name: bytes, about: os.stat_result) -> bytes:
        """The first name of a file that has several; empty for the first, or the only one."""
        if about.st_nlink < 2 or stat.S_ISDIR(about.st_mode):
            return b""
        first = self._links.setdefault((about.st_dev, about.st_ino), name)
        return b"" if first == name else first

    def _count(self) -> None:
        self._entries += 1
        if self._entries > MAX_ENTRIES:
            raise LayerFailed("too_many", f"it has more than {MAX_ENTRIES:,} files of its own")


def changed_ns(stamp: bytes) -> int:
    """When a file was changed last (``st_ctime``, which no program can set), from its stamp."""
    return int(_STAMP.unpack(stamp)[-1])


def _stamp_for_layer(about: os.stat_result) -> bytes:
    return _STAMP.pack(about.st_dev, about.st_ino, about.st_size, about.st_ctime_ns)


def _encoded_for_layer(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _is_opaque_for_layer(path: bytes) -> bool:
    names = os.listxattr(path, follow_symlinks=False)
    if any(name in _PATCHES for name in names):
        raise LayerFailed("patched", "the engine keeps its writable layer as a patch")
    return any(
        mark in names and os.getxattr(path, mark, follow_symlinks=False) == b"y"
        for mark in _OPAQUE_MARKS
    )


def _xattrs_for_layer(path: bytes) -> dict[str, str]:
    """In the form that GNU tar, star and the engines have agreed upon."""
    kept = {}
    for name in sorted(os.listxattr(path, follow_symlinks=False)):
        if name in _PATCHES:
            raise LayerFailed("patched", "the engine keeps its writable layer as a patch")
        if name.startswith("user.overlay.") or not name.startswith(_KEPT_XATTRS):
            continue
        value = os.getxattr(path, name, follow_symlinks=False)
        kept[f"SCHILY.xattr.{name}"] = value.decode("utf-8", "surrogateescape")
    return kept
