"""Our image server and Debian's docker-registry, each a process, and images pushed to them."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3] / "tests"))

from systems.docker_registry import ImageRegistry
from systems.image_server import RegistryApi, image_manifest
from systems.image_server_process import ImageServerProcess

from dit4c_p2p.oci.chunks import Chunk, cut
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.exchange import BUNDLE_TARGET_BYTES


@dataclass(frozen=True)
class Registry:
    """A registry at ``address``; ``user`` is the name and the password, empty: none is asked."""

    address: str
    user: str
    most_rss_mib: Callable[[], float]

    @property
    def credentials(self) -> list[str]:
        """Options of skopeo's."""
        return ["--src-creds", f"{self.user}:{self.user}"] if self.user else ["--src-no-creds"]


@asynccontextmanager
async def ours(folder: Path) -> AsyncIterator[Registry]:
    """Our image server; everything is allowed to one user."""
    folder.mkdir()
    async with ImageServerProcess(folder, keep_free="0 B") as server:
        await server.up()
        yield Registry(server.address, "all", server.most_rss_mib)


@asynccontextmanager
async def peer(folder: Path) -> AsyncIterator[Registry]:
    """docker-registry, reached without anything in between."""
    folder.mkdir()
    async with ImageRegistry(folder) as registry:
        yield Registry(registry.behind, "", lambda: 0.0)


async def push_whole(to: Registry, repository: str, layer: bytes) -> None:
    """An image of one layer, as a stock client pushes it."""
    async with RegistryApi(to.address, to.user) as api:
        await api.push_blob(repository, layer)
        await _push_manifest(api, repository, layer)


async def push_chunked(to: Registry, repository: str, layer: bytes) -> None:
    """The same by the chunk exchange."""
    pieces = cut(layer)
    async with RegistryApi(to.address, to.user) as api:
        batch: list[bytes] = []
        for piece in pieces:
            batch.append(piece)
            if sum(map(len, batch)) >= BUNDLE_TARGET_BYTES:
                await api.bundle(repository, *batch)
                batch = []
        await api.bundle(repository, *batch)
        chunks = [Chunk.of(piece) for piece in pieces]
        answer = await api.assemble(repository, Digest.of(layer), chunks)
        if answer.status != 201:
            raise RuntimeError(f"the layer was not put together: {answer.body!r}")
        await _push_manifest(api, repository, layer)


async def _push_manifest(api: RegistryApi, repository: str, layer: bytes) -> None:
    config = json.dumps(
        {
            "os": "linux",
            "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [Digest.of(layer)]},
        }
    ).encode()
    await api.push_blob(repository, config)
    answer = await api.push_manifest(repository, "v1", image_manifest(config, layer))
    if answer.status != 201:
        raise RuntimeError(f"the manifest was refused: {answer.body!r}")
