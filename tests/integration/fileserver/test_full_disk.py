"""A full disk is said as what it is, spoils nothing, and goes on when there is room."""

import errno

from systems.fileserver import running_file_server
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp import packets
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.constants import OpenFlag, StatusCode

pytestmark = ONLY_ROOT

CREATE = OpenFlag.READ | OpenFlag.WRITE | OpenFlag.CREAT
MIB = 1024 * 1024


async def test_a_full_disk_is_said_and_lived_through(tmp_path):
    with SmallDisk(tmp_path / "trees") as disk:
        async with running_file_server(tmp_path) as system:
            ada = system.person("ada", quota=100 * MIB)
            async with (
                system.session(ada) as client,
                system.session(ada, hello=False) as stock,
            ):
                kept = await client.run(
                    ops.OpenFile(b"/private/kept", CREATE), ops.WriteData(0, b"kept")
                )
                used = system.server._trees.get("user-ada").usage.used_bytes
                disk.fill()
                failed = await client.run(ops.WriteData(MIB, b"x" * 100_000, kept[0].handle))
                assert failed.errno == errno.ENOSPC
                failed = await client.run(ops.OpenFile(b"/private/new", CREATE))
                assert failed.errno == errno.ENOSPC, "there is no inode either"
                assert (await client.run(ops.MakeDir(b"/private/d"))).errno == errno.ENOSPC
                handle = (await stock.request(packets.Open(b"/private/kept", 2, Attrs()))).handle
                status = await stock.request(packets.Write(handle, MIB, b"y" * 100_000))
                assert status.code == StatusCode.FAILURE and "full" in status.message
                assert await system.server._check_disk() != ""
                # What could not be written is not counted; a hole may have been made.
                now = system.server._trees.get("user-ada").usage.used_bytes
                assert used <= now <= used + 2 * MIB
                read = await client.run(ops.ReadData(0, 4, kept[0].handle))
                assert read.data == b"kept"
                disk.make_room()
                wrote = await client.run(
                    ops.OpenFile(b"/private/new", CREATE), ops.WriteData(0, b"x" * 100_000)
                )
                assert wrote[1] == ops.Done()
