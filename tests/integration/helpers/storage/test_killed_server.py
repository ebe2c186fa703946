"""A file server that is killed under a mount: its programs do not notice."""

import asyncio
import os
from types import SimpleNamespace

from fakes.grants_portal import GrantsPortal
from systems.killed_fileserver import KilledServer
from systems.mount_writers import check, end, writing
from systems.storage_mount import Mount, needs_fuse

pytestmark = needs_fuse

# By hand more.
KILLS = int(os.environ.get("STORAGE_KILLS", "2"))


async def test_programs_do_not_notice_that_their_server_is_killed(tmp_path):
    async with GrantsPortal() as portal:
        server = KilledServer(portal, tmp_path)
        server.log_in_as_ada()
        await server.start()
        told = SimpleNamespace(folder=tmp_path, port=server.port, user="user-ada")
        mount = await asyncio.to_thread(Mount, told, "/private", tmp_path / "m", 120)
        try:
            folder = mount.path / "written"
            await asyncio.to_thread(folder.mkdir)
            writers = writing(folder)
            try:
                for kill in range(KILLS):
                    before = [writer.rounds for writer in writers]
                    await until_all_go_on(writers, before)
                    await server.kill()
                    await asyncio.sleep((0.1, 2.0, 7.0)[kill % 3])
                    before = [writer.rounds for writer in writers]
                    await server.start()
                    await until_all_go_on(writers, before)
            finally:
                await asyncio.to_thread(end, writers)
            stored = tmp_path / "trees" / "user-ada" / "files" / "private" / "written"
            await asyncio.to_thread(check, writers, stored)
        finally:
            await asyncio.to_thread(mount.end)
            await server.kill()


async def until_all_go_on(writers, before):
    async with asyncio.timeout(60):
        while not all(
            writer.rounds > count + 3 or writer.error
            for writer, count in zip(writers, before, strict=True)
        ):
            await asyncio.sleep(0.02)
