"""What clients must not be able to do: break a session's neighbours, or get more than is theirs."""

import asyncio
import errno
import os
import struct
from random import Random

import pytest
from lib.waiting import until
from systems.fileserver import FileServerSystem, running_file_server

from dit4c_p2p.fileserver import Limits
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp import packets
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.constants import MAX_DATA_BYTES, OpenFlag, PacketType, StatusCode

CREATE = OpenFlag.READ | OpenFlag.WRITE | OpenFlag.CREAT


@pytest.mark.parametrize(
    "operation, number",
    [
        (ops.GetAttr(b"/private/a\0b"), errno.EINVAL),
        (ops.MakeDir(b"/private/" + b"n" * 300), errno.ENAMETOOLONG),
        (ops.MakeDir(b"/private" + b"/d" * 5000), errno.ENAMETOOLONG),
        (ops.GetAttr(b"/private/../../../etc/passwd"), errno.ENOENT),
        (ops.OpenFile(b"/private/loop/file", OpenFlag.READ), errno.ELOOP),
        (ops.OpenFile(b"/private/loop", OpenFlag.READ), errno.ELOOP),
        (ops.OpenFile(b"/private/out/passwd", OpenFlag.READ), errno.ELOOP),
        (ops.OpenFile(b"/private/pipe", OpenFlag.READ), errno.ENXIO),
        (ops.OpenFile(b"/private", OpenFlag.WRITE), errno.EISDIR),
        (ops.OpenFile(b"/private/none", 0), errno.EINVAL),
        (ops.MakeDir(b"/elsewhere"), errno.EROFS),
        (ops.MakeDir(b"/shared/library/d"), errno.EROFS),
        (ops.Unlink(b"/private"), errno.EBUSY),
        (ops.RenamePath(b"/private", b"/private/sub"), errno.EBUSY),
        (ops.RenamePath(b"/private/dir", b"/shared/lab/dir"), errno.EXDEV),
        (ops.MakeLink(b"/private/file", b"/shared/lab/file"), errno.EXDEV),
        (ops.MakeNode(b"/private/device", 0o020644), errno.EPERM),
        (ops.MakeNode(b"/private/disk", 0o060644), errno.EPERM),
        (ops.SetXattr(b"/private/file", b"security.capability", b"x"), errno.EOPNOTSUPP),
        (ops.SetXattr(b"/private/file", b"trusted.x", b"x"), errno.EOPNOTSUPP),
        (ops.ReadData(0, 10, b"no such handle"), errno.EBADF),
        (ops.WriteData(2**63, b"x"), errno.EBADF),
        (ops.RemoveDir(b"/private/dir"), errno.ENOTEMPTY),
        (ops.MakeSymlink(b"a\0b", b"/private/link"), errno.EINVAL),
    ],
    ids=lambda one: type(one).__name__ if isinstance(one, ops.Record) else errno.errorcode[one],
)
async def test_a_bad_operation_fails_with_its_errno(system: FileServerSystem, operation, number):
    ada = system.person("ada")
    async with system.session(ada) as client:
        await client.run(
            ops.MakeSymlink(b"loop", b"/private/loop"),
            ops.MakeSymlink(b"/etc", b"/private/out"),
            ops.MakeDir(b"/private/dir"),
            ops.MakeDir(b"/private/dir/inner"),
            ops.MakeNode(b"/private/pipe", 0o010644),
            ops.OpenFile(b"/private/file", CREATE),
        )
        failed = await client.run(operation)
        assert isinstance(failed, ops.Failed), failed
        assert failed.errno in (number, errno.ENOENT if number == errno.EROFS else number)
        assert isinstance(await client.run(ops.GetAttr(b"/private")), ops.AttrsResult)


