"""A file server that is killed and started again, and programs that write on a mount of it."""

import asyncio
import json
import sys
from pathlib import Path

import msgspec
from fakes.grants_portal import GrantsPortal
from systems import fileserver_process
from systems.all_in_one import free_ports

from dit4c_p2p.identity.keys import write_private
from dit4c_p2p.overlay.ssh_options import Identity


class KilledServer:
    """A file server in a process of its own, which is killed and started again."""

    def __init__(self, portal: GrantsPortal, folder: Path) -> None:
        _, self.key = portal.new_peer("fileserver-files")
        self.ada = Identity(*portal.new_peer("user-ada"))
        portal.grant_usual("user-ada", "ada")
        (self.port,) = free_ports(1)
        self.folder = folder
        self.file = folder / "told.json"
        told = {
            "folder": str(folder),
            "key": self.key.export_private_key().decode(),
            "port": str(self.port),
            "portal": msgspec.to_builtins(portal.info),
        }
        self.file.write_text(json.dumps(told))

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, fileserver_process.__file__, str(self.file)
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.close()
                    return
                except OSError:
                    await asyncio.sleep(0.02)

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()

    def log_in_as_ada(self) -> None:
        """Leave the keys in the folder that :class:`Mount` reads."""
        write_private(self.folder / "user", self.ada.key)
        self.key.write_public_key(self.folder / "host.pub")
