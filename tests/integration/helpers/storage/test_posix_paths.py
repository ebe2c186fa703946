"""Unusual paths, flags and numbers: the mount does what a local disk does."""

import ctypes
import os
import socket
from pathlib import Path

import pytest
from lib.posix_scripts import (
    KINDS,
    Recorder,
    acting_as,
    chmod,
    chown,
    follow,
    ftruncate,
    link,
    listing,
    make,
    mkdir,
    mkfifo,
    opened,
    read,
    readlink,
    recorded,
    rename,
    rmdir,
    show,
    symlink,
    truncate,
    unlink,
    utimens,
    write,
)
from systems.storage_mount import needs_fuse

pytestmark = needs_fuse

ADA, BOB = 65533, 65534
NOREPLACE, EXCHANGE = 1, 2
_libc = ctypes.CDLL(None, use_errno=True)


def rename2(r, old, new, flags):
    old, new = (r.path(name).encode() for name in (old, new))
    if _libc.renameat2(-100, old, -100, new, flags):
        raise OSError(ctypes.get_errno(), "renameat2")


def bind(r, name):
    """A socket's name, too long for its address but beneath the working directory."""
    before = Path.cwd()
    os.chdir(r.folder)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(name)
    finally:
        os.chdir(before)


def dangling_links(r: Recorder):
    r.do(make, "dir", "dir")
    for name, target in (
        ("to-none", "none"),
        ("to-inner", "dir/inner"),
        ("to-dir", "dir"),
        ("up", "dir/../x"),
    ):
        r.do(symlink, target, name)
    for name in ("to-none", "to-inner", "to-dir", "up"):
        for flags in (
            os.O_CREAT | os.O_EXCL,
            os.O_NOFOLLOW,
            os.O_CREAT | os.O_NOFOLLOW,
            os.O_DIRECTORY,
            os.O_CREAT,
            os.O_TRUNC,
        ):
            r.do(opened, name, flags | os.O_RDWR)
            r.do(opened, name, flags | os.O_RDONLY)
        r.do(show, name)
        r.do(follow, name)
        r.do(mkdir, name)
        r.do(mkfifo, name)
        r.do(truncate, name, 3)
        r.do(chmod, name, 0o601)
        r.do(link, name, f"second-{name}")
        r.do(readlink, f"second-{name}")
        r.do(rename, name, f"moved-{name}")
        r.do(rmdir, f"moved-{name}")
        r.do(unlink, f"moved-{name}")
    r.do(listing, "")
    r.do(listing, "dir")


def trailing_slashes(r: Recorder):
    for kind in KINDS:
        r.do(make, kind, kind)
    r.do(symlink, "dir", "to-dir")
    for name in (*KINDS, "to-dir", "none"):
        slashed = f"{name}/"
        for operation, *more in (
            (show,),
            (opened, os.O_RDONLY),
            (opened, os.O_CREAT | os.O_WRONLY),
            (chmod, 0o750),
            (truncate, 0),
            (readlink,),
            (unlink,),
            (mkfifo,),
            (mkdir,),
            (rmdir,),
        ):
            r.do(operation, slashed, *more)
        r.do(rename, slashed, "other")
        r.do(rename, "other", slashed)
        r.do(link, slashed, "other")
        r.do(symlink, "target", slashed)
        r.do(rename2, slashed, "other", NOREPLACE)
        r.do(listing, "")
    for name in (".", "..", "dir/.", "dir/..", "dir//", "./dir/./"):
        for operation in (mkdir, rmdir, unlink, mkfifo, show):
            r.do(operation, name) if operation is not show else r.do(readlink, name)
    r.do(listing, "")


def renames_with_flags(r: Recorder):
    for flags in (NOREPLACE, EXCHANGE, NOREPLACE | EXCHANGE, 64):
        for kind in (*KINDS, None):
            for other in (*KINDS, None):
                r.do(make, "from", "dir")
                r.do(make, "to", "dir")
                for name, one in (("from/one", kind), ("to/two", other)):
                    if one is not None:
                        r.do(make, name, one)
                r.changed(["from", "to"], rename2, "from/one", "to/two", flags)
                for name in ("from", "to", "from/one", "to/two"):
                    r.do(show, name)
                for name in ("from/one", "to/two"):
                    r.do(unlink, name)
                    r.do(rmdir, name)
    r.do(make, "full", "dir")
    r.do(make, "full/inner", "dir")
    r.do(rename2, "full", "full/inner", EXCHANGE)
    r.do(rename2, "full/inner", "full", EXCHANGE)


