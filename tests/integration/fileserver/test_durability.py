"""security.md section 5: no byte is lost that an fsync has confirmed."""

import asyncio
import json
import os
import struct
import sys
import threading
from pathlib import Path

import asyncssh
import msgspec
import pytest
from fakes.grants_portal import GrantsPortal
from lib.sftp_client import PrivateClient
from systems import fileserver_process
from systems.all_in_one import free_ports
from systems.fileserver import FileServerSystem

from dit4c_p2p.fileserver import open_files
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, Identity
from dit4c_p2p.sftp import openssh, packets
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.wire import encode_record

CREATE = OpenFlag.READ | OpenFlag.WRITE | OpenFlag.CREAT
WRITERS, KILLS = 4, 3
RECORD = 1000


class Killed:
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

    async def write(self, number: int, confirmed: dict[int, int]) -> None:
        """Write record after record, each with an fsync, until the server is gone."""
        try:
            async with asyncssh.connect(
                "127.0.0.1",
                self.port,
                username="user-ada",
                client_keys=[self.ada.key],
                known_hosts=([self.key.convert_to_public()], [], []),
                **CLIENT_OPTIONS,
            ) as connection:
                async with PrivateClient(connection) as client:
                    path = b"/private/%d" % number
                    opened = await client.run(ops.OpenFile(path, CREATE))
                    while True:
                        record = confirmed[number]
                        data = struct.pack(">Q", record) * (RECORD // 8)
                        wrote = await client.run(
                            ops.WriteData(record * RECORD, data, opened.handle),
                            ops.Fsync(opened.handle),
                        )
                        assert wrote == [ops.Done(), ops.Done()]
                        confirmed[number] = record + 1
        except (asyncssh.Error, OSError):
            return


async def test_a_killed_server_loses_nothing_that_was_confirmed(tmp_path):
    async with GrantsPortal() as portal:
        server = Killed(portal, tmp_path)
        confirmed = dict.fromkeys(range(WRITERS), 0)
        for _ in range(KILLS):
            before = sum(confirmed.values())
            await server.start()
            try:
                writers = [
                    asyncio.create_task(server.write(one, confirmed)) for one in range(WRITERS)
                ]
                async with asyncio.timeout(30):
                    while sum(confirmed.values()) < before + 40:
                        await asyncio.sleep(0.01)
            finally:
                await server.kill()
            await asyncio.gather(*writers)
            for number, count in confirmed.items():
                data = (tmp_path / f"trees/user-ada/files/private/{number}").read_bytes()
                for record in range(count):
                    piece = data[record * RECORD : (record + 1) * RECORD]
                    assert piece == struct.pack(">Q", record) * (RECORD // 8)


@pytest.mark.parametrize("private", [True, False])
async def test_an_fsync_is_answered_after_the_disk_has_it(
    system: FileServerSystem, monkeypatch, private
):
    goes_on = threading.Event()
    asked: list[str] = []

    def slow(descriptor):
        asked.append("fsync")
        assert goes_on.wait(10)
        fsync(descriptor)

    fsync = os.fsync
    monkeypatch.setattr(open_files.os, "fsync", slow)
    async with system.session(system.person("ada"), hello=private) as client:
        if private:
            opened = await client.run(ops.OpenFile(b"/private/file", CREATE))
            answer = client.start(ops.Fsync(opened.handle))
        else:
            handle = await client.request(packets.Open(b"/private/file", CREATE, Attrs()))
            data = encode_record(openssh.OneHandle(handle.handle))
            answer = client.send(packets.Extended(openssh.FSYNC, data))
        async with asyncio.timeout(10):
            while not asked:
                await asyncio.sleep(0.01)
        assert not answer.done()
        goes_on.set()
        async with asyncio.timeout(10):
            await answer
        assert asked == ["fsync"]
