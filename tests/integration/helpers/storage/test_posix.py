"""What POSIX says of each call, by several users: the mount does what a local disk does.

Each script runs on the mount and in a local folder. What docs/storage.md excludes is not in them:
device nodes.
"""

import errno
import os
import stat

import pytest
from lib.posix_scripts import (
    KINDS,
    NAME_MAX,
    NOW,
    OMIT,
    Recorder,
    chmod,
    chown,
    fchmod,
    fchown,
    follow,
    ftruncate,
    lchown,
    link,
    listing,
    make,
    mkdir,
    mkfifo,
    mknod,
    opened,
    read,
    readlink,
    recorded,
    rename,
    reserve,
    rmdir,
    show,
    symlink,
    truncate,
    unlink,
    used_after,
    utimens,
    write,
    write_to_running,
)
from systems.storage_mount import needs_fuse

pytestmark = needs_fuse

ADA, BOB, EVE = 65533, 65534, 65532
ACCESS = (os.O_RDONLY, os.O_WRONLY, os.O_RDWR)


# ---- errors of paths, of every call


def calls(r, name):
    """Every call that takes one path, with it."""
    for operation, *more in (
        (show,),
        (opened, os.O_RDONLY),
        (opened, os.O_CREAT | os.O_WRONLY),
        (mkdir,),
        (mkfifo,),
        (mknod, stat.S_IFREG | 0o644),
        (chmod, 0o600),
        (chown, ADA, ADA),
        (lchown, ADA, ADA),
        (truncate, 1),
        (utimens, (1, 2), (3, 4)),
        (readlink,),
        (unlink,),
        (rmdir,),
    ):
        yield operation, name, *more


def path_errors(r: Recorder):
    r.do(make, "file")
    r.do(symlink, "loop", "loop")
    r.do(make, "dir", "dir")
    long = "n" * (NAME_MAX + 1)
    for bad in ("file/x", "none/x", "loop/x", long, f"{long}/x", "d/" * 2100 + "x"):
        for one in calls(r, bad):
            r.do(*one)
        for one, other in ((bad, "other"), ("file", bad)):
            r.do(link, one, other)
            r.do(rename, one, other)
        r.do(symlink, "target", bad)
    r.do(opened, "loop", os.O_RDONLY)
    r.do(chmod, "loop", 0o600)
    r.do(truncate, "loop", 0)
    r.do(show, "file")
    r.do(listing, "")


def longest_names(r: Recorder):
    longest = "n" * NAME_MAX
    for kind in KINDS:
        r.do(make, longest, kind)
        r.do(rename, longest, "short")
        r.do(rename, "short", "m" * NAME_MAX)
        r.do(show, "m" * NAME_MAX)
        r.do(rmdir if kind == "dir" else unlink, "m" * NAME_MAX)
    r.do(symlink, "t" * 4095, "far")
    r.do(symlink, "t" * 4096, "too far")
    r.do(symlink, "", "nowhere")


def no_search_and_no_write(r: Recorder):
    """EACCES: no search permission on the way, no write permission in the folder."""
    r.do(make, "dir", "dir")
    r.do(chown, "dir", ADA, ADA)
    r.do(make, "dir/file", user=ADA)
    r.do(make, "dir/folder", "dir", user=ADA)
    for mode in (0o644, 0o555, 0o755):
        r.do(chmod, "dir", mode, user=ADA)
        for user in (ADA, BOB):
            for one in calls(r, "dir/file"):
                r.do(*one, user=user)
            for one in calls(r, "dir/new"):
                r.do(*one, user=user)
            r.do(make, "dir/file", user=ADA)
            r.do(rename, "dir/file", "dir/other", user=user)
            r.do(link, "dir/file", "dir/second", user=user)
            r.do(symlink, "target", "dir/link", user=user)
            r.do(rmdir, "dir/folder", user=user)
            r.do(listing, "dir", user=user)
            r.do(make, "dir/folder", "dir", user=ADA)
    r.do(chmod, "dir", 0o755)
    r.do(listing, "dir")


# ---- modes and owners


