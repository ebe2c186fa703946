"""Snapshots as clients see them."""

import errno

from systems.fileserver import FileServerSystem

from dit4c_p2p.messages.grants import Grants
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.constants import OpenFlag

CREATE = OpenFlag.WRITE | OpenFlag.CREAT | OpenFlag.TRUNC


def write(path, data):
    return ops.OpenFile(path, CREATE), ops.WriteData(0, data), ops.CloseFile()


async def test_yesterdays_state_can_be_read_and_not_changed(system: FileServerSystem):
    ada = system.person("ada")
    async with system.session(ada) as client:
        await client.run(*write(b"/private/paper", b"first"))
        await client.run(*write(b"/shared/lab/notes", b"ours"))
        await system.server.housekeeping.round()
        await client.run(*write(b"/private/paper", b"spoiled"))
        for folder, name, data in (
            (b"/private", b"paper", b"first"),
            (b"/shared/lab", b"notes", b"ours"),
        ):
            listed = await client.run(ops.ListDir(folder + b"/.snapshots"))
            (snapshot,) = (entry.name for entry in listed.entries)
            path = b"/".join((folder, b".snapshots", snapshot, name))
            assert (await client.run(ops.ReadFile(path, 100))).data == data
            for operation in (
                ops.Unlink(path),
                ops.OpenFile(path, OpenFlag.WRITE),
                ops.SetAttr(path, ops.SetAttrs(ops.SetMask.MODE, 0, 0o777)),
                ops.MakeDir(folder + b"/.snapshots/mine"),
            ):
                assert (await client.run(operation)).errno == errno.EROFS
            back = await client.run(ops.RenamePath(path, folder + b"/back"))
            assert back.errno == errno.EXDEV, "it is restored by copying"
        names = [entry.name for entry in (await client.run(ops.ListDir(b"/private"))).entries]
        assert names == [b"paper"], "listings leave it out"


async def test_snapshots_go_with_the_folder_of_a_discarded_instance(system: FileServerSystem):
    job = system.instance("job1", "ada")
    async with system.session(job) as client:
        await client.run(*write(b"/instance/result", b"data"))
    keep, kept = system.server.housekeeping, system.trees / "user-ada/snapshots/instances/job1"
    await keep.round()
    assert len(list(kept.iterdir())) == 1
    system.portal.grants["instance-job1"] = Grants(peer="instance-job1", delete_after=1)
    await system.server.expired.look()
    await keep.round()
    assert not kept.exists()
    assert not (system.trees / "user-ada/files/instances/job1").exists()