async def test_stock_clients_get_no_further_by_links(system: FileServerSystem):
    """Their links on the way are followed by the server, but never out of their folder."""
    ada = system.person("ada")
    secret = system.trees / "secret"
    secret.write_text("not yours")
    async with system.session(ada, hello=False) as client:

        async def status(request):
            return (await client.request(request)).code

        for target in (b"/etc/passwd", b"../../../secret", b"../instances", b"/proc/self/root"):
            assert await status(packets.Symlink(target, b"/private/out")) == StatusCode.OK
            assert await status(packets.Open(b"/private/out", 1, Attrs())) > StatusCode.EOF
            assert await status(packets.Open(b"/private/out", 0x1A, Attrs())) > StatusCode.EOF
            assert await status(packets.Stat(b"/private/out")) > StatusCode.EOF
            assert await status(packets.Opendir(b"/private/out")) > StatusCode.EOF
            assert await status(packets.Setstat(b"/private/out", Attrs(mode=0))) > StatusCode.EOF
            assert await status(packets.Remove(b"/private/out/x")) > StatusCode.EOF
            assert await status(packets.Remove(b"/private/out")) == StatusCode.OK
        assert await status(packets.Mkdir(b"/private/in", Attrs())) == StatusCode.OK
        assert await status(packets.Symlink(b"in", b"/private/way")) == StatusCode.OK
        assert isinstance(
            await client.request(packets.Open(b"/private/way/file", 0x1A, Attrs())), packets.Handle
        )
        assert await status(packets.Symlink(b"way/file", b"/private/far")) == StatusCode.OK
        assert isinstance(await client.request(packets.Stat(b"/private/far")), packets.AttrsReply)
    assert (system.private("ada") / "in/file").exists()
    assert secret.read_text() == "not yours"


@pytest.mark.parametrize(
    "data",
    [
        struct.pack(">I", 2**31) + b"x" * 1000,
        struct.pack(">I", 0),
        struct.pack(">IBI", 5, PacketType.OPEN, 1),
    ],
    ids=["2 GiB", "no length", "no fields"],
)  # fmt: skip
async def test_what_is_not_sftp_ends_its_session_alone(system: FileServerSystem, data):
    ada = system.person("ada")
    async with system.session(ada) as good, system.session(ada) as bad:
        bad.send_raw(data)
        async with asyncio.timeout(10):
            await bad.session.ended.wait()
        assert b"not SFTP" in bad.session.errors
        assert isinstance(await good.run(ops.GetAttr(b"/private")), ops.AttrsResult)


async def test_handles_end_cleanly_at_the_limit(tmp_path):
    async with running_file_server(tmp_path, Limits(handles_per_session=100)) as system:
        ada = system.person("ada")
        async with system.session(ada) as client:
            opened = [await client.run(ops.OpenFile(b"/private/file", CREATE)) for _ in range(100)]
            assert all(isinstance(one, ops.OpenResult) for one in opened)
            failed = await client.run(ops.OpenFile(b"/private/file", CREATE))
            assert failed.errno == errno.EMFILE
            await client.run(ops.CloseFile(opened[0].handle))
            assert isinstance(
                await client.run(ops.OpenFile(b"/private/file", CREATE)), ops.OpenResult
            )
        before = len(os.listdir("/proc/self/fd"))
        await until(lambda: not system.server.sessions.all)
        await until(lambda: len(os.listdir("/proc/self/fd")) < before - 90)


async def test_a_client_that_never_reads_is_bounded(system: FileServerSystem):
    """And holds nobody up."""
    ada = system.person("ada")
    async with system.session(ada) as lazy, system.session(ada) as other:
        opened = await lazy.run(ops.OpenFile(b"/private/large", CREATE))
        for number in range(16):
            await lazy.run(ops.WriteData(number * 250_000, b"x" * 250_000, opened.handle))
        lazy.channel.pause_reading()
        for number in range(40_000):
            request = packets.Read(opened.handle, number % 15 * 250_000, MAX_DATA_BYTES)
            lazy.send(request)
        (session,) = (one for one in system.server.sessions.all if one.handles == 1)
        await until(lambda: session._paused or not session._writable)
        for _ in range(50):
            assert isinstance(await other.run(ops.GetAttr(b"/private/large")), ops.AttrsResult)
        # One chunk of the channel holds so many at the most.
        assert session._waiting <= 256 + 256 * 1024 // 33
        assert session._running <= 8
        lazy.channel.abort()
        await until(lambda: session.closed.is_set())


