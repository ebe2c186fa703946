"""Scripts of file system calls by several users, whose outcome on two file systems is compared.

A script takes a :class:`Recorder` and does the same in any folder: what each step returned or
failed with is written down, and the records of a reference and of the file system under test have
to be equal.
"""

import contextlib
import ctypes
import errno
import os
import platform
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_libc = ctypes.CDLL(None, use_errno=True)
# setgroups(2) of the calling thread alone; glibc's changes all threads.
_SETGROUPS = {"x86_64": 116, "aarch64": 159}.get(platform.machine())

KINDS = ("regular", "dir", "fifo", "socket", "symlink")
NAME_MAX = 255


@contextlib.contextmanager
def acting_as(user: int, group: int | None = None, groups: Sequence[int] = ()) -> Iterator[None]:
    """The thread's file system calls are those of a user without any privilege."""
    if user == 0 and group is None:
        yield
        return
    assert _SETGROUPS is not None, "unknown machine"
    before = os.getgroups()
    _set_groups(groups)
    _libc.setfsgid(user if group is None else group)
    _libc.setfsuid(user)
    try:
        yield
    finally:
        _libc.setfsuid(0)
        _libc.setfsgid(0)
        _set_groups(before)


def _set_groups(groups: Sequence[int]) -> None:
    numbers = (ctypes.c_uint32 * max(1, len(groups)))(*groups)
    assert _libc.syscall(_SETGROUPS, len(groups), numbers) == 0


def _next_tick() -> None:
    """Wait until times of files that are taken from now on are later than those before."""
    clock = 5  # CLOCK_REALTIME_COARSE, which files are stamped by
    start = time.clock_gettime_ns(clock)
    while time.clock_gettime_ns(clock) == start:
        time.sleep(0.001)


