"""A mount of the storage helper, in a process of its own, over a stock SFTP server or ours.

``python storage_mount.py mount PORT USER FOLDER MOUNTPOINT LIMIT_S`` is the mount's process; keys
are in the folder ``$STORAGE_KEYS``. A line "mounted" on standard output says that it answers.
``python storage_mount.py serve FOLDER`` is the process of a file server of ours; a line with its
port says that it answers, and it ends with its standard input.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import asyncssh
import pytest

KEYS_VARIABLE, AHEAD_VARIABLE = "STORAGE_KEYS", "STORAGE_CLOCK_AHEAD_S"
# A pod's helper takes up to a minute to send what is left.
_DRAIN_LIMIT_S = 5.0

needs_fuse = [
    pytest.mark.root,
    pytest.mark.skipif(
        os.geteuid() != 0 or not Path("/dev/fuse").exists(), reason="root mounts by FUSE"
    ),
]


class StockServer:
    """OpenSSH's sshd with its own SFTP server, on a port of loopback; keys lie in ``folder``."""

    user = "root"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        for name in ("host", "user"):
            key = asyncssh.generate_private_key("ssh-ed25519")
            key.write_private_key(folder / name)
            (folder / name).chmod(0o600)
            key.write_public_key(folder / f"{name}.pub")
        (folder / "sshd_config").write_text(
            f"""Port {self.port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PermitRootLogin yes
StrictModes no
UsePAM no
PidFile none
Subsystem sftp internal-sftp -u 0
"""
        )

    def start(self) -> None:
        """Start it, and wait until it answers."""
        Path("/run/sshd").mkdir(exist_ok=True)
        program = shutil.which("sshd", path="/usr/sbin:/usr/bin:/sbin") or "/usr/sbin/sshd"
        self._process = subprocess.Popen(
            [program, "-D", "-f", str(self.folder / "sshd_config")],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _until_answered(self.port)

    def kill(self) -> None:
        """End it and all its connections at once."""
        if self._process is not None:
            os.kill(self._process.pid, signal.SIGSTOP)  # it takes no connection any more
            for process in (*_children(self._process.pid), self._process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            self._process.wait(10)
            self._process = None


class OwnServer:
    """A file server of ours in a process of its own; ``stored`` is what ``/private`` shows."""

    user = "user-ada"
    shown = "/private"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._process = subprocess.Popen(
            [sys.executable, __file__, "serve", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self.stored = folder / "trees" / "user-ada" / "files" / "private"

    @property
    def descriptors(self) -> int:
        """How many descriptors its process has open."""
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def kill(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(20)


class Mount:
    """One mount of ``shown`` (a folder of the server) at ``path``.

    :param ahead_s: how much the clock of its process is ahead of the server's.
    """

    def __init__(
        self,
        server: StockServer | OwnServer,
        shown: Path | str,
        path: Path,
        limit_s: float = 30,
        ahead_s: int = 0,
    ) -> None:
        self.path = path
        path.mkdir(exist_ok=True)
        arguments = ["mount", str(server.port), server.user, str(shown), str(path), str(limit_s)]
        self.process = subprocess.Popen(
            [sys.executable, __file__, *arguments],
            stdout=subprocess.PIPE,
            env=os.environ | {KEYS_VARIABLE: str(server.folder), AHEAD_VARIABLE: str(ahead_s)},
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line == b"mounted\n", line

    def stop(self) -> None:
        """Have its process do nothing."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Have its process go on."""
        self.process.send_signal(signal.SIGCONT)

    def drain(self) -> str:
        """Tell its process to send what is left and to end, as a pod's helper is told.

        Returns what it says.
        """
        self.process.terminate()
        assert self.process.stdout is not None
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 0
        return said.decode()

    def end(self) -> None:
        """Unmount, whatever state it is in."""
        subprocess.run(["umount", "-l", str(self.path)], check=False, stderr=subprocess.DEVNULL)
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _until_answered(port: int) -> None:
    end = time.monotonic() + 15
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        assert time.monotonic() < end, f"nothing answers at port {port}"
        time.sleep(0.02)


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[1]) == parent:
                child = int(stat.parent.name)
                found += [child, *_children(child)]
    return found


async def _serve_files(folder: Path) -> None:
    from systems.fileserver import running_file_server

    async with running_file_server(folder) as system:
        identity = system.person("ada")
        identity.key.write_private_key(folder / "user")
        (folder / "user").chmod(0o600)
        system.host_key.write_public_key(folder / "host.pub")
        print(system.server.port, flush=True)
        await asyncio.to_thread(sys.stdin.read)


async def _serve(port: int, user: str, shown: str, mountpoint: str, limit_s: float) -> None:
    from dit4c_p2p.helpers.status import StatusLines
    from dit4c_p2p.helpers.storage.compound_remote import say_hello
    from dit4c_p2p.helpers.storage.file_operations import StorageFilesystem
    from dit4c_p2p.helpers.storage.fuse_session import PyfuseKernel, serve_fuse
    from dit4c_p2p.helpers.storage.helper import send_rest
    from dit4c_p2p.helpers.storage.plain_remote import PlainRemote
    from dit4c_p2p.helpers.storage.remote import Remote
    from dit4c_p2p.helpers.storage.server_link import ServerLink
    from dit4c_p2p.helpers.storage.sftp_client import ConnectionGone, open_client
    from dit4c_p2p.overlay.asyncssh_ext.backpressure import install_backpressure
    from dit4c_p2p.overlay.asyncssh_ext.fastpath import enable_fast_path
    from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS

    keys = Path(os.environ[KEYS_VARIABLE])
    time_ns, ahead_ns = time.time_ns, int(os.environ[AHEAD_VARIABLE]) * 10**9
    time.time_ns = lambda: time_ns() + ahead_ns
    host_key = asyncssh.read_public_key(keys / "host.pub")

    class Client(asyncssh.SSHClient):
        def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
            install_backpressure(conn)

    async def connect() -> Remote:
        try:
            connection = await asyncssh.connect(
                "127.0.0.1",
                port,
                client_factory=Client,
                username=user,
                client_keys=[str(keys / "user")],
                known_hosts=([host_key], [], []),
                **CLIENT_OPTIONS,
            )
        except (OSError, asyncssh.Error) as error:
            raise ConnectionGone(f"no connection: {error}") from None
        enable_fast_path(connection)
        client = await open_client(connection)
        return await say_hello(client) or PlainRemote(client)

    link = ServerLink("stock", connect, limit_s=limit_s)
    keeping = asyncio.create_task(link.run())
    filesystem = StorageFilesystem((os.getuid(), os.getgid()), PyfuseKernel())
    filesystem.table.plant(b"", link, shown.encode())

    draining: list[asyncio.Task[None]] = []

    async def drain() -> None:
        await send_rest(filesystem, StatusLines("storage"), min(limit_s, _DRAIN_LIMIT_S))
        os._exit(0)

    def say() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(
            signal.SIGTERM, lambda: draining.append(asyncio.ensure_future(drain()))
        )
        print("mounted", flush=True)

    options = {"fsname=dit4c", "default_permissions", "allow_other"}
    keeping.add_done_callback(lambda task: task.cancelled() or print(task.exception()))
    await serve_fuse(filesystem, mountpoint, options, mounted=say)
    keeping.cancel()


def main() -> None:
    """The process that the arguments ask for."""
    import logging

    import uvloop

    logging.basicConfig(level=logging.INFO)
    logging.getLogger("asyncssh").setLevel(logging.WARNING)

    match sys.argv[1:]:
        case ["serve", folder]:
            uvloop.run(_serve_files(Path(folder)))
        case ["mount", port, user, shown, mountpoint, limit_s]:
            uvloop.run(_serve(int(port), user, shown, mountpoint, float(limit_s)))


if __name__ == "__main__":
    main()
