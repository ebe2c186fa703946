"""The mount over a stock SFTP server: what programs do with files, through the kernel."""

import contextlib
import errno
import fcntl
import mmap
import os
import random
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from systems.storage_mount import Mount, OwnServer, StockServer, needs_fuse

pytestmark = needs_fuse

MIB = 1024 * 1024


@pytest.fixture(scope="module", params=["stock", "ours"])
def server(request, tmp_path_factory):
    if request.param == "ours":
        server = OwnServer(tmp_path_factory.mktemp("fileserver"))
    else:
        server = StockServer(tmp_path_factory.mktemp("sshd"))
        server.stored = tmp_path_factory.mktemp("stored")
        server.shown = server.stored
        server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def stored(mounted, server):
    """The folder at the server."""
    return server.stored


@pytest.fixture(scope="module")
def mounted(server, tmp_path_factory):
    mount = Mount(server, server.shown, tmp_path_factory.mktemp("mount"))
    yield mount.path
    mount.end()


@pytest.fixture(scope="module")
def elsewhere(server, mounted, tmp_path_factory):
    """The same files by another way; a server of ours has to know who changes them."""
    if isinstance(server, StockServer):
        yield server.stored
        return
    mount = Mount(server, server.shown, tmp_path_factory.mktemp("elsewhere"))
    yield mount.path
    mount.end()


@pytest.fixture
def folder(mounted, request):
    """A folder of its own for each test."""
    path = mounted / request.node.name.replace("/", "_")[:80]
    path.mkdir()
    return path


class AtServer:
    """The folder as it is at the server, with all that was sent behind."""

    def __init__(self, stored, folder):
        self.folder, self.path = folder, stored / folder.name

    def __truediv__(self, name):
        return Path(self) / name

    def __fspath__(self):
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return str(self.path)


def at_server(stored, folder):
    return AtServer(stored, folder)


# ---- single operations, as a table


def rename_over_open(folder, _):
    (folder / "new").write_text("new")
    (folder / "old").write_text("old")
    with (folder / "old").open() as open_file:
        (folder / "new").rename(folder / "old")
        assert open_file.read() == "old"
    assert (folder / "old").read_text() == "new"


def unlink_while_open(folder, _):
    with (folder / "f").open("w+") as open_file:
        (folder / "f").unlink()
        open_file.write("still here")
        open_file.flush()
        open_file.seek(0)
        assert open_file.read() == "still here"
        assert os.fstat(open_file.fileno()).st_size == 10
    assert os.listdir(folder) == []


def append(folder, server_folder):
    for text in ("one", "two", "three"):
        with (folder / "log").open("a") as log:
            log.write(text)
    assert (server_folder / "log").read_text() == "onetwothree"


def exclusive(folder, _):
    (folder / "f").touch()
    with pytest.raises(FileExistsError):
        (folder / "f").open("x")


def truncate_on_open(folder, server_folder):
    (folder / "f").write_text("long contents")
    (folder / "f").write_text("short")
    assert (server_folder / "f").read_text() == "short"


def truncate(folder, server_folder):
    (folder / "f").write_bytes(b"x" * 10_000)
    os.truncate(folder / "f", 5)
    assert (server_folder / "f").read_bytes() == b"xxxxx"
    os.truncate(folder / "f", 8)
    assert (folder / "f").read_bytes() == b"xxxxx\0\0\0"


def hard_link(folder, server_folder):
    (folder / "a").write_text("1")
    os.link(folder / "a", folder / "b")
    (folder / "b").write_text("2")
    assert (folder / "a").read_text() == "2"
    assert (folder / "a").stat().st_ino == (folder / "b").stat().st_ino
    (folder / "a").unlink()
    assert (folder / "b").read_text() == "2"
    assert (server_folder / "b").read_text() == "2"


def symbolic_links(folder, _):
    (folder / "target").write_text("x")
    (folder / "link").symlink_to("target")
    (folder / "dangling").symlink_to("nowhere")
    assert (folder / "link").readlink() == Path("target")
    assert (folder / "link").read_text() == "x"
    assert not (folder / "dangling").exists()
    (folder / "loop").symlink_to("loop")
    with pytest.raises(OSError) as caught:
        (folder / "loop").read_text()
    assert caught.value.errno == errno.ELOOP