def modes(r: Recorder):
    for kind in ("regular", "dir", "fifo", "socket"):
        r.do(make, kind, kind)
        r.do(symlink, kind, f"to-{kind}")
        for mode in (0o111, 0o7777, 0o4755, 0o1777, 0):
            r.changed([kind, ""], chmod, kind, mode)
            r.do(show, kind)
        r.do(chmod, f"to-{kind}", 0o640)
        r.do(show, kind)
        r.do(chown, kind, ADA, ADA)
        r.changed([kind], chmod, kind, 0o600, user=BOB)
        r.do(chmod, kind, 0o6755, user=ADA)
        r.do(show, kind)
        r.do(chown, kind, ADA, BOB)
        r.do(chmod, kind, 0o2755, user=ADA)
        r.do(show, kind)
        r.do(chmod, kind, 0o2755, user=ADA, groups=[BOB])
        r.do(show, kind)
        r.do(chmod, kind, 0o1644, user=ADA)
        r.do(show, kind)
    r.do(fchmod, "regular", 0o444)
    r.do(show, "regular")


def set_id_bits_go_with_a_change(r: Recorder):
    """What others write or give away has no set-id bits afterwards."""
    for change, *more in (
        (write,),
        (truncate, 1),
        (ftruncate, 1),
        (chown, ADA, EVE),
        (chown, -1, -1),
    ):
        for mode in (0o6777, 0o2777, 0o4777):
            for user in (0, ADA, BOB):
                r.do(make, "file")
                r.do(chown, "file", ADA, ADA)
                r.do(chmod, "file", mode)
                r.do(change, "file", *more, user=user, groups=[EVE])
                r.do(show, "file")
                r.do(unlink, "file")


def owners(r: Recorder):
    for kind in KINDS:
        r.do(make, kind, kind)
        r.do(symlink, kind, f"to-{kind}")
        r.do(show, kind)
        for uid, gid in ((ADA, BOB), (-1, EVE), (0, -1), (0, 0), (ADA, ADA)):
            r.changed([kind, ""], lchown, kind, uid, gid)
            r.do(show, kind)
        r.do(chown, f"to-{kind}", BOB, BOB)
        r.do(follow, f"to-{kind}")
        r.do(show, f"to-{kind}")
        r.do(lchown, f"to-{kind}", EVE, EVE)
        r.do(show, f"to-{kind}")
        r.do(lchown, kind, ADA, ADA)
        r.changed([kind], lchown, kind, ADA, EVE, user=ADA, groups=[EVE])
        r.do(show, kind)
        r.changed([kind], lchown, kind, ADA, BOB, user=ADA, groups=[EVE])
        r.do(lchown, kind, BOB, -1, user=ADA, groups=[BOB])
        r.do(lchown, kind, BOB, BOB, user=BOB)
        r.do(lchown, kind, -1, -1, user=BOB)
        r.do(lchown, kind, -1, -1, user=ADA)
        r.do(show, kind)
        r.do(rename, kind, "moved")
        r.do(show, "moved")
        r.do(rmdir if kind == "dir" else unlink, "moved")
        r.do(make, kind, kind)
        r.do(show, kind)
    r.do(fchown, "regular", ADA, BOB)
    r.do(show, "regular")
    r.do(link, "regular", "second")
    r.do(show, "second")
    r.do(unlink, "regular")
    r.do(show, "second")


def who_makes_it_owns_it(r: Recorder):
    r.do(chmod, "", 0o777)
    r.do(make, "shared", "dir")
    r.do(chown, "shared", EVE, EVE)
    r.do(chmod, "shared", 0o2777)
    for kind in KINDS:
        r.do(make, kind, kind, 0o6755, user=ADA, group=BOB)
        r.do(show, kind)
        r.do(make, f"shared/{kind}", kind, 0o755, user=ADA, group=BOB)
        r.do(show, f"shared/{kind}")
    r.do(make, "shared/dir/file", user=ADA)
    r.do(show, "shared/dir/file")
    r.do(opened, "regular", os.O_CREAT | os.O_WRONLY, user=BOB)
    r.do(show, "regular")


def permissions(r: Recorder):
    """Open, by owner, group and others, at every mode."""
    r.do(make, "file")
    r.do(chown, "file", ADA, EVE)
    for bits in range(8):
        for shift in (6, 3, 0):
            r.do(chmod, "file", bits << shift)
            for user, groups in ((ADA, ()), (BOB, (EVE,)), (BOB, ())):
                for flags in ACCESS:
                    r.do(opened, "file", flags, user=user, groups=groups)
                r.do(opened, "file", os.O_RDONLY | os.O_TRUNC, user=user, groups=groups)
                r.do(truncate, "file", 0, user=user, groups=groups)


# ---- names


