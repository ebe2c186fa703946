"""Stock clients store a folder and fetch it back; what is on the disk is what they were given."""

import asyncio
import hashlib
import random
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

import paramiko
import pytest
from systems.fileserver import FileServerSystem

from dit4c_p2p.overlay.ssh_options import Identity

NAMES = ["empty", "one byte", "large", "naïve ☃.txt", "-dash", "deep/er/file", "deep/run.sh"]


def fill(folder: Path) -> None:
    """Files of several sizes, one of which is executable."""
    noise = random.Random(7)
    sizes = [0, 1, 3 * 1024 * 1024 + 17, 100, 5, 70_000, 30]
    for name, size in zip(NAMES, sizes, strict=True):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(noise.randbytes(size))
    (folder / "deep/run.sh").chmod(0o755)


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder and the hash of its contents."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


Client = Callable[[FileServerSystem, Identity, Path, Path], Awaitable[None]]


async def openssh_sftp(system: FileServerSystem, ada: Identity, source: Path, target: Path) -> None:
    batch = (
        f"cd /private\nput -r {source} there\nls -la there\nget -rp there {target}/back\n"
        "mkdir made\nrename there/large made/large\nrename made/large there/large\n-rm made/none\n"
        "rmdir made\n"
        "ln -s there link\nln there/empty hard\ndf -h\nchmod 600 hard\n"
    )
    await system.run(
        *("sftp", *system.ssh_options(ada), "-P", str(system.server.port), "-b", "-"),
        f"{ada.name}@127.0.0.1",
        stdin=batch.encode(),
    )
    private = system.private("ada")
    assert str((private / "link").readlink()) == "there"
    assert (private / "hard").stat().st_nlink == 2
    assert not (private / "made").exists()
    (target / "back").rename(target / "there")


async def openssh_scp(system: FileServerSystem, ada: Identity, source: Path, target: Path) -> None:
    common = ("scp", "-s", "-r", "-p", *system.ssh_options(ada), "-P", str(system.server.port))
    there = f"{ada.name}@127.0.0.1:/private/there"
    await system.run(*common, str(source), there)
    await system.run(*common, there, str(target))


async def sshfs(system: FileServerSystem, ada: Identity, source: Path, target: Path) -> None:
    point = system.folder / "mount"
    point.mkdir()
    await system.run(
        *("sshfs", *system.ssh_options(ada), "-p", str(system.server.port)),
        *(f"{ada.name}@127.0.0.1:/private", str(point)),
    )
    try:
        await system.run("cp", "-a", "--no-preserve=ownership", str(source), f"{point}/there")
        await system.run("cp", "-a", "--no-preserve=ownership", f"{point}/there", str(target))
        await system.run("mv", f"{point}/there/large", f"{point}/there/moved")
        await system.run("mv", f"{point}/there/moved", f"{point}/there/large")
        await system.run("df", str(point))
    finally:
        await system.run("fusermount3", "-u", str(point))


async def rclone(system: FileServerSystem, ada: Identity, source: Path, target: Path) -> None:
    key, hosts = system.ssh_files(ada)
    options = (
        *("--sftp-host", "127.0.0.1", "--sftp-port", str(system.server.port)),
        *("--sftp-user", str(ada.name), "--sftp-key-file", str(key)),
        *("--sftp-known-hosts-file", str(hosts), "--sftp-disable-hashcheck"),
        *("--config", "/dev/null", "--transfers", "4", "--multi-thread-streams", "4"),
    )
    await system.run("rclone", *options, "copy", str(source), ":sftp:/private/there")
    await system.run("rclone", *options, "check", str(source), ":sftp:/private/there", "--download")
    await system.run("rclone", *options, "copy", ":sftp:/private/there", str(target / "there"))


async def lftp(system: FileServerSystem, ada: Identity, source: Path, target: Path) -> None:
    ssh = " ".join(["ssh", "-a", "-x", *system.ssh_options(ada)])
    commands = (
        f'set sftp:connect-program "{ssh}"; set cmd:fail-exit yes; '
        f"open -u {ada.name},x -p {system.server.port} sftp://127.0.0.1; "
        f"mirror -R --parallel=4 {source} /private/there; "
        f"mirror --parallel=4 /private/there {target}/there; "
        f"pget -n 4 /private/there/large -o {target}/there/pieces; bye"
    )
    await system.run("lftp", "-c", commands)
    (target / "there/pieces").replace(target / "there/large")


async def paramiko_client(
    system: FileServerSystem, ada: Identity, source: Path, target: Path
) -> None:
    key, hosts = system.ssh_files(ada)

    def work() -> None:
        with paramiko.SSHClient() as client:
            client.load_host_keys(str(hosts))
            client.connect(
                "127.0.0.1",
                system.server.port,
                str(ada.name),
                key_filename=str(key),
                allow_agent=False,
                look_for_keys=False,
            )
            sftp = client.open_sftp()
            made = set()
            for name in NAMES:
                parent = Path(name).parent
                for folder in [*reversed(parent.parents), parent]:
                    if folder not in made:
                        made.add(folder)
                        sftp.mkdir(f"/private/there/{folder}")
                        (target / "there" / folder).mkdir()
                sftp.put(str(source / name), f"/private/there/{name}")
                sftp.chmod(f"/private/there/{name}", stat.S_IMODE((source / name).stat().st_mode))
                sftp.get(f"/private/there/{name}", str(target / "there" / name), prefetch=True)

    await asyncio.to_thread(work)


CLIENTS: dict[str, Client] = {
    "sftp": openssh_sftp,
    "scp -s": openssh_scp,
    "sshfs": sshfs,
    "rclone": rclone,
    "lftp": lftp,
    "paramiko": paramiko_client,
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_folder_comes_back_as_it_was(client, system, tmp_path):
    ada = system.person("ada")
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    fill(source)
    await CLIENTS[client](system, ada, source, target)
    want = contents(source)
    assert contents(system.private("ada") / "there") == want
    assert contents(target / "there") == want
    mode = (system.private("ada") / "there/deep/run.sh").stat().st_mode
    if client not in ("rclone", "lftp"):  # rclone and lftp don't send modes here
        assert stat.S_IMODE(mode) == 0o755


async def test_links_of_every_client_lead_where_they_should(system, tmp_path):
    """Version 3's text and OpenSSH disagree on the order of SYMLINK's arguments."""
    ada = system.person("ada")
    home = system.private("ada")
    async with system.sftp(ada) as sftp:
        await sftp.symlink("target", "/private/by-asyncssh")
        assert await sftp.readlink("/private/by-asyncssh") == "target"
    options = [*system.ssh_options(ada), "-P", str(system.server.port)]
    batch = b"cd /private\nln -s target by-sftp\n"
    await system.run("sftp", "-b", "-", *options, f"{ada.name}@127.0.0.1", stdin=batch)
    point = tmp_path / "mount"
    point.mkdir()
    await system.run(
        *("sshfs", *system.ssh_options(ada), "-p", str(system.server.port)),
        *(f"{ada.name}@127.0.0.1:/private", str(point)),
    )
    try:
        await system.run("ln", "-s", "target", f"{point}/by-sshfs")
    finally:
        await system.run("fusermount3", "-u", str(point))
    for name in ("by-asyncssh", "by-sftp", "by-sshfs"):
        assert (home / name).readlink() == Path("target"), name
