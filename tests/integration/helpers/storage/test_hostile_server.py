"""A hostile file server: whatever it answers, each call of the mount ends in a clean error."""

import asyncio
import errno
import os
import resource
import struct
from types import SimpleNamespace

import asyncssh
import msgspec
import pyfuse3
from fakes.hostile_sftp import FILE, FOLDER, NO_GRANT, HostileServer, packet, reply, usual_result
from lib.waiting import until

from dit4c_p2p.helpers.storage.compound_remote import say_hello
from dit4c_p2p.helpers.storage.file_operations import StorageFilesystem
from dit4c_p2p.helpers.storage.plain_remote import PlainRemote
from dit4c_p2p.helpers.storage.server_link import ServerLink
from dit4c_p2p.helpers.storage.sftp_client import ConnectionGone, open_client
from dit4c_p2p.sftp import extensions, packets
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.compound import decode_compound
from dit4c_p2p.sftp.constants import PacketType
from dit4c_p2p.sftp.wire import encode_wire_string

CTX = SimpleNamespace(uid=os.getuid(), gid=os.getgid(), pid=1, umask=0o022)
LIMIT_S = 0.5
KEY = asyncssh.generate_private_key("ssh-ed25519")


def with_result(kind, make):
    """A lie: the results of operations of ``kind`` are what ``make(operation)`` returns."""

    def lie(number, request):
        if not isinstance(request, packets.Extended) or request.name != extensions.COMPOUND:
            return None
        operations = decode_compound(request.data).operations
        if not any(isinstance(one, kind) for one in operations):
            return None
        return reply(
            number,
            [make(one) if isinstance(one, kind) else usual_result(one) for one in operations],
        )

    return lie


def with_bytes(make):
    """A lie: every compound is answered by ``make(number)``."""

    def lie(number, request):
        is_compound = isinstance(request, packets.Extended) and request.name == extensions.COMPOUND
        return make(number) if is_compound else None

    return lie


def listing(entries, handle=b""):
    return lambda one: ops.ListResult(FOLDER, NO_GRANT, entries, handle)


def entry_attrs(attrs):
    return with_result(
        (ops.GetAttr, ops.ListDir),
        lambda one: (
            ops.ListResult(FOLDER, NO_GRANT, [ops.DirEntry(b"file", attrs)], b"")
            if isinstance(one, ops.ListDir)
            else ops.AttrsResult(attrs if one.path.endswith(b"file") else FOLDER, NO_GRANT)
        ),
    )


many = [ops.DirEntry(b"%d" % number, FILE) for number in range(3000)]

STATUS, REPLY = PacketType.STATUS, PacketType.EXTENDED_REPLY
BAD_NAMES = (b"", b".", b"..", b"a/b", b"a\0b", b"n" * 300)


def file_with(**fields):
    """Attributes of the file with nonsense in some."""
    return entry_attrs(msgspec.structs.replace(FILE, **fields))


def cut_off(number):
    """A reply whose last fields are missing."""
    whole = reply(number, [ops.AttrsResult(FILE, NO_GRANT)])
    return struct.pack(">I", 16) + whole[4:20]


LIES = {
    "a packet of 2 GiB": with_bytes(lambda number: struct.pack(">I", 2**31)),
    "a packet of no length": with_bytes(lambda number: bytes(4)),
    "an answer to nothing": with_bytes(lambda number: packet(STATUS, number + 7, bytes(4))),
    "an unknown type": with_bytes(lambda number: packet(99, number)),
    "a type of another request": with_bytes(
        lambda n: packet(PacketType.HANDLE, n, encode_wire_string(b"h"))
    ),
    "OK where there is an answer": with_bytes(lambda number: packet(STATUS, number, bytes(12))),
    "a reply that is cut off": with_bytes(cut_off),
    "two results of one operation": with_bytes(lambda n: reply(n, [ops.Done(), ops.Done()])),
    "no result": with_bytes(lambda number: reply(number, [])),
    "a reply of noise": with_bytes(lambda number: packet(REPLY, number, b"\xff" * 1000)),
    "an errno of the kernel's own": with_result(object, lambda one: ops.Failed(512)),
    "an errno that is none": with_result(object, lambda one: ops.Failed(2**32 - 1)),
    "not implemented": with_result(object, lambda one: ops.Failed(errno.ENOSYS)),
    "a size beyond all files": file_with(size=2**64 - 1),
    "times beyond all clocks": file_with(mtime_ns=2**63 - 1, ctime_ns=-(2**63)),
    "no type": file_with(mode=0, nlink=2**32 - 1),
    "the id of its own folder": file_with(file_id=FOLDER.file_id, mode=FOLDER.mode),
    "an id that is none": file_with(file_id=1),
    "names that lead elsewhere": with_result(
        ops.ListDir, listing([ops.DirEntry(name, FILE) for name in BAD_NAMES])
    ),
    "a listing that never ends": with_result((ops.ListDir, ops.ListMore), listing(many, b"h")),
    "a listing of nothing that never ends": with_result(
        (ops.ListDir, ops.ListMore), listing([], b"h")
    ),
    "more data than was asked for": lambda number, request: (
        packet(PacketType.DATA, number, encode_wire_string(b"y" * 900_000))
        if isinstance(request, packets.Read)
        else None
    ),
    "no answer at all": with_bytes(lambda number: b""),
}