def new_names(r: Recorder):
    """What is there already, what a creation changes, and the umask."""
    for kind in KINDS:
        r.changed([""], make, kind, kind)
        r.do(show, kind)
        r.do(show, "")
        for other in KINDS:
            r.do(make, kind, other)
        r.do(mknod, kind, stat.S_IFREG | 0o600)
        r.do(link, "regular", kind)
        r.do(opened, kind, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
        r.do(opened, kind, os.O_RDONLY | os.O_NOFOLLOW)
        r.do(opened, kind, os.O_RDONLY | os.O_DIRECTORY)
        for flags in ACCESS:
            r.do(opened, kind, flags)
        r.changed([kind, ""], rmdir if kind == "dir" else unlink, kind)
    before = os.umask(0o027)
    try:
        for kind in ("regular", "dir", "fifo"):
            r.do(make, kind, kind, 0o777)
            r.do(show, kind)
    finally:
        os.umask(before)


def hard_links(r: Recorder):
    r.do(make, "folder", "dir")
    for kind in KINDS:
        r.do(make, kind, kind)
        r.changed([kind, "", "folder"], link, kind, f"folder/{kind}")
        r.do(show, f"folder/{kind}")
        r.do(show, kind)
        if kind != "dir":
            r.do(lchown, f"folder/{kind}", ADA, BOB)
            r.do(show, kind)
            r.changed([f"folder/{kind}", "", "folder"], unlink, kind)
            r.do(show, f"folder/{kind}")
        r.do(link, kind, "again")
    r.do(link, "folder/regular", "folder/fifo")


def removals(r: Recorder):
    r.do(make, "full", "dir")
    r.do(make, "full/inner", "dir")
    for kind in KINDS:
        r.do(make, kind, kind)
        r.do(rmdir if kind != "dir" else unlink, kind)
    r.do(rmdir, "full")
    r.do(rmdir, "full/.")
    r.do(rmdir, "full/inner/..")
    r.changed(["full", ""], rmdir, "full/inner")
    r.do(show, "full")
    r.do(unlink, "full")
    r.do(rmdir, "full")
    r.do(rmdir, "full")


def sticky(r: Recorder):
    """In a sticky folder only who owns the file or the folder renames and removes."""
    r.do(chmod, "", 0o777)
    r.do(make, "plain", "dir", 0o777)
    r.do(chmod, "plain", 0o777)
    r.do(make, "sticky", "dir")
    r.do(chmod, "sticky", 0o1777)
    for kind in KINDS:
        for folder_owner in (ADA, BOB, EVE):
            for file_owner in (ADA, BOB, EVE):
                r.do(lchown, "sticky", folder_owner, folder_owner)
                r.do(make, "sticky/file", kind)
                r.do(lchown, "sticky/file", file_owner, file_owner)
                r.do(rename, "sticky/file", "plain/file", user=ADA)
                r.do(rename, "plain/file", "sticky/file")
                r.do(make, "plain/file", kind, user=ADA)
                r.do(rename, "plain/file", "sticky/file", user=ADA)
                for one in ("sticky/file", "plain/file"):
                    r.do(show, one)
                    r.do(rmdir if kind == "dir" else unlink, one, user=ADA)
                    r.do(rmdir if kind == "dir" else unlink, one)


def renames(r: Recorder):
    r.do(make, "from", "dir")
    r.do(make, "to", "dir")
    for kind in KINDS:
        for other in (*KINDS, None):
            r.do(make, "from/one", kind)
            if other is not None:
                r.do(make, "to/two", other)
            r.changed(["from", "to", "from/one", "to/two"], rename, "from/one", "to/two")
            for name in ("from", "to", "from/one", "to/two"):
                r.do(show, name)
            for name in ("from/one", "to/two"):
                r.do(unlink, name)
                r.do(rmdir, name)
    r.do(make, "file")
    r.do(link, "file", "second")
    r.do(rename, "file", "second")
    r.do(show, "file")
    r.do(rename, "from", "from/inner")
    r.do(make, "to/inner", "dir")
    r.do(rename, "from", "to")
    r.do(rename, "to", "from")
    r.do(listing, "from")
    r.do(rename, "from/.", "x")
    r.do(rename, "from/inner/..", "x")
    r.do(rename, "from/inner", ".")
    # A folder that is moved changes: its ".." is another.
    r.do(make, "a", "dir")
    r.do(make, "b", "dir")
    r.do(make, "a/own", "dir")
    for name in ("a", "b"):
        r.do(chown, name, ADA, ADA)
    r.do(rename, "a/own", "b/own", user=ADA)
    r.do(rename, "a/own", "a/renamed", user=ADA)
    r.do(listing, "a")


# ---- contents


def lengths(r: Recorder):
    r.do(make, "file")
    r.do(write, "file", b"0123456789")
    for operation in (truncate, ftruncate):
        for size in (4, 10, 100_000, 0, 5, 2**31 + 1, 2**32 + 1, 3):
            r.changed(["file"], operation, "file", size)
            r.do(show, "file")
            r.do(read, "file")
        r.do(operation, "file", -1)
    r.do(ftruncate, "file", 1, os.O_RDONLY)
    r.do(make, "folder", "dir")
    r.do(make, "fifo", "fifo")
    for name in ("folder", "fifo"):
        r.do(truncate, name, 1)
    r.do(chown, "file", ADA, ADA)
    r.do(chmod, "file", 0o644)
    r.changed(["file"], truncate, "file", 9, user=BOB)
    r.changed(["file"], opened, "file", os.O_WRONLY | os.O_TRUNC)
    r.changed(["file"], opened, "file", os.O_WRONLY | os.O_TRUNC)
    r.changed(["file", ""], opened, "file", os.O_WRONLY | os.O_CREAT)
    r.do(reserve, "file", 0, 5000)
    r.do(reserve, "file", 6000, 100)
    r.do(show, "file")
    r.do(reserve, "file", 0, 0)
    r.do(reserve, "file", -1, 5)
    r.do(write, "file", b"more", os.O_WRONLY | os.O_APPEND)
    r.do(show, "file")


def running_programs(r: Recorder):
    def open_for_writing(r, name):
        return opened(r, name, os.O_WRONLY)

    def cut(r, name):
        return truncate(r, name, 3)

    for number, how in enumerate((open_for_writing, cut, unlink)):
        r.do(write_to_running, f"program{number}", how)


def names_of_open_files(r: Recorder):
    """An open file goes on, whatever happens to its name."""
    for number, (how, *names) in enumerate(
        (
            (unlink, "one"),
            (rename, "other", "one"),
            (rename, "one", "other"),
            (link, "one", "second"),
            (chmod, "one", 0),
            (truncate, "one", 2),
        )
    ):
        folder = f"open{number}"
        r.do(make, folder, "dir")
        paths = [f"{folder}/{name}" if isinstance(name, str) else name for name in names]
        for name in ("one", "other"):
            r.do(make, f"{folder}/{name}")
            r.do(write, f"{folder}/{name}", name.encode())
        r.do(used_after, f"{folder}/one", how, *paths)
        for name in ("one", "other", "second"):
            r.do(show, f"{folder}/{name}")
            r.do(read, f"{folder}/{name}")
        r.do(listing, folder)


def times(r: Recorder):
    exact, later = (1_234_567_890, 123_456_789), (4_102_444_800, 1)
    for kind in KINDS:
        r.do(make, kind, kind)
        for links in (False, True):
            if kind == "symlink" and not links:
                continue
            for one, other in (
                (exact, later),
                ((0, OMIT), exact),
                (later, (0, OMIT)),
                ((0, NOW), (0, OMIT)),
                (exact, (0, NOW)),
                ((0, OMIT), (0, OMIT)),
                ((0, NOW), (0, NOW)),
                ((1, 0), (2, 0)),
                ((-5, 0), (0, 999_999_999)),
                ((0, 10**9), (0, 0)),
            ):
                r.do(utimens, kind, one, other, links=links)
        r.changed([kind, ""], utimens, kind, exact, exact, links=True)
    r.do(chmod, "regular", 0o666)
    r.do(chown, "regular", ADA, ADA)
    for user in (ADA, BOB):
        for mode in (0o666, 0o444):
            r.do(chmod, "regular", mode)
            for one, other in (
                (exact, exact),
                ((0, NOW), (0, NOW)),
                ((0, NOW), (0, OMIT)),
                ((0, OMIT), (0, OMIT)),
                ((0, OMIT), later),
            ):
                r.do(utimens, "regular", one, other, user=user)
    r.do(make, "written")
    r.do(utimens, "written", exact, exact)
    r.changed(["written"], write, "written")


SCRIPTS = [
    path_errors,
    longest_names,
    no_search_and_no_write,
    modes,
    set_id_bits_go_with_a_change,
    owners,
    who_makes_it_owns_it,
    permissions,
    new_names,
    hard_links,
    removals,
    sticky,
    renames,
    lengths,
    running_programs,
    names_of_open_files,
    times,
]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.__name__)
def test_the_mount_does_what_a_local_disk_does(script, mounted, base):
    assert recorded(script, mounted) == recorded(script, base)


def test_devices_are_refused(mounted):
    for kind in (stat.S_IFCHR, stat.S_IFBLK):
        with pytest.raises(PermissionError) as refused:
            os.mknod(mounted / "device", kind | 0o600, os.makedev(1, 3))
        assert refused.value.errno == errno.EPERM
