"""A key that is revoked while its mount is in use: nothing more is seen or changed by it."""

import asyncio
import errno
import os
from types import SimpleNamespace

from lib.waiting import until
from systems.fileserver import running_file_server
from systems.storage_mount import Mount, needs_fuse

pytestmark = needs_fuse

# What a call waits for a server that takes the mount back.
LIMIT_S = 3


def outcome(call, *more):
    """What a program's call ends in: its result, or the number of its error."""
    try:
        return call(*more)
    except OSError as error:
        return error.errno


async def test_a_mount_of_a_revoked_key_ends_in_clean_errors(tmp_path):
    async with running_file_server(tmp_path) as system:
        ada = system.person("ada")
        ada.key.write_private_key(tmp_path / "user")
        (tmp_path / "user").chmod(0o600)
        system.host_key.write_public_key(tmp_path / "host.pub")
        server = SimpleNamespace(folder=tmp_path, port=system.server.port, user="user-ada")
        mount = await asyncio.to_thread(Mount, server, "/private", tmp_path / "m", LIMIT_S)
        path, stored = mount.path / "file", system.private("ada")
        handle = -1
        try:
            await asyncio.to_thread(path.write_bytes, b"before")
            handle = await asyncio.to_thread(os.open, path, os.O_RDWR)
            await asyncio.to_thread(os.fsync, handle)
            system.portal.revoke(ada.name)
            await until(lambda: not system.server.sessions.all)
            assert await asyncio.to_thread(os.write, handle, b"after!") == 6  # sent behind
            ended = await asyncio.gather(
                asyncio.to_thread(outcome, os.fsync, handle),
                asyncio.to_thread(outcome, (mount.path / "new").write_bytes, b"after"),
                asyncio.to_thread(outcome, os.listdir, mount.path),
                asyncio.to_thread(outcome, path.read_bytes),
                asyncio.to_thread(outcome, path.unlink),
            )
            assert ended == [errno.EIO] * 5
            assert [(one.name, one.read_bytes()) for one in stored.iterdir()] == [
                ("file", b"before")
            ]
        finally:
            if handle >= 0:
                os.close(handle)
            await asyncio.to_thread(mount.end)
