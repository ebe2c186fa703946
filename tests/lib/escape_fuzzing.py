"""Every operation of the protocol at random, while others swap folders and links underneath.

    found = await fuzz(system, seconds=5, seed=1)
    assert found.escapes == []

Outside of what the fuzzers may see lies a folder of canaries: nothing of it may be read, listed or
changed, whichever way a path leads.
"""

import asyncio
import os
import random
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from systems.fileserver import FileServerSystem

from dit4c_p2p.sftp import openssh, packets
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.compound import CompoundFlag
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.wire import encode_record

CANARY = b"CANARY-of-somebody-else"
NAMES = [b"a", b"b", b"c", b"link", b"canary", b"..", b".", b"", b"deep"]


@dataclass
class Outside:
    """What must not be touched."""

    folders: list[Path]
    before: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def ids(self) -> set[int]:
        """Inode numbers of everything that is outside."""
        return {path.lstat().st_ino for folder in self.folders for path in walk(folder)}

    def state(self) -> dict[str, tuple[Any, ...]]:
        """Each path with its contents and attributes."""
        found = {}
        for folder in self.folders:
            for path in walk(folder):
                status = path.lstat()
                data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
                found[str(path)] = (status.st_mode, status.st_mtime_ns, status.st_nlink, data)
        return found


def walk(folder: Path) -> list[Path]:
    """A folder and everything in it."""
    return [folder, *folder.rglob("*")]


@dataclass
class Found:
    """What a run has seen."""

    escapes: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    well: Counter[str] = field(default_factory=Counter)


def lay_canaries(system: FileServerSystem) -> Outside:
    """Canaries beside the tree, in another person's tree, and elsewhere on the machine."""
    places = [
        system.folder / "elsewhere",
        system.trees / "user-bob/files/private/canaries",
        system.trees / "user-ada/files/secret",
    ]
    for place in places:
        (place / "deep").mkdir(parents=True)
        (place / "canary").write_bytes(CANARY)
        (place / "deep/canary").write_bytes(CANARY)
    outside = Outside(places)
    outside.before = outside.state()
    return outside


class Fuzzer:
    """One session that does anything."""

    def __init__(self, client: Any, noise: random.Random, targets: list[bytes], private: bool):
        self.client = client
        self.noise = noise
        self.targets = targets
        self.private = private
        self.handles: list[bytes] = []

    def path(self) -> bytes:
        """A path of a few names, below a folder that the session sees."""
        root = self.noise.choice([b"/private", b"/shared/lab", b"/private", b"/instances", b""])
        count = self.noise.randint(1, 4)
        return b"/".join([root, *self.noise.choices(NAMES, k=count)])

    def handle(self) -> bytes:
        return self.noise.choice(self.handles) if self.handles else b"none"

    def operation(self) -> Any:
        """One of ours."""
        pick, path = self.noise.choice, self.path()
        attrs = ops.SetAttrs(self.noise.randint(0, 15), 5, 0o777, 1, 1)
        lease = self.noise.randint(0, 2)
        kinds = [
            lambda: ops.GetAttr(path, lease),
            lambda: ops.FGetAttr(self.handle()),
            lambda: ops.SetAttr(path, attrs),
            lambda: ops.FSetAttr(attrs, self.handle()),
            lambda: ops.OpenFile(path, self.noise.randint(1, 63), 0o666, lease),
            lambda: ops.CloseFile(self.handle()),
            lambda: ops.ReadData(0, 100, self.handle()),
            lambda: ops.WriteData(0, b"overwritten", self.handle()),
            lambda: ops.Fsync(self.handle()),
            lambda: ops.ReadFile(path, 1000, lease),
            lambda: ops.ReadFile(path, 1000),
            lambda: ops.ListDir(path, lease),
            lambda: ops.Unlink(path),
            lambda: ops.MakeDir(path, 0o777, lease),
            lambda: ops.RemoveDir(path),
            lambda: ops.RenamePath(path, self.path(), self.noise.randint(0, 2)),
            lambda: ops.MakeLink(path, self.path()),
            lambda: ops.MakeSymlink(pick(self.targets), path),
            lambda: ops.ReadLink(path),
            lambda: ops.MakeNode(path, 0o010666),
            lambda: ops.StatFs(path),
            lambda: ops.GetXattr(path, b"user.x"),
            lambda: ops.SetXattr(path, b"user.x", b"1"),
            lambda: ops.ListXattr(path),
            lambda: ops.RemoveXattr(path, b"user.x"),
        ]
        return pick(kinds)()

    def request(self) -> packets.Request:
        """One of a stock client's."""
        pick, path = self.noise.choice, self.path()
        attrs = pick([Attrs(mode=0o777), Attrs(size=3), Attrs(atime=1, mtime=1)])
        two = encode_record(openssh.TwoPaths(path, self.path()))
        kinds = [
            lambda: packets.Open(path, self.noise.randint(1, 63), Attrs()),
            lambda: packets.Open(path, OpenFlag.READ, Attrs()),
            lambda: packets.Close(self.handle()),
            lambda: packets.Read(self.handle(), 0, 100),
            lambda: packets.Write(self.handle(), 0, b"overwritten"),
            lambda: packets.Lstat(path),
            lambda: packets.Stat(path),
            lambda: packets.Fstat(self.handle()),
            lambda: packets.Setstat(path, attrs),
            lambda: packets.Fsetstat(self.handle(), attrs),
            lambda: packets.Opendir(path),
            lambda: packets.Readdir(self.handle()),
            lambda: packets.Remove(path),
            lambda: packets.Mkdir(path, Attrs()),
            lambda: packets.Rmdir(path),
            lambda: packets.Realpath(path),
            lambda: packets.Rename(path, self.path()),
            lambda: packets.Readlink(path),
            lambda: packets.Symlink(pick(self.targets), path),
            lambda: packets.Extended(openssh.POSIX_RENAME, two),
            lambda: packets.Extended(openssh.HARDLINK, two),
            lambda: packets.Extended(openssh.LSETSTAT, encode_record(openssh.OnePath(path))
                                     + attrs.encode()),
            lambda: packets.Extended(openssh.STATVFS, encode_record(openssh.OnePath(path))),
        ]  # fmt: skip
        return pick(kinds)()

    async def step(self, found: Found, ids: set[int]) -> None:
        """Do one thing and look at what came back."""
        if self.private:
            what: Any = self.operation()
            result = await self.client.run(what, flags=CompoundFlag.CONTINUE)
            well = not isinstance(result, ops.Failed)
            if isinstance(result, ops.OpenResult):
                self.handles.append(result.handle)
            await self.answer_recalls()
        else:
            what = self.request()
            result = await self.client.request(what)
            well = not isinstance(result, packets.Status) or result.code == 0
            if isinstance(result, packets.Handle):
                self.handles.append(result.handle)
        if len(self.handles) > 50:
            closed = self.handles.pop(0)
            await self.client.request(packets.Close(closed))
        found.done[type(what).__name__] += 1
        found.well[type(what).__name__] += well
        self.look(what, result, found, ids)

    async def answer_recalls(self) -> None:
        """Give back what is asked for."""
        while not self.client.session.notices.empty():
            for lease in self.client.session.notices.get_nowait().leases:
                self.client.start(ops.ReturnLease(lease.file_id, lease.seq, lease.keep))

    def look(self, what: Any, result: Any, found: Found, ids: set[int]) -> None:
        """Nothing that is outside may be in an answer."""
        data = bytes(getattr(result, "data", b""))
        if CANARY in data:
            found.escapes.append(f"{what} read {data!r}")
        attrs = getattr(result, "attrs", None)
        seen = [attrs] if isinstance(attrs, ops.FileAttrs) else []
        seen += [entry.attrs for entry in getattr(result, "entries", ()) if
                 isinstance(entry, ops.DirEntry)]  # fmt: skip
        for one in seen:
            if one.file_id in ids:
                found.escapes.append(f"{what} saw {one}")


