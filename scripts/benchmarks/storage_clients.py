"""A hundred stock clients at one file server, beside OpenSSH's internal-sftp with the same clients.

    sftp, 100 processes ──▶ our file server │ sshd with internal-sftp

- ``storage.clients100``        MB/s in all, each client putting a file and getting it back, twice
- ``storage.idle_client_mib``   what the file server grows by for each session that is open and idle

Rounds in turn; medians are compared.
"""

import argparse
import asyncio
import contextlib
import getpass
import json
import logging
import os
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import asyncssh
import msgspec

sys.path.append(str(Path(__file__).parents[2] / "tests"))

from fakes.grants_portal import GrantsPortal
from lib.sftp_client import PrivateClient
from parts.processes import Processes, free_port, listens, need, output_of, resident_kib, until
from parts.rows import Row, beside, show, write

from dit4c_p2p.identity.keys import generate, public_line, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS

CLIENTS = 100
ROUNDS = 3
FILE_BYTES = 4 * 1024 * 1024
TIMES = 2
IDLE = 50
NEEDED = {"sftp": "openssh-client", "sshd": "openssh-server"}
CIPHER = "aes128-gcm@openssh.com"
PART = Path(__file__).with_name("parts") / "file_server_process.py"


@dataclass
class Server:
    """One contestant as its clients reach it; files are put into ``folder``."""

    user: str
    port: int
    folder: str
    host_key: asyncssh.SSHKey


class Bench:
    """Both servers, and one key that both let in."""

    def __init__(self, folder: Path, portal: GrantsPortal, processes: Processes) -> None:
        self.folder = folder
        self.portal = portal
        self.processes = processes
        self.key = generate()
        self.key_file = folder / "key"
        write_private(self.key_file, self.key)
        self.source = folder / "source"
        self.source.write_bytes(os.urandom(FILE_BYTES))

    async def ours(self) -> tuple[Server, int]:
        """Our file server, and its process's id."""
        _, host_key = self.portal.new_peer("fileserver-files")
        person = "user-ada"
        self.portal.publish(PeerName.parse(person), self.key)
        self.portal.grant_usual(person, "ada")
        port = free_port()
        told = {
            "folder": str(self.folder / "ours"),
            "key": host_key.export_private_key().decode(),
            "port": str(port),
            "portal": msgspec.to_builtins(self.portal.info),
            "connections": str(2 * CLIENTS),
        }
        file = self.folder / "told.json"
        file.write_text(json.dumps(told))
        process = await self.processes.start(
            sys.executable, str(PART), str(file), log=self.folder / "ours.log"
        )
        await until("the file server", lambda: listens(port))
        return Server(person, port, "/private", host_key), process.pid

    async def openssh(self) -> Server:
        """OpenSSH's server, its own user let in by the same key."""
        host_key, port = generate(), free_port()
        write_private(self.folder / "host", host_key)
        (self.folder / "authorized").write_text(public_line(self.key) + "\n")
        (self.folder / "theirs").mkdir()
        settings = {
            "Port": port,
            "ListenAddress": "127.0.0.1",
            "HostKey": self.folder / "host",
            "AuthorizedKeysFile": self.folder / "authorized",
            "StrictModes": "no",
            "PasswordAuthentication": "no",
            "UsePAM": "no",
            "PermitRootLogin": "yes",
            "PidFile": "none",
            "MaxStartups": 2 * CLIENTS,
            "Ciphers": CIPHER,
            "Subsystem": "sftp internal-sftp",
        }
        file = self.folder / "sshd_config"
        file.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        await self.processes.start(
            "/usr/sbin/sshd", "-D", "-e", "-f", str(file), log=self.folder / "sshd.log"
        )
        await until("sshd", lambda: listens(port))
        return Server(getpass.getuser(), port, str(self.folder / "theirs"), host_key)

    async def throughput(self, server: Server) -> float:
        """MB/s of all clients together."""
        hosts = self.folder / f"hosts-{server.port}"
        hosts.write_text(f"[127.0.0.1]:{server.port} {public_line(server.host_key)}\n")
        options = {
            "UserKnownHostsFile": hosts,
            "StrictHostKeyChecking": "yes",
            "IdentityFile": self.key_file,
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "Ciphers": CIPHER,
        }
        words = [part for name, value in options.items() for part in ("-o", f"{name}={value}")]
        at = f"{server.user}@127.0.0.1"

        async def client(number: int) -> None:
            batch = self.folder / f"batch-{number}"
            there, back = f"{server.folder}/{number}", self.folder / f"back-{number}"
            batch.write_text(f"put {self.source} {there}\nget {there} {back}\n" * TIMES)
            await output_of(
                *("sftp", "-q", *words, "-P", str(server.port), "-b", str(batch), at), limit_s=300
            )
            assert back.read_bytes() == self.source.read_bytes()

        # A server bears eight connections of one address before their login.
        began = time.monotonic()
        logins = asyncio.Semaphore(6)

        async def start(number: int) -> None:
            back = self.folder / f"back-{number}"
            back.unlink(missing_ok=True)
            async with logins:
                running = asyncio.create_task(client(number))
                while not back.exists() and not running.done():
                    await asyncio.sleep(0.01)
            await running

        await asyncio.gather(*(start(number) for number in range(CLIENTS)))
        return CLIENTS * TIMES * 2 * FILE_BYTES / 1e6 / (time.monotonic() - began)

    async def idle_mib(self, server: Server, pid: int) -> float:
        """What each open session takes at the server."""
        before = resident_kib(pid)
        async with AsyncExitStack() as stack:
            for _ in range(IDLE):
                connection = await stack.enter_async_context(
                    asyncssh.connect(
                        "127.0.0.1",
                        server.port,
                        username=server.user,
                        client_keys=[self.key],
                        known_hosts=([server.host_key.convert_to_public()], [], []),
                        **CLIENT_OPTIONS,
                    )
                )
                await stack.enter_async_context(PrivateClient(connection))
            return (resident_kib(pid) - before) / 1024 / IDLE


async def bench(json_file: Path | None) -> None:
    """Measure, show, and write the rows."""
    processes = Processes()
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as name:
        async with GrantsPortal() as portal:
            try:
                contest = Bench(Path(name), portal, processes)
                server, pid = await contest.ours()
                idle = await contest.idle_mib(server, pid)
                peer = await contest.openssh()
                for _ in range(ROUNDS):
                    ours.append(await contest.throughput(server))
                    theirs.append(await contest.throughput(peer))
            finally:
                await processes.end()
    rows = [
        beside("storage.clients100", "MB/s", "higher", 0.8, ours=ours, peers=[theirs]),
        Row("storage.idle_client_mib", idle, 2.0, "MiB", "lower"),
    ]
    show(rows)
    write(rows, json_file)


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(prog="scripts/bench storage_clients", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    arguments = parser.parse_args()
    need(NEEDED)
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(bench(arguments.json))
        return
    raise SystemExit(130)


if __name__ == "__main__":
    main()
