"""While a session counts on a lease, the disk is as the session was told, whatever others do."""

import asyncio
import os
import random
import time
from pathlib import Path

from systems.fileserver import FileServerSystem

from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.compound import CompoundFlag
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import HOLDER_LEASE_S, LeaseKind

READ = LeaseKind.READ
FOLDERS = [b"/private/one", b"/private/two"]
NAMES = [b"a", b"b", b"c", b"d"]
CREATE = OpenFlag.READ | OpenFlag.WRITE | OpenFlag.CREAT
SECONDS = 4


class Holder:
    """A session that remembers what it was told under leases, and looks whether it is still so."""

    def __init__(self, client, private: Path, noise: random.Random) -> None:
        self.client = client
        self.private = private
        self.noise = noise
        self.answered_at = 0.0
        self.looks = 0
        # By file id: path, number of the grant, and what was told.
        self.folders: dict[int, tuple[bytes, int, dict]] = {}
        self.files: dict[int, tuple[bytes, int, bytes]] = {}
        self.voided: dict[int, int] = {}

    async def run(self, *operations, flags=0):
        """Run a compound; notices that came before its answer are heeded before it counts."""
        sent_at = time.monotonic()
        results = await self.client.run(*operations, flags=flags)
        await self.heed()
        self.answered_at = max(self.answered_at, sent_at)
        return results

    async def heed(self):
        """Forget what is recalled, and mostly give it back."""
        notices = self.client.session.notices
        while not notices.empty():
            for lease in notices.get_nowait().leases:
                self.voided[lease.file_id] = max(self.voided.get(lease.file_id, 0), lease.seq)
                for held in (self.folders, self.files):
                    if lease.file_id in held and held[lease.file_id][1] <= lease.seq:
                        del held[lease.file_id]
                if self.noise.random() < 0.97:
                    self.client.start(ops.ReturnLease(lease.file_id, lease.seq))

    def counts(self, file_id, seq):
        return seq > self.voided.get(file_id, 0)

    async def learn(self):
        """Be told of a folder or of a file, under a lease."""
        folder = self.noise.choice(FOLDERS)
        if self.noise.random() < 0.5:
            listed = await self.run(ops.ListDir(folder, READ))
            file_id = listed.attrs.file_id
            if listed.grant.kind and self.counts(file_id, listed.grant.seq):
                told = {entry.name: entry.attrs for entry in listed.entries}
                self.folders[file_id] = folder, listed.grant.seq, told
            return
        path = folder + b"/" + self.noise.choice(NAMES)
        read = await self.run(ops.ReadFile(path, 1000, READ))
        if not isinstance(read, ops.ReadFileResult) or not read.grant.kind:
            return
        if self.counts(read.attrs.file_id, read.grant.seq):
            self.files[read.attrs.file_id] = path, read.grant.seq, bytes(read.data)

    async def change(self):
        """Do something that others have to hear of first; who does it knows."""
        self.folders.clear()
        self.files.clear()
        pick = self.noise.choice
        path, other = (pick(FOLDERS) + b"/" + pick(NAMES) for _ in range(2))
        data = self.noise.randbytes(self.noise.randint(1, 200))
        write = ops.OpenFile(path, CREATE), ops.WriteData(0, data), ops.CloseFile()
        cut = ops.SetAttrs(ops.SetMask.SIZE, self.noise.randint(0, 50))
        mode = ops.SetAttrs(ops.SetMask.MODE, 0, pick([0o600, 0o644]))
        await self.run(
            *pick(
                [
                    write, write, write, [ops.Unlink(path)], [ops.RenamePath(path, other)],
                    [ops.RenamePath(path, other, ops.RenameFlag.EXCHANGE)],
                    [ops.MakeLink(path, other)], [ops.SetAttr(path, cut)],
                    [ops.SetAttr(path, mode)],
                ]
            ),
            flags=CompoundFlag.CONTINUE,
        )  # fmt: skip

    def look(self):
        """Nothing arrives while this runs: what is counted on now has to be so."""
        if not self.client.session.notices.empty():
            return
        for folder, _, told in self.folders.values():
            there = self.private / folder.decode().removeprefix("/private/")
            found = {os.fsencode(one.name): one.stat() for one in os.scandir(there)}
            if not self.valid():
                return
            assert found.keys() == told.keys()
            for name, status in found.items():
                attrs = told[name]
                assert status.st_ino == attrs.file_id
                if attrs.nlink == 1:
                    assert (status.st_size, status.st_mtime_ns, status.st_mode) == (
                        attrs.size,
                        attrs.mtime_ns,
                        attrs.mode,
                    )
            self.looks += 1
        for path, _, data in self.files.values():
            if self.valid():
                there = self.private / path.decode().removeprefix("/private/")
                assert there.read_bytes() == data
                self.looks += 1

    def valid(self):
        return time.monotonic() < self.answered_at + HOLDER_LEASE_S - 0.5


async def test_what_is_counted_on_is_so(system: FileServerSystem):
    ada = system.person("ada")
    sessions = [system.session(ada) for _ in range(4)]
    noise = random.Random(5)
    clients = [await session.__aenter__() for session in sessions]
    await clients[0].run(*(ops.MakeDir(folder) for folder in FOLDERS))
    holders = [
        Holder(client, system.private("ada"), random.Random(noise.random())) for client in clients
    ]
    ends_at = time.monotonic() + SECONDS

    async def work(holder):
        while time.monotonic() < ends_at:
            await (holder.change() if holder.noise.random() < 0.2 else holder.learn())
            holder.look()

    async def attend(holder):
        """A holder that waits for its own operation answers recalls meanwhile."""
        while time.monotonic() < ends_at + 6:
            await asyncio.sleep(0.005)
            await holder.heed()
            holder.look()

    attending = [asyncio.create_task(attend(holder)) for holder in holders]
    try:
        await asyncio.gather(*(work(holder) for holder in holders))
        assert sum(holder.looks for holder in holders) > 100
    finally:
        for task in attending:
            task.cancel()
        results = await asyncio.gather(*attending, return_exceptions=True)
        for session in sessions:
            await session.__aexit__(None, None, None)
    errors = [one for one in results if isinstance(one, AssertionError)]
    assert errors == []
