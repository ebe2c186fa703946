"""Tiny images made of busybox and nft, and an agent's pods on the real engine.

The images are made from this machine's own binaries: nothing is downloaded.
The stand-in helpers say what real ones say (lines of HelperStatus), by looking at the app's port.
"""

import asyncio
import io
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib.paths import ROOT
from lib.waiting import until

from dit4c_p2p.messages.node import StartPod
from dit4c_p2p.messages.pod import HELPER_UID
from dit4c_p2p.node.config import HelperImages, NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.parts import NodeParts
from dit4c_p2p.node.pods.manager import PodManager

MIB = 1024**2
APPLETS = (
    "sh sleep httpd nc wget cat echo dd ping arping ip kill ls id touch tail sed test mkdir stat"
)

_WAIT_FOR_APP = """port=$(sed 's/.*"app_port":\\([0-9]*\\).*/\\1/' /run/dit4c/config.json)
until wget -q -O /dev/null http://127.0.0.1:$port/; do sleep 0.1; done
"""
LISTENER = (
    """#!/bin/sh
say() { echo "{\\"type\\":\\"helper-status\\",\\"helper\\":\\"listener\\",\\"state\\":\\"$1\\"}"; }
[ -r /run/dit4c/key ] || exit 9
say connecting
say connected
"""
    + _WAIT_FOR_APP
    + "say published\nexec sleep 100000\n"
)
AUTH = (
    """#!/bin/sh
say() { echo "{\\"type\\":\\"helper-status\\",\\"helper\\":\\"auth\\",\\"state\\":\\"$1\\"}"; }
touch /run/dit4c/auth.sock || exit 9
say waiting_for_app
"""
    + _WAIT_FOR_APP
    + "say app_ready\nexec sleep 100000\n"
)


def pods_of(config: NodeConfig, engine: Engine) -> PodManager:
    """The pods of an agent with that configuration."""
    return NodeParts(config, engine).pods


def docker(*arguments: str, data: bytes | None = None, check: bool = True) -> str:
    """One command of the engine's own client."""
    done = subprocess.run(
        ["docker", *arguments], input=data, capture_output=True, check=False, timeout=60
    )
    if check and done.returncode:
        raise AssertionError(f"docker {arguments[0]}: {done.stderr.decode()}")
    return (done.stdout + (b"" if check else done.stderr)).decode(errors="replace").strip()


def _libraries(program: str) -> list[str]:
    """What a program needs to run; nothing if it is linked statically."""
    listed = subprocess.run(["ldd", program], capture_output=True, check=False, text=True).stdout
    words = [word for word in listed.split() if word.startswith("/")]
    return sorted(set(words))


def make_image(files: dict[str, bytes | Path], *changes: str) -> str:
    """Import an image with busybox and ``files``; returns its id."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for folder in ("tmp", "run/dit4c", "etc"):
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o1777 if folder == "tmp" else 0o755
            if folder == "run/dit4c":
                entry.uid, entry.gid, entry.mode = HELPER_UID, HELPER_UID, 0o700
            archive.addfile(entry)
        busybox = {name: Path(name) for name in [*_libraries("/bin/busybox"), "/bin/busybox"]}
        for name, source in {**busybox, **files}.items():
            content = source if isinstance(source, bytes) else source.resolve().read_bytes()
            entry = tarfile.TarInfo(name.lstrip("/"))
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for applet in APPLETS.split():
            link = tarfile.TarInfo(f"bin/{applet}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            archive.addfile(link)
    flags = [word for change in changes for word in ("--change", change)]
    return docker("import", *flags, "-", data=buffer.getvalue())


def _python() -> dict[str, bytes | Path]:
    """Debian's smallest Python, which has sockets built in."""
    listed = subprocess.run(
        ["dpkg", "-L", "python3.11-minimal", "libpython3.11-minimal"],
        capture_output=True,
        check=True,
        text=True,
    ).stdout.split()
    files = {name: Path(name) for name in listed if Path(name).is_file()}
    found: dict[str, bytes | Path] = {
        name: path for name, path in files.items() if "/usr/share/" not in name
    }
    return found | {name: Path(name) for name in _libraries("/usr/bin/python3.11")}


@dataclass
class Images:
    """Ids of the images of this test run."""

    infra: str
    listener: str
    auth: str
    app: str
    exits: str
    hungry: str
    deaf: str
    no_port: str
    python: str

    @property
    def helpers(self) -> HelperImages:
        return HelperImages(self.infra, self.listener, self.auth)


