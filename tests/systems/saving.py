"""What a node needs beside itself to save an instance: a portal that countersigns, and its images.

The image server may be any registry; the portal is played here, with real signatures.
"""

import asyncio
import subprocess
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncssh
from aiohttp import web

from dit4c_p2p.identity import sshsig, tokens
from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.imagebuild import default_cache_folder, ensure_images
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.node import UploadImage
from dit4c_p2p.messages.public import ImageServerInfo, PortalInfo
from dit4c_p2p.messages.saved_images import (
    COUNTERSIGNATURE_NAMESPACE,
    IMAGE_NAMESPACE,
    Countersigned,
    ImageRecord,
    ImageUploaded,
    image_statement,
    repository_of,
)
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.pods.manager import PodManager

BRIDGE = "172.17.0.1"

# What a user may do to the files of an app, and where to look afterwards.
CHANGES = """
mkdir -p /work/deep/er && echo one > /work/deep/er/file && ln -s deep /work/link
echo two > /work/a && busybox ln /work/a /work/b
echo secret > /work/private && chmod 0600 /work/private && busybox chown 4711:4712 /work/private
rm /doomed
rm -r /replaced && mkdir /replaced && echo new > /replaced/new
mkdir -p /mnt/files && echo foreign > /mnt/files/foreign
echo volume > /data/work && rm /data/kept && mkdir /data/sub && chmod 2750 /data/sub
dd if=/dev/urandom of=/work/big bs=1M count=9 2>/dev/null
chmod 4755 /work/big
"""
PATHS = ("/work", "/data", "/replaced", "/tmp", "/bin")


async def upload_image() -> str:
    """The id of the upload helper's image, built if need be."""
    made = await ensure_images(lambda step, text: None, default_cache_folder(), tools=())
    return made.upload


class CountersigningPortal:
    """``PUT /images/`` of a portal.

    :ivar keys: instance id → its public key; whose is not here is refused.
    :ivar puts: the bodies that were taken.
    """

    def __init__(self) -> None:
        self.key = generate()
        self.keys: dict[str, asyncssh.SSHKey] = {}
        self.puts: list[ImageUploaded] = []
        self.status = 200

    @property
    def info(self) -> PortalInfo:
        return PortalInfo(
            name="portal-main",
            url=f"http://localhost:{self._port}",
            key=public_line(self.key),
            connect=[f"{BRIDGE}:{self._port}"],
        )

    @asynccontextmanager
    async def running(self):
        app = web.Application()
        app.router.add_put("/images/", self._put)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, BRIDGE, 0).start()
        self._port = runner.addresses[0][1]
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        if self.status != 200:
            return web.Response(status=self.status)
        text = request.headers["Authorization"].removeprefix("Bearer ")
        instance = tokens.read_head(text).issuer.id
        body = decode(await request.read(), ImageUploaded)
        repository = repository_of(instance)
        statement = image_statement(repository, body.digest, body.save)
        sshsig.verify(statement, body.signature, IMAGE_NAMESPACE, [self.keys[instance]])
        self.puts.append(body)
        return web.Response(body=encode(self.countersigned(repository, body.digest)))

    def countersigned(self, repository: str, digest: str, **changes: Any) -> Countersigned:
        record = ImageRecord(
            digest=digest, repository=repository, parent="", base="sha256:b", creator="rosa", at=7
        )
        for name, value in changes.items():
            record = type(record)(
                **{f: getattr(record, f) for f in record.__struct_fields__} | {name: value}
            )
        signed = encode(record)
        return Countersigned(
            record=signed.decode(),
            signature=sshsig.sign(self.key, signed, COUNTERSIGNATURE_NAMESPACE),
        )


def saving_config(config: NodeConfig, portal: CountersigningPortal, server: str, image: str):
    """A node's configuration with an image server at ``server`` (``host:port``)."""
    return replace(
        config,
        portal=portal.info,
        images=replace(config.images, upload=image),
        image_server=ImageServerInfo(name="imageserver-main", url=f"http://{server}"),
    )


async def save_and_upload(pods: PodManager, instance: str, save: str = "s1") -> list[Any]:
    """All records of SavePod and UploadImage."""
    records: list[Any] = [await pods.save(instance)]
    async with asyncio.timeout(45):
        request = UploadImage(instance=instance, save=save)
        records += [reply async for reply in pods.upload(request)]
    return records


def shell(container: str, script: str, user: str = "0") -> str:
    """What a script prints in a container, as root or as another of its users."""
    done = subprocess.run(
        ["docker", "exec", "-u", user, container, "sh", "-c", script],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Path, kind, mode, owner and, of files, the hash; links with where they lead.
LISTING = """cd /
b=$(command -v busybox || true)
for f in $($b find {paths} | LC_ALL=C $b sort); do
  if [ -L "$f" ]; then echo "$f link $($b readlink $f)"
  elif [ -d "$f" ]; then $b stat -c '%n dir %a %u:%g' "$f"
  else echo "$($b stat -c '%n %F %a %u:%g %Y' "$f") $($b sha256sum < "$f")"; fi
done
"""


def listing(container: str, *paths: str, user: str = "0") -> list[str]:
    """What is below those paths of a container's file system, as one of its users sees it."""
    return shell(container, LISTING.format(paths=" ".join(paths)), user).splitlines()


def key_of(config: NodeConfig, instance: str) -> asyncssh.SSHKey:
    """The public key of an instance of a node's."""
    path = Path(config.folder) / "instances" / instance / "key"
    return asyncssh.read_private_key(path).convert_to_public()
