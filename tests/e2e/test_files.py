"""Stock SFTP clients against the running system, with a key that was added to an account."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import aiohttp
import pytest
from systems.all_in_one import System

pytestmark = pytest.mark.engine

WAIT_S = 30


async def key_of_admin(system: System, folder: Path) -> list[str]:
    """Add a new SSH key to the admin's account; options of OpenSSH's programs for it."""
    key, hosts = folder / "key", folder / "known_hosts"
    make = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "laptop", "-f", str(key)]
    subprocess.run(make, check=True, timeout=20)
    line = key.with_suffix(".pub").read_text().strip()
    async with system.api() as api:
        body = {"name": "laptop", "line": line}
        await api.call("POST", "people/admin/ssh-keys", body, expect=201)
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{system.access['portal']}/known_hosts") as response:
            hosts.write_text(await response.text())
    options = {
        "UserKnownHostsFile": hosts,
        "HostKeyAlias": "fileserver-main",
        "StrictHostKeyChecking": "yes",
        "IdentityFile": key,
        "IdentitiesOnly": "yes",
        "BatchMode": "yes",
    }
    port = system.access["files"].rpartition(":")[2]
    said = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
    return ["-q", "-P", port, *said]


def sftp(options: list[str], commands: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sftp", *options, "-b", "-", "user-admin@127.0.0.1"],
        input=commands, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


async def test_a_file_is_kept_whatever_happens_to_the_file_server(own_system, tmp_path):
    """It has a process of its own: killed, it comes back by itself; it ends with ``dit4c up``."""
    own_system.start()
    options = await key_of_admin(own_system, tmp_path)
    (tmp_path / "file").write_bytes(os.urandom(100_000))
    put = await asyncio.to_thread(sftp, options, f"put -f {tmp_path}/file /private/kept\nls /\n")
    assert put.returncode == 0, put.stderr
    assert "/private" in put.stdout
    kept = own_system.data / "fileserver/trees/user-admin/files/private/kept"
    assert kept.read_bytes() == (tmp_path / "file").read_bytes()

    (server,) = processes(own_system)
    os.kill(server, signal.SIGKILL)
    async with asyncio.timeout(WAIT_S):
        while processes(own_system) in ([], [server]):
            await asyncio.sleep(0.1)
        while True:
            got = await asyncio.to_thread(sftp, options, f"get /private/kept {tmp_path}/back\n")
            if got.returncode == 0:
                break
            await asyncio.sleep(0.2)
    assert (tmp_path / "back").read_bytes() == kept.read_bytes()

    own_system.kill()
    async with asyncio.timeout(WAIT_S):
        while processes(own_system):
            await asyncio.sleep(0.1)
    own_system.start()
    got = await asyncio.to_thread(sftp, options, f"get /private/kept {tmp_path}/again\n")
    assert (tmp_path / "again").read_bytes() == kept.read_bytes()


def processes(system: System) -> list[int]:
    """Ids of the system's file server."""
    file = str(system.data / "fileserver/fileserver.toml").encode()
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if file in words:
            found.append(int(process.name))
    return found