async def test_writes_of_two_sessions_in_any_order_make_one_file(system: FileServerSystem):
    """As rclone, lftp's pget and paramiko's prefetch send them: many at once, out of order."""
    ada = system.person("ada")
    piece, count = 30_000, 200
    order = list(range(count))
    Random(7).shuffle(order)
    async with (
        system.session(ada, hello=False) as one,
        system.session(ada, hello=False) as other,
    ):
        handles = [
            (await client.request(packets.Open(b"/private/file", 0x0B, Attrs()))).handle
            for client in (one, other)
        ]
        sent = []
        for turn, number in enumerate(order):
            client, handle = ((one, handles[0]), (other, handles[1]))[turn % 2]
            data = number.to_bytes(4, "big") * (piece // 4)
            sent.append(client.send(packets.Write(handle, number * piece, data)))
        async with asyncio.timeout(30):
            assert {status.code for status in await asyncio.gather(*sent)} == {StatusCode.OK}
        reads = [other.send(packets.Read(handles[1], number * piece, piece)) for number in order]
        async with asyncio.timeout(30):
            for number, data in zip(order, await asyncio.gather(*reads), strict=True):
                assert bytes(data.data) == number.to_bytes(4, "big") * (piece // 4)
        await one.request(packets.Close(handles[0]))
        await other.request(packets.Close(handles[1]))
    written = (system.private("ada") / "file").read_bytes()
    assert written == b"".join(n.to_bytes(4, "big") * (piece // 4) for n in range(count))


async def test_a_full_quota_is_said_to_each_in_its_way(system: FileServerSystem):
    ada = system.person("ada", quota=1024 * 1024)
    async with system.session(ada) as client, system.session(ada, hello=False) as stock:
        opened = await client.run(ops.OpenFile(b"/private/file", CREATE))
        written = 0
        while not isinstance(
            result := await client.run(ops.WriteData(written, b"x" * 100_000, opened.handle)),
            ops.Failed,
        ):
            written += 100_000
        assert result.errno == errno.EDQUOT
        assert 900_000 <= written <= 1024 * 1024
        handle = (await stock.request(packets.Open(b"/private/file", 2, Attrs()))).handle
        status = await stock.request(packets.Write(handle, 900_000, b"y" * 200_000))
        assert status.code == StatusCode.FAILURE and "quota" in status.message
        assert status.errno == 0, "it did not say hello"
        # Within one block of the limit, and what is there may be written over.
        last = 1024 * 1024 - 4096
        assert await client.run(ops.WriteData(last - 1, b"x", opened.handle)) == ops.Done()
        assert await client.run(ops.WriteData(0, b"z" * 1000, opened.handle)) == ops.Done()
        room = (await client.run(ops.StatFs(b"/private"))).room
        assert room.blocks == 256 and room.blocks_available <= 1
        # Removed while open, it counts until it is closed.
        await client.run(ops.Unlink(b"/private/file"))
        assert (await client.run(ops.StatFs(b"/private"))).room.blocks_available <= 1
        await stock.request(packets.Close(handle))
        await client.run(ops.CloseFile(opened.handle))
        assert (await client.run(ops.StatFs(b"/private"))).room.blocks_available >= 254
        made = await client.run(
            ops.OpenFile(b"/private/new", CREATE),
            ops.FSetAttr(ops.SetAttrs(ops.SetMask.SIZE, 2 * 1024 * 1024)),
        )
        assert made[1].errno == errno.EDQUOT


async def test_usage_is_counted_anew_at_a_start(system: FileServerSystem):
    ada = system.person("ada", quota=1024 * 1024)

    async def wait_until_counted(client, blocks: int) -> None:
        async with asyncio.timeout(20):
            while (await client.run(ops.StatFs(b"/private"))).room.blocks_available != 256 - blocks:
                await asyncio.sleep(0.01)

    async with system.session(ada) as client:
        await client.run(ops.OpenFile(b"/private/f", CREATE), ops.WriteData(0, b"x" * 100_000))
        await client.run(ops.MakeDir(b"/private/d"), ops.MakeLink(b"/private/f", b"/private/d/g"))
        # The file, its folder, and private itself.
        await wait_until_counted(client, 25 + 1 + 1)
    await system.server.stop()
    (system.private("ada") / "h").write_bytes(b"y" * 10_000)
    await system.server.start()
    async with system.session(ada) as client:
        await wait_until_counted(client, 25 + 1 + 1 + 3)