def sparse(folder, server_folder):
    with (folder / "f").open("wb") as file:
        file.seek(5 * 1024 * MIB)
        file.write(b"end")
    assert (folder / "f").stat().st_size == 5 * 1024 * MIB + 3
    with (folder / "f").open("rb") as file:
        assert file.read(10) == bytes(10)
        file.seek(5 * 1024 * MIB - 2)
        assert file.read() == b"\0\0end"
    assert (server_folder / "f").stat().st_blocks < 1000
    (folder / "f").unlink()


def memory_map(folder, server_folder):
    (folder / "f").write_bytes(bytes(10_000))
    with (folder / "f").open("r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        mapped[5000:5003] = b"abc"
        mapped.flush()
    assert (server_folder / "f").read_bytes()[5000:5003] == b"abc"


def modes(folder, server_folder):
    (folder / "f").touch()
    for mode in (0o644, 0o400, 0o755, 0o000, 0o4755):
        (folder / "f").chmod(mode)
        assert stat.S_IMODE((folder / "f").stat().st_mode) == mode
        assert stat.S_IMODE((server_folder / "f").stat().st_mode) == mode
    previous = os.umask(0o027)
    try:
        (folder / "g").touch()
        (folder / "d").mkdir()
    finally:
        os.umask(previous)
    assert stat.S_IMODE((folder / "g").stat().st_mode) == 0o640
    assert stat.S_IMODE((server_folder / "d").stat().st_mode) == 0o750


def times(folder, server_folder):
    (folder / "f").write_text("x")
    os.utime(folder / "f", (1_000_000_000, 1_100_000_000))
    assert (folder / "f").stat().st_mtime == 1_100_000_000
    assert (server_folder / "f").stat().st_atime == 1_000_000_000
    (folder / "l").symlink_to("f")
    os.utime(folder / "l", (1, 2), follow_symlinks=False)
    assert (folder / "l").lstat().st_mtime == 2


def owners(folder, _):
    (folder / "f").touch()
    os.chown(folder / "f", os.getuid(), os.getgid())
    os.chown(folder / "f", -1, -1)


def names(folder, server_folder):
    for name in (b"a" * 255, b"\xff\xfe\n", "\u00fcml\u00e4ut".encode(), b" ", b"-rf", b"a\\b"):
        path = folder / os.fsdecode(name)
        path.write_bytes(name)
        assert os.listdir(os.fsencode(folder)) == [name]
        assert (server_folder / os.fsdecode(name)).read_bytes() == name
        path.unlink()
    with pytest.raises(OSError) as caught:
        (folder / ("a" * 300)).touch()
    assert caught.value.errno == errno.ENAMETOOLONG


def full_folder(folder, _):
    (folder / "d").mkdir()
    (folder / "d" / "f").touch()
    with pytest.raises(OSError) as caught:
        (folder / "d").rmdir()
    assert caught.value.errno == errno.ENOTEMPTY
    with pytest.raises(FileExistsError):
        (folder / "d").mkdir()
    with pytest.raises(OSError) as caught:
        (folder / "d").rename(folder / "d" / "e")
    assert caught.value.errno == errno.EINVAL
    (folder / "e").mkdir()
    (folder / "e" / "g").touch()
    with pytest.raises(OSError) as caught:
        (folder / "d").rename(folder / "e")
    assert caught.value.errno == errno.ENOTEMPTY
    (folder / "e" / "g").unlink()
    (folder / "d").rename(folder / "e")
    assert os.listdir(folder / "e") == ["f"]


def rename_open_file_then_write(folder, server_folder):
    with (folder / "a").open("w") as file:
        file.write("before ")
        (folder / "a").rename(folder / "b")
        file.write("after")
    assert (server_folder / "b").read_text() == "before after"


def write_only_and_read_back(folder, _):
    descriptor = os.open(folder / "f", os.O_WRONLY | os.O_CREAT, 0o600)
    os.pwrite(descriptor, b"hello", 100)
    assert (folder / "f").read_bytes() == bytes(100) + b"hello"
    os.close(descriptor)


def dot_entries(folder, _):
    listed = subprocess.run(["ls", "-a", folder], capture_output=True, text=True, check=True)
    assert listed.stdout.split() == [".", ".."]


def statvfs(folder, server_folder):
    assert os.statvfs(folder).f_blocks * os.statvfs(folder).f_frsize > MIB


def locks(folder, _):
    with (folder / "f").open("w") as one, (folder / "f").open("w") as other:
        fcntl.flock(one, fcntl.LOCK_EX)
        with pytest.raises(BlockingIOError):
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


CASES = (
    rename_over_open, unlink_while_open, append, exclusive, truncate_on_open, truncate, hard_link,
    symbolic_links, sparse, memory_map, modes, times, owners, names, full_folder,
    rename_open_file_then_write, write_only_and_read_back, dot_entries, statvfs, locks,
)  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_operation(case, folder, stored):
    case(folder, at_server(stored, folder))


# ---- what only a server of ours can do


def nanoseconds(folder, server_folder):
    (folder / "f").touch()
    os.utime(folder / "f", ns=(1_000_000_001, 1_234_567_890_123_456_789))
    assert (folder / "f").stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert (server_folder / "f").stat().st_atime_ns == 1_000_000_001


def link_counts(folder, _):
    (folder / "a").touch()
    os.link(folder / "a", folder / "b")
    assert (folder / "a").stat().st_nlink == (folder / "b").stat().st_nlink == 2
    with (folder / "a").open() as file:
        (folder / "a").unlink()
        assert os.fstat(file.fileno()).st_nlink == 1
        (folder / "b").unlink()
        assert os.fstat(file.fileno()).st_nlink == 0
    before = folder.stat().st_nlink
    (folder / "d").mkdir()
    assert folder.stat().st_nlink == before + 1


def fifos_and_sockets(folder, _):
    os.mkfifo(folder / "fifo", 0o640)
    assert stat.S_ISFIFO((folder / "fifo").stat().st_mode)
    os.mknod(folder / "socket", stat.S_IFSOCK | 0o600)
    assert stat.S_ISSOCK((folder / "socket").stat().st_mode)
    with pytest.raises(PermissionError):
        os.mknod(folder / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))