def make_images() -> Images:
    """Import all of them; ``drop_images`` removes them again."""
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    assert nft, "the tests need nftables"
    tools = {name: Path(name) for name in _libraries(nft)} | {"usr/sbin/nft": Path(nft)}
    serve = 'CMD ["httpd","-f","-p","8080"]'
    web = ("EXPOSE 9090/tcp 8080/tcp 53/udp", "ENV PATH=/bin:/usr/bin:/usr/sbin")
    page: dict[str, bytes | Path] = {"index.html": b"hello"}
    infra_script = ROOT / "helpers/pod/infra/infra"
    return Images(
        infra=make_image(
            {**tools, "usr/local/bin/infra": infra_script},
            'ENTRYPOINT ["/bin/sh","/usr/local/bin/infra"]',
            "ENV PATH=/bin:/usr/sbin",
        ),
        listener=make_image({"listener": LISTENER.encode()}, 'ENTRYPOINT ["/listener"]', web[1]),
        auth=make_image({"auth": AUTH.encode()}, 'ENTRYPOINT ["/auth"]', web[1]),
        app=make_image({"data/kept": b"from the image", **page}, serve, *web, "VOLUME /data"),
        exits=make_image({}, 'CMD ["sh","-c","echo the last words; exit 3"]', *web),
        hungry=make_image({}, 'CMD ["dd","if=/dev/zero","of=/dev/null","bs=1G","count=1"]', *web),
        deaf=make_image({}, 'CMD ["sh","-c","echo I listen to nobody; exec sleep 100000"]', *web),
        no_port=make_image({}, serve, "EXPOSE 53/udp"),
        python=make_image(_python() | page, serve, *web),
    )


def drop_images(images: Images) -> None:
    """Remove what :func:`make_images` made."""
    for image in sorted(set(vars(images).values())):
        docker("rmi", "-f", image, check=False)


def app_of(instance: str) -> str:
    """The name of a pod's app at the engine."""
    return f"dit4c-{instance}-app"


def leave_work(instance: str) -> None:
    """A file in the app's container, and one in its volume."""
    docker("exec", app_of(instance), "sh", "-c", "echo kept | tee /data/work > /work")


def work_is_there(instance: str) -> bool:
    """Whether both of :func:`leave_work` still are."""
    return docker("exec", app_of(instance), "cat", "/data/work", "/work") == "kept\nkept"


async def ensure_image(pods: PodManager, image: str) -> list[Any]:
    """All records of an EnsureImage."""
    async with asyncio.timeout(120):
        return [reply async for reply in pods.ensure_image(image)]


async def run_start(
    pods: PodManager, instance: str, image: str, *, run: int = 1, kept: bool = False
) -> list[Any]:
    """All records of a StartPod."""
    request = StartPod(instance=instance, image=image, key_nonce="nonce", run=run, kept=kept)
    async with asyncio.timeout(60):
        return [reply async for reply in pods.start(request)]


@dataclass
class Left:
    """What is at the engine of one instance."""

    containers: list[str]
    networks: list[str]
    volumes: list[str]

    def __bool__(self) -> bool:
        return bool(self.containers or self.networks or self.volumes)


def look(instance: str) -> Left:
    """What there is of ``instance``, by the engine's own client."""
    label = f"label=dit4c.instance={instance}"
    return Left(
        sorted(docker("ps", "-a", "--filter", label, "--format", "{{.Names}}").split()),
        docker("network", "ls", "--filter", label, "--format", "{{.Name}}").split(),
        sorted(docker("volume", "ls", "--filter", label, "--format", "{{.Name}}").split()),
    )


def inspect(container: str) -> dict[str, Any]:
    """A container as the engine's own client shows it."""
    return json.loads(docker("inspect", container))[0]


def running(instance: str) -> list[str]:
    """Ids of a pod's containers that run."""
    return docker("ps", "-q", "--filter", f"label=dit4c.instance={instance}").split()


def stands(instance: str) -> bool:
    """All four run, in the one namespace, and the rules are in it."""
    if len(running(instance)) != 4:
        return False
    rules = docker("exec", f"dit4c-{instance}-infra", "nft", "list", "ruleset", check=False)
    return "policy drop" in rules and "netdev dit4c" in rules


async def until_at_engine(condition: Callable[[], bool], limit_s: float = 40) -> None:
    """:func:`until` for what the engine's own client is asked each time."""
    await until(condition, limit_s, every_s=0.2)