def links_of_folders(r: Recorder):
    for number in range(4):
        r.changed([""], make, f"dir{number}", "dir")
        r.do(show, "")
    r.changed(["dir0", "dir1", ""], rename, "dir1", "dir0/inner")
    for name in ("", "dir0", "dir0/inner"):
        r.do(show, name)
    r.changed(["dir0", "dir2"], rename, "dir0/inner", "dir2")
    for name in ("", "dir0", "dir2"):
        r.do(show, name)
    r.do(make, "dir3/x", "dir")
    r.do(rename, "dir0", "dir3/x")
    r.do(show, "dir3")
    r.do(rmdir, "dir3/x")
    r.changed(["dir3"], rmdir, "dir3")
    for number in range(4):
        r.do(rmdir, f"dir{number}")
    r.do(show, "")


def extremes(r: Recorder):
    r.do(make, "file")
    for size in (999_999_999_999_999, 2**63 - 1, 2**40, 0):
        r.do(truncate, "file", size)
        r.do(ftruncate, "file", size)
        r.do(show, "file")
        r.do(truncate, "file", 0)
    for seconds in (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**33, -1):
        r.do(utimens, "file", (seconds, 1), (seconds, 999_999_999))
    for number in (0, 1, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 2):
        r.do(chown, "file", number, number)
        r.do(show, "file")


def removed_while_open(r: Recorder):
    def use(r, name, user=0):
        handle = os.open(r.path(name), os.O_RDWR)
        try:
            os.write(handle, b"0123456789")
            Path(r.path(name)).unlink()
            results = []
            with acting_as(user):
                for one in (
                    lambda: os.ftruncate(handle, 20),
                    lambda: os.fchmod(handle, 0o641),
                    lambda: os.fchown(handle, ADA, BOB),
                    lambda: os.utime(handle, ns=(5, 6)),
                    lambda: os.link(
                        f"/proc/self/fd/{handle}", r.path("again"), follow_symlinks=True
                    ),
                    lambda: os.pwrite(handle, b"x" * 10, 15),
                    lambda: os.pread(handle, 30, 0),
                    lambda: os.fsync(handle),
                    lambda: os.lseek(handle, 0, os.SEEK_END),
                ):
                    try:
                        results.append(one())
                    except OSError as error:
                        results.append(error.errno)
            status = os.fstat(handle)
            return (
                results,
                oct(status.st_mode),
                status.st_uid,
                status.st_gid,
                status.st_size,
                status.st_nlink,
                status.st_mtime_ns != 6,
            )
        finally:
            os.close(handle)

    for number, user in enumerate((0, ADA)):
        r.do(make, f"file{number}", "regular", 0o666)
        r.do(use, f"file{number}", user)
    r.do(listing, "")


def flags_of_open(r: Recorder):
    r.do(make, "dir", "dir")
    r.do(make, "file")
    r.do(mkfifo, "fifo")
    r.do(bind, "socket")
    r.do(bind, "socket")
    r.do(bind, "dir/socket")
    r.do(show, "socket")
    for name in ("dir", "file", "fifo", "socket", "new"):
        for access in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
            for flags in (
                0,
                os.O_APPEND,
                os.O_TRUNC,
                os.O_APPEND | os.O_TRUNC,
                os.O_DIRECTORY,
                os.O_CREAT | os.O_DIRECTORY,
                os.O_SYNC,
                os.O_NOATIME,
                os.O_PATH,
                os.O_CREAT,
            ):
                r.do(opened, name, access | flags)
                r.do(opened, name, access | flags, user=ADA)
        r.do(unlink, "new")
    r.do(write, "file", b"abc", os.O_WRONLY | os.O_APPEND)
    r.do(write, "file", b"de", os.O_WRONLY)
    r.do(write, "file", b"fg", os.O_WRONLY | os.O_APPEND | os.O_TRUNC)
    r.do(read, "file")
    r.do(write, "file", b"x", os.O_RDONLY)


SCRIPTS = [
    dangling_links,
    trailing_slashes,
    renames_with_flags,
    links_of_folders,
    extremes,
    removed_while_open,
    flags_of_open,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_mount_does_what_a_local_disk_does(script, mounted, base):
    assert recorded(script, mounted) == recorded(script, base)