def extended_attributes(folder, server_folder):
    (folder / "f").touch()
    os.setxattr(folder / "f", "user.note", b"value")
    assert os.getxattr(folder / "f", "user.note") == b"value"
    assert os.listxattr(folder / "f") == ["user.note"]
    assert os.getxattr(server_folder / "f", "user.note") == b"value"
    os.removexattr(folder / "f", "user.note")
    assert os.listxattr(folder / "f") == []
    with pytest.raises(OSError) as caught:
        os.setxattr(folder / "f", "security.note", b"x")
    assert caught.value.errno == errno.EOPNOTSUPP


def inode_numbers_are_the_servers(folder, server_folder):
    (folder / "f").touch()
    number = (folder / "f").stat().st_ino
    (folder / "f").rename(folder / "g")
    assert (folder / "g").stat().st_ino == number
    (folder / "f").touch()
    assert (folder / "f").stat().st_ino != number


def times_of_change(folder, _):
    (folder / "f").touch()
    for change in (
        lambda: (folder / "f").chmod(0o600),
        lambda: os.chown(folder / "f", os.getuid(), os.getgid()),
        lambda: os.link(folder / "f", folder / "g"),
        lambda: os.truncate(folder / "f", 10),
    ):
        before = (folder / "f").stat().st_ctime_ns
        time.sleep(0.01)  # a step of the file system's clock
        change()
        assert (folder / "f").stat().st_ctime_ns > before


EXACT_CASES = (
    nanoseconds, link_counts, fifos_and_sockets, extended_attributes,
    inode_numbers_are_the_servers, times_of_change,
)  # fmt: skip


def test_a_stock_server_keeps_no_other_owners(server, folder):
    (folder / "f").touch()
    if isinstance(server, StockServer):
        with pytest.raises(PermissionError):
            os.chown(folder / "f", 12345, -1)
        assert (folder / "f").stat().st_uid == os.getuid()


@pytest.mark.parametrize("case", EXACT_CASES, ids=lambda case: case.__name__)
def test_exact_operation(case, server, folder, stored):
    if isinstance(server, StockServer):
        pytest.skip("version 3 of SFTP does not carry it")
    case(folder, at_server(stored, folder))


# ---- whole programs


def run(*argv, cwd, **options):
    return subprocess.run(
        argv, cwd=cwd, check=True, capture_output=True, text=True, timeout=120, **options
    ).stdout