async def mounted(port):
    """A file system of the hostile server, without a kernel."""

    async def connect():
        try:
            connection = await asyncssh.connect("127.0.0.1", port, known_hosts=None, config=None)
        except (OSError, asyncssh.Error) as error:
            raise ConnectionGone(str(error)) from None
        client = await open_client(connection)
        return await say_hello(client) or PlainRemote(client)

    link = ServerLink("hostile", connect, limit_s=LIMIT_S)
    filesystem = StorageFilesystem((CTX.uid, CTX.gid))
    root = filesystem.table.plant(b"", link, b"/private")
    return link, filesystem, root


async def everything(filesystem, root):
    """Each call of the kernel; those that failed, with their numbers."""
    failed = {}

    async def do(name, call):
        try:
            return await call
        except pyfuse3.FUSEError as error:
            failed[name] = error.errno
            return None

    number = root.number
    entry = await do("lookup", filesystem.lookup(number, b"file", CTX))
    await do("getattr", filesystem.getattr(number, CTX))
    await do("mkdir", filesystem.mkdir(number, b"new", 0o755, CTX))
    await do("unlink", filesystem.unlink(number, b"file", CTX))
    await do("rename", filesystem.rename(number, b"file", number, b"other", 0, CTX))
    await do("statfs", filesystem.statfs(CTX))
    folder = await do("opendir", filesystem.opendir(number, CTX))
    if folder is not None:
        await do("listing", filesystem.fsyncdir(folder, False))
        opening = filesystem._folders[folder]
        try:
            await filesystem._list(opening)
        except OSError as error:
            failed["readdir"] = error.errno
        await filesystem.releasedir(folder)
    if entry is not None:
        info = await do("open", filesystem.open(entry.st_ino, os.O_RDWR, CTX))
        if info is not None:
            await do("read", filesystem.read(info.fh, 0, 4096))
            await do("write", filesystem.write(info.fh, 0, b"data"))
            await do("fsync", filesystem.fsync(info.fh, False))
            await do("flush", filesystem.flush(info.fh))
            await do("release", filesystem.release(info.fh))
    return failed


async def told(lie):
    """What each call was told by a server with that lie."""
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[KEY], encoding=None,
        server_factory=lambda: HostileServer(lie),
    )  # fmt: skip
    link, filesystem, root = await mounted(server.get_port())
    keeping = asyncio.create_task(link.run())
    try:
        await until(lambda: link.remote is not None, 30)
        failed = await everything(filesystem, root)
        assert not keeping.done(), "the link lives on"
        return failed
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        server.close()
        await server.wait_closed()


async def test_every_call_ends_in_an_error_and_memory_is_bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    async with asyncio.timeout(120):
        results = await asyncio.gather(*(told(lie) for lie in LIES.values()))
    for name, failed in zip(LIES, results, strict=True):
        assert failed, name
        assert set(failed.values()) <= set(errno.errorcode) - {errno.ENOSYS}, name
    found = dict(zip(LIES, results, strict=True))
    assert found["a listing that never ends"]["readdir"] == errno.EFBIG
    assert found["a listing of nothing that never ends"]["readdir"] == errno.EIO
    assert found["more data than was asked for"]["read"] == errno.EIO
    assert found["an errno of the kernel's own"]["lookup"] == errno.EIO
    assert "readdir" not in found["names that lead elsewhere"]
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 256 * 1024
