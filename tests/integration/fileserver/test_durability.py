"""security.md section 5: no byte is lost that an fsync has confirmed."""

import asyncio
import os
import struct
import threading

import asyncssh
import pytest
from fakes.grants_portal import GrantsPortal
from lib.sftp_client import PrivateClient
from systems.fileserver import FileServerSystem
from systems.killed_fileserver import KilledServer

from dit4c_p2p.fileserver import open_files
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS
from dit4c_p2p.sftp import openssh, packets
from dit4c_p2p.sftp import operations as ops
from dit4c_p2p.sftp.attrs import Attrs
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.wire import encode_record

CREATE = OpenFlag.READ | OpenFlag.WRITE | OpenFlag.CREAT
WRITERS, KILLS = 4, 3
RECORD = 1000


async def write(server: KilledServer, number: int, confirmed: dict[int, int]) -> None:
    """Write record after record, each with an fsync, until the server is gone."""
    try:
        async with asyncssh.connect(
            "127.0.0.1",
            server.port,
            username="user-ada",
            client_keys=[server.ada.key],
            known_hosts=([server.key.convert_to_public()], [], []),
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
        server = KilledServer(portal, tmp_path)
        confirmed = dict.fromkeys(range(WRITERS), 0)
        for _ in range(KILLS):
            before = sum(confirmed.values())
            await server.start()
            try:
                writers = [
                    asyncio.create_task(write(server, one, confirmed)) for one in range(WRITERS)
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