def test_git(folder):
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "gc.auto=0")
    run(*git, "init", "-q", "repository", cwd=folder)
    repository = folder / "repository"
    for number in range(20):
        (repository / f"file{number}").write_text(f"{number}\n" * 100)
    run(*git, "add", ".", cwd=repository)
    run(*git, "commit", "-qm", "first", cwd=repository)
    run(*git, "clone", "-q", repository, folder / "clone", cwd=folder)
    (folder / "clone" / "file1").write_text("changed")
    run(*git, "commit", "-qam", "second", cwd=folder / "clone")
    run(*git, "gc", "-q", cwd=folder / "clone")
    run(*git, "fsck", "--strict", cwd=folder / "clone")
    assert run(*git, "status", "--short", cwd=folder / "clone") == ""


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_sqlite(folder, mode):
    for _ in range(2):
        with contextlib.closing(sqlite3.connect(folder / "db")) as database:
            assert database.execute(f"pragma journal_mode={mode}").fetchone() == (mode,)
            database.execute("create table if not exists t (a integer, b text)")
            for number in range(20):
                with database:
                    database.execute("insert into t values (?, ?)", (number, "x" * 2000))
            assert database.execute("pragma integrity_check").fetchone() == ("ok",)
    with contextlib.closing(sqlite3.connect(folder / "db")) as database:
        assert database.execute("select count(*) from t").fetchone() == (40,)


@pytest.mark.parametrize("engine", ["psync", "mmap"])
def test_fio_verifies_what_it_wrote(folder, engine):
    run(
        *("fio", "--name=verify", "--filename=file", "--rw=randwrite", "--bsrange=4k-64k"),
        *("--size=8m", "--verify=crc32c", f"--ioengine={engine}", "--fallocate=none"),
        cwd=folder,
    )


def test_a_whole_tree_is_copied_and_removed(folder, stored):
    source = Path(os.__file__).parent / "asyncio"
    shutil.copytree(source, folder / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    compared = ("diff", "-r", "-x", "__pycache__", str(source))
    run(*compared, str(folder / "tree"), cwd=folder)
    run(*compared, str(at_server(stored, folder) / "tree"), cwd=folder)
    shutil.rmtree(folder / "tree")
    assert os.listdir(at_server(stored, folder)) == []


def test_a_large_folder_is_listed_whole(folder, elsewhere):
    for number in range(1500):
        (elsewhere / folder.name / f"name{number}").touch()
    assert len(os.listdir(folder)) == 1500
    assert sum(1 for _ in folder.iterdir()) == 1500


# ---- a random tester: the same operations on a file of the mount and on a local one


class Twins:
    """A file of the mount and a local one that are to be the same."""

    MOST = 256 * 1024

    def __init__(self, path, local, seed):
        self.paths = (path, local)
        self.random = random.Random(seed)
        self.files = [os.open(one, os.O_RDWR | os.O_CREAT, 0o644) for one in self.paths]

    def size(self):
        return os.fstat(self.files[1]).st_size

    def span(self):
        start = self.random.randrange(self.MOST)
        return start, self.random.randrange(1, self.random.choice((16, 5000, 70_000)))

    def write(self):
        start, size = self.span()
        data = self.random.randbytes(size)
        for file in self.files:
            os.pwrite(file, data, start)

    def read(self):
        start, size = self.span()
        mounted, local = (os.pread(file, size, start) for file in self.files)
        assert mounted == local, f"{size} bytes at {start} differ"

    def truncate(self):
        size = self.random.randrange(self.MOST)
        for file in self.files:
            os.ftruncate(file, size)

    def map_write(self):
        size = self.size()
        if size:
            start = self.random.randrange(size)
            data = self.random.randbytes(min(size - start, 3000))
            for file in self.files:
                with mmap.mmap(file, size) as mapped:
                    mapped[start : start + len(data)] = data

    def map_read(self):
        size = self.size()
        if size:
            start = self.random.randrange(size)
            with mmap.mmap(self.files[0], size) as one, mmap.mmap(self.files[1], size) as other:
                assert one[start : start + 9000] == other[start : start + 9000]

    def reopen(self):
        for index, path in enumerate(self.paths):
            os.close(self.files[index])
            self.files[index] = os.open(path, os.O_RDWR)

    def look(self):
        assert os.fstat(self.files[0]).st_size == self.paths[0].stat().st_size == self.size()

    def sync(self):
        os.fsync(self.files[0])

    def close(self):
        for file in self.files:
            os.close(file)


def test_random_operations_do_what_they_do_on_a_local_file(folder, stored, tmp_path):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    twins = Twins(folder / "file", tmp_path / "file", seed)
    weighted = [twins.write] * 8 + [twins.read] * 8 + [twins.truncate] * 2 + [twins.reopen] * 2
    weighted += [twins.map_write] * 2 + [twins.map_read, twins.look, twins.sync]
    for _ in range(2500):
        twins.random.choice(weighted)()
    twins.close()
    local = (tmp_path / "file").read_bytes()
    assert (folder / "file").read_bytes() == local
    assert (at_server(stored, folder) / "file").read_bytes() == local


# ---- what is changed elsewhere


def test_a_small_file_that_grows_elsewhere_is_read_on(folder, elsewhere):
    (elsewhere / folder.name / "f").write_text("one\n")
    with (folder / "f").open() as file:
        assert file.read() == "one\n"
        with (elsewhere / folder.name / "f").open("a") as other:
            other.write("two\n")
        end = time.monotonic() + 10
        while (more := file.read()) == "":
            assert time.monotonic() < end
            time.sleep(0.05)  # what the kernel knows is believed for a second
        assert more == "two\n"


def test_a_change_elsewhere_is_seen_when_the_file_is_opened(folder, elsewhere):
    for number in range(20):
        (folder / "f").write_text(f"mine {number}")
        (elsewhere / folder.name / "f").write_text(f"theirs {number} {'x' * number}")
        assert (folder / "f").read_text() == f"theirs {number} {'x' * number}"


# ---- errors of the server


def test_an_error_of_a_write_comes_back_at_close(server, folder, stored):
    if isinstance(server, OwnServer):
        pytest.skip("ours does not cross into another file system")
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", at_server(stored, folder)], check=True
    )
    try:
        descriptor = os.open(folder / "f", os.O_WRONLY | os.O_CREAT)
        with pytest.raises(OSError):
            try:
                os.write(descriptor, bytes(4 * MIB))
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        (folder / "f").unlink()
        (folder / "g").write_text("there is room again")
    finally:
        subprocess.run(["umount", "-l", at_server(stored, folder)], check=True)