class Recorder:
    """Carries out steps in a folder, and writes down what comes of them.

    :ivar lines: what was written down.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lines: list[str] = []

    def path(self, name: str) -> str:
        """Where a name of the script is."""
        return f"{self.folder}/{name}"

    def do(self, operation: Callable[..., Any], *names: Any, user: int = 0, **more: Any) -> Any:
        """Carry out ``operation(recorder, *names)`` as a user; returns its result or errno."""
        group, groups = more.pop("group", None), more.pop("groups", ())
        try:
            with acting_as(user, group, groups):
                result = operation(self, *names, **more)
        except OSError as error:
            result = errno.errorcode[error.errno or 0]
        shown = ", ".join(str(name)[:40] for name in names)
        who = f" by {user}" if user else ""
        self.lines.append(f"{operation.__name__}({shown}){who} = {result}")
        return result

    def changed(
        self, watched: Sequence[str], operation: Callable[..., Any], *names: Any, **more: Any
    ) -> None:
        """The same, and write down which times of which files it changed."""

        def times(name: str) -> tuple[int, int] | None:
            try:
                status = os.lstat(self.path(name))
            except OSError:
                return None
            return status.st_mtime_ns, status.st_ctime_ns

        before = {name: times(name) for name in watched}
        _next_tick()
        self.do(operation, *names, **more)
        for name in watched:
            after, first = times(name), before[name]
            if after is None or first is None:
                self.lines.append(f"  {name}: there {first is not None}, {after is not None}")
            else:
                newer = [after[one] > first[one] for one in (0, 1)]
                self.lines.append(f"  {name}: mtime {newer[0]}, ctime {newer[1]}")


def recorded(script: Callable[[Recorder], None], folder: Path) -> list[str]:
    """Run a script in a new folder of its name below ``folder``; what was written down."""
    recorder = Recorder(folder / script.__name__)
    recorder.folder.mkdir()
    script(recorder)
    return recorder.lines


# ---- operations


def make(r: Recorder, name: str, kind: str = "regular", mode: int = 0o644) -> None:
    """Make a file of any kind."""
    path = r.path(name)
    if kind == "regular":
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode))
    elif kind == "dir":
        os.mkdir(path, mode)
    elif kind == "fifo":
        os.mkfifo(path, mode)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | mode)
    elif kind == "symlink":
        os.symlink("target", path)


def mknod(r: Recorder, name: str, mode: int) -> None:
    os.mknod(r.path(name), mode)


def show(r: Recorder, name: str) -> str:
    """Attributes, a link not followed."""
    return _shown(os.lstat(r.path(name)))


def follow(r: Recorder, name: str) -> str:
    """Attributes, a link followed."""
    return _shown(os.stat(r.path(name)))


def _shown(one: os.stat_result) -> str:
    mode = one.st_mode if not stat.S_ISLNK(one.st_mode) else stat.S_IFLNK
    size = one.st_size if stat.S_ISREG(one.st_mode) else 0
    return f"{mode:o} uid {one.st_uid} gid {one.st_gid} links {one.st_nlink} size {size}"


def chmod(r: Recorder, name: str, mode: int) -> None:
    os.chmod(r.path(name), mode)


def chown(r: Recorder, name: str, uid: int, gid: int) -> None:
    os.chown(r.path(name), uid, gid)


def lchown(r: Recorder, name: str, uid: int, gid: int) -> None:
    os.lchown(r.path(name), uid, gid)


def link(r: Recorder, old: str, new: str) -> None:
    os.link(r.path(old), r.path(new), follow_symlinks=False)


def symlink(r: Recorder, target: str, name: str) -> None:
    os.symlink(target, r.path(name))


def readlink(r: Recorder, name: str) -> str:
    return os.readlink(r.path(name))


def mkdir(r: Recorder, name: str, mode: int = 0o755) -> None:
    os.mkdir(r.path(name), mode)


def mkfifo(r: Recorder, name: str, mode: int = 0o644) -> None:
    os.mkfifo(r.path(name), mode)


def rmdir(r: Recorder, name: str) -> None:
    os.rmdir(r.path(name))


def unlink(r: Recorder, name: str) -> None:
    os.unlink(r.path(name))


def rename(r: Recorder, old: str, new: str) -> None:
    os.rename(r.path(old), r.path(new))


def truncate(r: Recorder, name: str, size: int) -> None:
    os.truncate(r.path(name), size)


def listing(r: Recorder, name: str) -> list[str]:
    return sorted(os.listdir(r.path(name)))


def opened(r: Recorder, name: str, flags: int, mode: int = 0o644) -> None:
    """Open and close."""
    os.close(os.open(r.path(name), flags | os.O_NONBLOCK, mode))


def write(r: Recorder, name: str, data: bytes = b"data", flags: int = os.O_WRONLY) -> None:
    """Open, write, close."""
    descriptor = os.open(r.path(name), flags)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def read(r: Recorder, name: str) -> bytes:
    """Contents."""
    descriptor = os.open(r.path(name), os.O_RDONLY)
    try:
        return os.read(descriptor, 100)
    finally:
        os.close(descriptor)


def ftruncate(r: Recorder, name: str, size: int, flags: int = os.O_RDWR) -> None:
    descriptor = os.open(r.path(name), flags)
    try:
        os.ftruncate(descriptor, size)
    finally:
        os.close(descriptor)


def fchmod(r: Recorder, name: str, mode: int) -> None:
    descriptor = os.open(r.path(name), os.O_RDONLY)
    try:
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def fchown(r: Recorder, name: str, uid: int, gid: int) -> None:
    descriptor = os.open(r.path(name), os.O_RDONLY)
    try:
        os.fchown(descriptor, uid, gid)
    finally:
        os.close(descriptor)


def reserve(r: Recorder, name: str, offset: int, length: int) -> None:
    descriptor = os.open(r.path(name), os.O_RDWR)
    try:
        os.posix_fallocate(descriptor, offset, length)
    finally:
        os.close(descriptor)


def write_to_running(r: Recorder, name: str, how: Callable[..., Any]) -> Any:
    """Change a program while it runs: ETXTBSY."""
    import subprocess

    source = Path("/bin/sleep").read_bytes()
    Path(r.path(name)).write_bytes(source)
    os.chmod(r.path(name), 0o755)
    with subprocess.Popen([r.path(name), "30"]) as process:
        try:
            return how(r, name)
        finally:
            process.kill()


def used_after(
    r: Recorder, name: str, how: Callable[..., Any], *more: Any, user: int = 0
) -> list[Any]:
    """Open a file, have ``how`` happen to its name, and go on with the open file."""
    descriptor = os.open(r.path(name), os.O_RDWR)
    try:
        with acting_as(user):
            how(r, *more)
        results: list[Any] = [os.fstat(descriptor).st_nlink]
        os.pwrite(descriptor, b"later", 4)
        os.ftruncate(descriptor, 7)
        os.fchmod(descriptor, 0o600)
        results += [os.pread(descriptor, 100, 0), _shown(os.fstat(descriptor))]
        os.fsync(descriptor)
        return results
    finally:
        os.close(descriptor)


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("ns", ctypes.c_long))


NOW, OMIT = (1 << 30) - 1, (1 << 30) - 2
_NO_FOLLOW = 0x100
_AT_CWD = -100


def utimens(
    r: Recorder, name: str, atime: tuple[int, int], mtime: tuple[int, int], *, links: bool = False
) -> str:
    """utimensat(2); returns the times afterwards, as "now" where they are about that."""
    times = (_Timespec * 2)(_Timespec(*atime), _Timespec(*mtime))
    path = r.path(name).encode()
    if _libc.utimensat(_AT_CWD, path, times, _NO_FOLLOW if links else 0):
        raise OSError(ctypes.get_errno(), "utimensat")
    status = os.stat(path, follow_symlinks=not links)
    return " ".join(
        "now" if abs(one - time.time_ns()) < 20 * 10**9 else str(one)
        for one in (status.st_atime_ns, status.st_mtime_ns)
    )
