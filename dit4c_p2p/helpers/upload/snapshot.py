"""A copy of what an app has written, made while the app runs, as a layer of one moment.

    rounds      files are copied while the app runs, until little is left to copy
    finish      the app is paused: what has changed since is copied, and the list of all parts
                of the layer is written
    stored      the layer is read from the copy, as often as it is asked for

The content of files is in one file (:data:`_CONTENT`). A file is copied again if its stamp has
changed. A page that a program has mapped and written to may change without a new stamp until it is
flushed; so a round that copies flushes the file systems first, and leaves out what was written to
since. A round that finds little to copy ends the rounds and flushes nothing: that would write the
copy itself to the disk, and everything that has changed is copied in the pause.
"""

# Names are bytes here, which pathlib does not take.
# ruff: noqa: PTH123

import ctypes
import errno
import os
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from dit4c_p2p.helpers.upload.layer import LayerFailed, Part, changed_ns, layer_parts
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.upload import ScanAnswer
from dit4c_p2p.oci.manifest import MAX_IMAGE_BYTES

_CONTENT = "content"
_PARTS = "parts"
_COMPLETE = "complete"
# Of each part: the length of its head, where its content is, and how long that is.
_RECORD = struct.Struct("<IQQ")
# The kernel's coarse clock, by which files are stamped, is at most this late.
_CLOCK_NS = 100_000_000
# A pause that has to copy this much is as short as the pausing itself.
LITTLE_BYTES = 4 * 1024**2
MAX_ROUNDS = 5
_ROUND_S = 0.2
# What is left free on the machine's disk.
_KEEP_FREE_BYTES = 1024**3
_COPY_BYTES = 64 * 1024**2
_READ_BYTES = 1024**2
_NO_RANGE = frozenset({errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM})


class Snapshot:
    """A copy in the folder ``folder``.

    :param root, volumes: as :func:`~dit4c_p2p.helpers.upload.layer.layer_parts` takes them.
    :param say: told how many bytes have been copied, and how many there are.
    """

    def __init__(
        self,
        folder: Path,
        root: Path | None,
        volumes: Mapping[str, Path],
        say: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        self._folder = folder
        self._root = root
        self._volumes = volumes
        self._say = say
        # By the file's path: its stamp, and where its content begins.
        self._copies: dict[bytes, tuple[bytes, int]] = {}
        self._end = 0
        self.changed_bytes = 0

    @property
    def is_complete(self) -> bool:
        """Whether :meth:`finish` has been done, by whichever process."""
        return (self._folder / _COMPLETE).exists()

    def rounds(self) -> None:
        """Copy while the app runs, until a round finds little to copy.

        :raises LayerFailed: too much, no room, or not to be told as a tar.
        :raises OSError: it can't be read or written.
        """
        with open(self._folder / _CONTENT, "wb") as content:
            self._round(content.fileno())
            for _ in range(MAX_ROUNDS - 1):
                time.sleep(_ROUND_S)
                if self._left()[0] <= LITTLE_BYTES:
                    return
                self._round(content.fileno())

    def finish(self) -> None:
        """Copy what has changed and write down all parts; nothing changes meanwhile.

        :raises LayerFailed, OSError: as above.
        """
        size = count = 0
        with (
            open(self._folder / _CONTENT, "r+b") as content,
            open(self._folder / _PARTS, "wb") as listed,
        ):
            for part in layer_parts(self._root, self._volumes):
                offset = self._copied(part)
                if offset is None:
                    offset = self._copy(part, content.fileno())
                    self.changed_bytes += part.size
                listed.write(_RECORD.pack(len(part.head), offset, part.size))
                listed.write(part.head)
                size += part.length
                count += 1
                _check_size_for_copied_snapshot(size)
        answer = ScanAnswer(bytes=size, entries=count - 1)
        temporary = self._folder / f"{_COMPLETE}.new"
        temporary.write_bytes(encode(answer))
        temporary.replace(self._folder / _COMPLETE)

    def _round(self, content: int) -> None:
        """Copy each file that has changed."""
        now = time.time_ns()
        for place in [self._root, *self._volumes.values()]:
            if place is not None:
                _flush_for_copied_snapshot(place)
        left, done = self._left()
        total = left + done
        _check_size_for_copied_snapshot(total)
        _check_room_for_copied_snapshot(self._folder, left)
        for part in layer_parts(self._root, self._volumes, live=True):
            if self._copied(part) is not None or changed_ns(part.stamp) >= now - _CLOCK_NS:
                continue
            try:
                offset = self._copy(part, content)
            except FileNotFoundError:
                continue
            self._copies[part.path] = (part.stamp, offset)
            done += part.size
            self._say(min(done, total), total)

    def _left(self) -> tuple[int, int]:
        """How many bytes have to be copied, and how many were."""
        left = done = 0
        for part in layer_parts(self._root, self._volumes, live=True):
            if self._copied(part) is None:
                left += part.size
            else:
                done += part.size
        return left, done

    def _copied(self, part: Part) -> int | None:
        """Where the content of a file is, if it was copied as it is."""
        if not part.size:
            return 0
        stamp, offset = self._copies.get(part.path, (b"", 0))
        return offset if stamp == part.stamp else None

    def _copy(self, part: Part, content: int) -> int:
        """Append a file's content. One that is shorter by now is filled up with zeros."""
        offset = self._end
        with open(part.path, "rb") as source:
            done = 0
            while done < part.size:
                wanted = min(_COPY_BYTES, part.size - done)
                copied = _copy_some_for_copied_snapshot(
                    source.fileno(), content, done, offset + done, wanted
                )
                if copied == 0:
                    break
                done += copied
        self._end = offset + part.size
        os.truncate(content, self._end)
        return offset


def _copy_some_for_copied_snapshot(
    source: int, target: int, start: int, place: int, size: int
) -> int:
    try:
        return os.copy_file_range(source, target, size, start, place)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise
    os.lseek(target, place, os.SEEK_SET)
    return os.sendfile(target, source, start, size)


def _flush_for_copied_snapshot(place: Path) -> None:
    """syncfs(2), which Python does not have."""
    opened = os.open(place, os.O_RDONLY)
    try:
        if ctypes.CDLL(None, use_errno=True).syncfs(opened):
            raise OSError(ctypes.get_errno(), "syncfs failed", str(place))
    finally:
        os.close(opened)


def _check_size_for_copied_snapshot(size: int) -> None:
    if size > MAX_IMAGE_BYTES:
        limit = MAX_IMAGE_BYTES // 1024**3
        raise LayerFailed("too_large", f"it has more than {limit} GiB of files of its own")


def _check_room_for_copied_snapshot(folder: Path, wanted: int) -> None:
    disk = os.statvfs(folder)
    if disk.f_bavail * disk.f_frsize < wanted + _KEEP_FREE_BYTES:
        raise LayerFailed(
            "no_room",
            f"the disk of its machine has no room for a copy of {wanted / 1e6:.0f} MB of files",
        )


def stored_size(folder: Path) -> tuple[int, int]:
    """How many bytes the tar of a complete copy has, and how many entries."""
    answer = decode((folder / _COMPLETE).read_bytes(), ScanAnswer)
    return answer.bytes, answer.entries


def stored_parts(folder: Path) -> Iterator[Part]:
    """The parts of a complete copy, in order."""
    content = os.fsencode(folder / _CONTENT)
    with open(folder / _PARTS, "rb", buffering=_READ_BYTES) as listed:
        while record := listed.read(_RECORD.size):
            length, offset, size = _RECORD.unpack(record)
            yield Part(listed.read(length), content, size, offset)