@pytest.fixture
def own_server(tmp_path):
    (tmp_path / "stored").mkdir()
    (tmp_path / "keys").mkdir()
    server = StockServer(tmp_path / "keys")
    server.start()
    yield server
    server.kill()


# In a process of its own: a child of ours that starts the server would close a copy of the file,
# which waits for the server.
WRITER = """
import os, sys
data = os.urandom(1 << 20)
with open(sys.argv[1], "wb", buffering=0) as file:
    for number in range(24):
        assert file.write(data) == len(data)
        if number == 8:
            print("half", flush=True)
    os.fsync(file.fileno())
open(sys.argv[2], "wb").write(data * 24)
"""


def test_a_server_that_is_killed_and_comes_back_in_mid_write_is_not_noticed(own_server, tmp_path):
    mount = Mount(own_server, tmp_path / "stored", tmp_path / "m")
    try:
        arguments = [sys.executable, "-c", WRITER, mount.path / "f", tmp_path / "expected"]
        with subprocess.Popen(arguments, stdout=subprocess.PIPE) as writer:
            assert writer.stdout.readline() == b"half\n"
            own_server.kill()
            own_server.start()
            assert writer.wait(60) == 0
        expected = (tmp_path / "expected").read_bytes()
        assert (tmp_path / "stored" / "f").read_bytes() == expected
        assert (mount.path / "f").read_bytes() == expected
    finally:
        mount.end()


def test_without_a_server_calls_fail_when_their_time_is_up_and_then_work_again(
    own_server, tmp_path
):
    mount = Mount(own_server, tmp_path / "stored", tmp_path / "m", 1.0)
    try:
        (mount.path / "f").write_text("before")
        own_server.kill()
        time.sleep(1.1)  # what the kernel knows is too old by now
        with pytest.raises(OSError) as caught:
            (mount.path / "f").read_text()
        assert caught.value.errno == errno.EIO
        own_server.start()
        end = time.monotonic() + 15
        while True:
            with contextlib.suppress(OSError):
                assert (mount.path / "f").read_text() == "before"
                break
            assert time.monotonic() < end
    finally:
        mount.end()