async def swap(client: Any, noise: random.Random, targets: list[bytes], stop: asyncio.Event):
    """Put folders and links in each other's place, over and over."""
    root = [b"/private", b"/shared/lab"]
    await client.run(*[ops.MakeDir(one + b"/a") for one in root], flags=CompoundFlag.CONTINUE)
    while not stop.is_set():
        base = noise.choice(root)
        name = base + b"/" + noise.choice([b"a", b"b", b"c", b"a/b", b"a/deep"])
        other = base + b"/" + noise.choice([b"x", b"y", b"link"])
        await client.run(
            ops.MakeDir(name),
            ops.MakeSymlink(noise.choice(targets), other),
            ops.RenamePath(name, other, ops.RenameFlag.EXCHANGE),
            ops.RenamePath(name, other, ops.RenameFlag.EXCHANGE),
            ops.RenamePath(other, name),
            ops.Unlink(other),
            flags=CompoundFlag.CONTINUE,
        )


async def fuzz(system: FileServerSystem, *, seconds: float, seed: int) -> Found:
    """Run fuzzers of both sorts and swappers for a time; returns what they have seen."""
    ada, bob = system.person("ada"), system.person("bob")
    found = Found()
    outside = lay_canaries(system)
    ids = outside.ids
    here = os.fsencode(outside.folders[0])
    targets = [
        here, b"/", b"..", b"../..", b"../../secret", b"../secret", b"../../../../elsewhere",
        b"../../../user-bob/files/private/canaries", b"/proc/self/root" + here, b"/proc/self/cwd",
        b"/proc/self/fd/0", b"a", b"b", b"a/..", b"../private/a", b"link", b"deep/../..", b".",
    ]  # fmt: skip
    stop = asyncio.Event()
    async with (
        system.session(ada) as private,
        system.session(ada, hello=False) as stock,
        system.session(bob, hello=False) as guest,
        system.session(ada) as swapper,
        system.session(bob) as other_swapper,
    ):
        # Bob's canaries are outside for Ada alone: here he works in the group's folder.
        noise = random.Random(seed)
        fuzzers = [
            Fuzzer(private, random.Random(seed + 1), targets, private=True),
            Fuzzer(stock, random.Random(seed + 2), targets, private=False),
        ]
        group = Fuzzer(guest, random.Random(seed + 3), targets, private=False)
        group.path = lambda: b"/shared/lab" + Fuzzer.path(group)  # type: ignore[method-assign]

        async def run(fuzzer: Fuzzer) -> None:
            while not stop.is_set():
                await fuzzer.step(found, ids)

        tasks = [asyncio.create_task(run(one)) for one in [*fuzzers, group]]
        for client in (swapper, other_swapper):
            mine = random.Random(noise.random())
            tasks.append(asyncio.create_task(swap(client, mine, targets, stop)))
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        stop.set()
        await asyncio.gather(*tasks)
    after = outside.state()
    if after != outside.before:
        changed = {path for path, state in after.items() if outside.before.get(path) != state}
        found.escapes.append(f"changed: {changed or 'something has gone'}")
    return found
