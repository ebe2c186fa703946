"""Two mounts and a stock client of one server: what one has closed is what the others open."""

import os
import random
import statistics
import subprocess
import threading
import time

import pytest
from systems.storage_line import Line
from systems.storage_mount import Mount, OwnServer, needs_fuse

pytestmark = needs_fuse

# A long run by hand sets more.
TRIALS = int(os.environ.get("STORAGE_TRIALS", "80"))
# So often a mount is cut off; each time all files are written elsewhere.
CUTS = int(os.environ.get("STORAGE_CUTS", "1"))
CUT_FILES = 50
NAMES = [f"{folder}/{name}" for folder in ("one", "two", "two/deep") for name in "abc"]


class StockClient:
    """OpenSSH's sftp with one connection."""

    def __init__(self, server: OwnServer) -> None:
        key, hosts = server.folder / "user", server.folder / "known_hosts"
        public = (server.folder / "host.pub").read_text().split()
        hosts.write_text(f"[127.0.0.1]:{server.port} {public[0]} {public[1]}\n")
        self.folder = server.folder
        self._command = [
            *("sftp", "-q", "-b", "-", "-P", str(server.port), "-i", str(key)),
            *("-o", f"UserKnownHostsFile={hosts}", "-o", "IdentitiesOnly=yes"),
            f"{server.user}@127.0.0.1:{server.shown}",
        ]

    def _run(self, line: str) -> bool:
        done = subprocess.run(self._command, input=line.encode(), capture_output=True, check=False)
        return done.returncode == 0

    def write(self, name: str, data: bytes) -> None:
        (self.folder / "put").write_bytes(data)
        assert self._run(f"put {self.folder / 'put'} {name}")

    def read(self, name: str) -> bytes | None:
        return (
            (self.folder / "got").read_bytes()
            if self._run(f"get {name} {self.folder / 'got'}")
            else None
        )


class MountClient:
    """What a program does on a mount."""

    def __init__(self, mount: Mount, noise: random.Random) -> None:
        self.mount, self.path, self.noise = mount, mount.path, noise

    def write(self, name: str, data: bytes) -> None:
        if self.noise.random() < 0.3:
            (self.path / "new").write_bytes(data)
            (self.path / "new").rename(self.path / name)
        else:
            (self.path / name).write_bytes(data)

    def read(self, name: str) -> bytes | None:
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self, name: str) -> None:
        (self.path / name).unlink(missing_ok=True)

    def look(self) -> None:
        """Fill its caches."""
        for name in self.noise.sample(NAMES, 3):
            if (self.path / name).exists():
                (self.path / name).read_bytes()
        os.listdir(self.path / "two")


@pytest.fixture
def mounts(server, tmp_path):
    mounts = [Mount(server, server.shown, tmp_path / f"m{number}") for number in range(2)]
    (mounts[0].path / "two" / "deep").mkdir(parents=True, exist_ok=True)
    (mounts[0].path / "one").mkdir(exist_ok=True)
    yield mounts
    for mount in mounts:
        mount.end()


def trial(noise, writer, readers, expected):
    """One writes or removes a file, and all others open it."""
    name = noise.choice(NAMES)
    if isinstance(writer, MountClient) and noise.random() < 0.2:
        writer.remove(name)
        expected[name] = None
    else:
        # As long as before, so that only contents and times differ.
        expected[name] = noise.randbytes(noise.choice((10, 10, 5000, 200_000)))
        writer.write(name, expected[name])
    stale = []
    for reader in readers:
        found = reader.read(name)
        if found != expected[name]:
            told = None if found is None else (len(found), found[:8])
            wanted = expected[name] and (len(expected[name]), expected[name][:8])
            again = reader.read(name) == expected[name]
            whose = "its own" if reader is writer else type(writer).__name__
            stale.append((name, type(reader).__name__, whose, told, wanted, again))
    return stale


def test_no_open_is_stale(server, mounts):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    noise = random.Random(seed)
    clients = [MountClient(mount, noise) for mount in mounts]
    stock, expected, stale = StockClient(server), {}, []
    for number in range(TRIALS):
        everybody = [*clients, stock] if number % 15 == 0 else clients
        for client in clients:
            if noise.random() < 0.5:
                client.look()
        found = trial(noise, noise.choice(everybody), everybody, expected)
        stale += [(number, *one) for one in found]
    assert stale == []


def test_a_change_is_seen_within_a_short_time_without_opening(mounts):
    one, two = (mount.path / "one" / "seen" for mount in mounts)
    one.write_text("0")
    took = []
    for number in range(1, 21):
        assert two.stat().st_size == number
        seen = threading.Event()

        def poll(size=number + 1, seen=seen):
            end = time.monotonic() + 10
            while two.stat().st_size != size and time.monotonic() < end:
                time.sleep(0.001)
            seen.set()

        thread = threading.Thread(target=poll)
        thread.start()
        one.write_text("x" * (number + 1))
        closed_at = time.monotonic()
        assert seen.wait(10)
        took.append(time.monotonic() - closed_at)
        thread.join()
    assert statistics.median(took) < 0.5  # 50 ms and a round trip where the machine is not busy


def test_names_that_come_and_go_elsewhere_are_seen_at_once(mounts):
    one, two = (mount.path / "one" for mount in mounts)
    for number in range(20):
        assert os.listdir(two) == os.listdir(one)
        (one / f"name{number}").touch()
        assert (two / f"name{number}").exists()
        assert sorted(os.listdir(two)) == sorted(os.listdir(one))
        (two / f"name{number}").rename(two / f"other{number}")
        if not (one / f"other{number}").exists():
            print(os.listdir(one), os.listdir(two), (one / f"other{number}").exists(), number)
            assert 0
        with pytest.raises(FileNotFoundError):
            (one / f"name{number}").open()
        (one / f"other{number}").unlink()
        assert not (two / f"other{number}").exists()


def test_a_removed_name_is_not_another_file_that_has_got_its_number(mounts):
    one, two = (mount.path / "one" for mount in mounts)
    for _ in range(8):
        (two / "removed").write_text("old")
        assert (one / "removed").read_text() == "old"
        (two / "removed").unlink()
        (two / "new").write_text("new")  # of the same number on most file systems
        with pytest.raises(FileNotFoundError):
            (one / "removed").open()
        assert (one / "new").read_text() == "new"
        (two / "new").unlink()


def test_a_file_that_is_open_stays_what_it_is_when_it_is_replaced_elsewhere(mounts):
    one, two = (mount.path / "one" / "f" for mount in mounts)
    for number in range(5):
        two.write_text(f"old {number}")
        os.listdir(one.parent)
        with one.open() as file:
            two.with_name("g").write_text("new")
            two.with_name("g").rename(two)
            assert file.read() == f"old {number}"
        assert one.read_text() == "new"


def test_a_mount_that_is_stopped_holds_nobody_up_for_long_and_is_not_stale_afterwards(mounts):
    one, two = (MountClient(mount, random.Random(3)) for mount in mounts)
    one.write("one/a", b"before")
    two.look()
    assert two.read("one/a") == b"before"
    two.mount.stop()
    try:
        began = time.monotonic()
        one.write("one/a", b"after!")
        assert time.monotonic() - began < 8
    finally:
        two.mount.go_on()
    assert two.read("one/a") == b"after!"


class Readers:
    """Threads that open files all the time, and note what they found in which."""

    def __init__(self, folder, count=6):
        self.found, self.errors, self._over = [], [], threading.Event()
        self._threads = [
            threading.Thread(target=self._read, args=(folder, number)) for number in range(count)
        ]
        for thread in self._threads:
            thread.start()

    def _read(self, folder, seed):
        noise = random.Random(seed)
        while not self._over.is_set():
            number = noise.randrange(CUT_FILES)
            began = time.monotonic()
            try:
                text = (folder / f"f{number}").read_bytes()
            except OSError as error:
                self.errors.append(error)
                return
            if text:  # not between another's truncation and write
                self.found.append((number, began, int(text)))

    def end(self):
        self._over.set()
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


@pytest.mark.parametrize("away", ["silent line", "stopped process"])
def test_no_open_is_stale_at_a_mount_that_is_cut_off(server, tmp_path, away):
    line = Line(server)
    one, two = (
        Mount(line, server.shown, tmp_path / "one"),
        Mount(server, server.shown, tmp_path / "two"),
    )
    folder = two.path / f"cut {away}"
    folder.mkdir()
    written = [[(0.0, 0)] for _ in range(CUT_FILES)]  # by file: when it was closed, and its version
    for number in range(CUT_FILES):
        (folder / f"f{number}").write_bytes(b"%08d" % 0)
    readers = Readers(one.path / folder.name)
    stopping, going_on = (
        (line.fall_silent, line.flow) if away == "silent line" else (one.stop, one.go_on)
    )
    try:
        for cut in range(1, CUTS + 1):
            time.sleep(1.2)  # until the folder is leased again
            stopping()
            for number, its in enumerate(written):
                (folder / f"f{number}").write_bytes(b"%08d" % cut)
                its.append((time.monotonic(), cut))
            going_on()
            for number, its in enumerate(written):
                assert int((one.path / folder.name / f"f{number}").read_bytes()) == its[-1][1]
        readers.end()
        end = time.monotonic() + 10
        while server.descriptors > CUT_FILES and time.monotonic() < end:
            time.sleep(0.05)
        assert server.descriptors <= CUT_FILES, "what was opened when the lease was lost is closed"
    finally:
        going_on()
        readers.end()
        one.end()
        two.end()
        line.close()
    stale = [
        (number, version, its)
        for number, began, version in readers.found
        if version < (its := max(v for at, v in written[number] if at < began))
    ]
    print(len(readers.found), "opens,", CUTS * CUT_FILES, "writes")
    assert stale == [] and readers.errors == [] and len(readers.found) > CUT_FILES
