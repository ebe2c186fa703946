"""A real image server, asking a portal of the test's own who may."""

import base64
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import aiohttp
from fakes.image_portal import ImagePortal

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.imageserver.app import ImageServer
from dit4c_p2p.imageserver.config import ImageServerConfig
from dit4c_p2p.net.tls import TlsFiles
from dit4c_p2p.oci.chunks import Chunk, cut, encode_chunks
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.exchange import pack_chunk
from dit4c_p2p.oci.manifest import MediaType
from dit4c_p2p.settings.imageserver import ImageServerLimits

NAME = PeerName.parse("imageserver-main")


class ImageServerAtWork:
    """``async with ImageServerAtWork(folder) as work``: everything is allowed to the user ``all``.

    :ivar portal: says who may.
    :ivar prefix: the path of its URL.
    :ivar address: ``127.0.0.1:PORT``, where engines speak plain HTTP to it.
    """

    def __init__(
        self, folder: Path, prefix: str = "", tls: TlsFiles | None = None, **limits: Any
    ) -> None:
        self.folder, self.prefix, self.tls = folder, prefix, tls
        self.limits = ImageServerLimits(**limits)
        self.portal = ImagePortal()
        self.key = generate()
        self.ahead = 0.0
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.portal)
        await self.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.server.stop()
        await self._stack.aclose()

    async def start(self) -> None:
        """Start a server on this folder."""
        import time

        self.server = ImageServer(
            ImageServerConfig(
                name=NAME,
                key=self.key,
                url=f"http://localhost{self.prefix}",
                portal=self.portal.info,
                data_folder=self.folder,
                addresses=(("127.0.0.1", 0),),
                secure_addresses=(("127.0.0.1", 0),) if self.tls else (),
                tls=self.tls,
                limits=self.limits,
            ),
            clock=lambda: time.time() + self.ahead,
        )
        await self.server.start()
        self.address = f"127.0.0.1:{self.server.ports[0]}"

    def api(self, user: str = "all") -> "RegistryApi":
        """A client of the Distribution API."""
        return RegistryApi(self.address, user)


class Answer:
    """An HTTP answer, read whole."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = response.status, response.headers, body

    @property
    def json(self) -> Any:
        """The body, read."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The first error's code (distribution-spec, "Error Codes")."""
        return self.json["errors"][0]["code"]

    @property
    def location(self) -> str:
        """Where what was made is."""
        return self.headers["Location"]


class RegistryApi:
    """``async with RegistryApi(address, user)``; the password is the user's name, empty: none."""

    def __init__(self, address: str, user: str) -> None:
        self.address = address
        secret = base64.b64encode(f"{user}:{user}".encode()).decode()
        self.headers = {"Authorization": f"Basic {secret}"} if user else {}

    async def __aenter__(self) -> Self:
        self.session = aiohttp.ClientSession(
            auto_decompress=False, timeout=aiohttp.ClientTimeout(total=60)
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.session.close()

    async def ask(self, method: str, path: str, **more: Any) -> Answer:
        """One request; ``path`` may be a whole URL, or a ``Location``."""
        url = path if path.startswith("http") else f"http://{self.address}{path}"
        headers = {**self.headers, **more.pop("headers", {})}
        async with self.session.request(
            method, url, headers=headers, allow_redirects=False, **more
        ) as response:
            return Answer(response, await response.read())

    async def begin(self, repository: str) -> str:
        """A new upload's URL."""
        answer = await self.ask("POST", f"/v2/{repository}/blobs/uploads/")
        assert answer.status == 202, answer.body
        return answer.location

    async def finish(self, location: str, digest: str, **more: Any) -> Answer:
        """End an upload."""
        between = "&" if "?" in location else "?"
        return await self.ask("PUT", f"{location}{between}digest={digest}", **more)

    async def push_blob(self, repository: str, content: bytes) -> Digest:
        """Put a blob there."""
        digest = Digest.of(content)
        answer = await self.finish(await self.begin(repository), digest, data=content)
        assert answer.status == 201, answer.body
        return digest

    async def push_manifest(
        self, repository: str, reference: str, document: dict[str, Any]
    ) -> Answer:
        """Put a manifest or an index there."""
        return await self.ask(
            "PUT",
            f"/v2/{repository}/manifests/{reference}",
            data=json.dumps(document).encode(),
            headers={"Content-Type": document["mediaType"]},
        )

    async def push_image(self, repository: str, tag: str, *layers: bytes, **more: Any) -> Digest:
        """An image of these layers; ``more`` goes into its manifest."""
        config = json.dumps(
            {
                "os": "linux",
                "architecture": "amd64",
                "rootfs": {"type": "layers", "diff_ids": [Digest.of(one) for one in layers]},
            }
        ).encode()
        for content in (config, *layers):
            await self.push_blob(repository, content)
        document = image_manifest(config, *layers, **more)
        digest = Digest.of(json.dumps(document).encode())
        answer = await self.push_manifest(repository, tag or digest, document)
        assert answer.status == 201, answer.body
        return digest

    # ---- the chunk exchange

    async def missing(self, repository: str, chunks: list[Chunk], *sources: str) -> Answer:
        """Which of these are missing?"""
        query = "&".join(f"from={source}" for source in sources)
        path = f"/v2/{repository}/_dit4c/chunks/missing?{query}"
        return await self.ask("POST", path, data=encode_chunks(chunks))

    async def bundle(self, repository: str, *contents: bytes) -> Answer:
        """Here they are."""
        body = b"".join(pack_chunk(Chunk.of(one), one).wire for one in contents)
        return await self.ask("POST", f"/v2/{repository}/_dit4c/chunks/bundle", data=body)

    async def assemble(
        self, repository: str, digest: str, chunks: list[Chunk], *sources: str
    ) -> Answer:
        """Put these together."""
        query = "&".join(f"from={source}" for source in sources)
        path = f"/v2/{repository}/_dit4c/blobs/{digest}?{query}"
        return await self.ask("POST", path, data=encode_chunks(chunks))

    async def fetch(self, repository: str, chunks: list[Chunk]) -> Answer:
        """Give me these."""
        body = encode_chunks(chunks)
        return await self.ask("POST", f"/v2/{repository}/_dit4c/chunks/fetch", data=body)

    async def push_by_chunks(self, repository: str, content: bytes, *sources: str) -> int:
        """A blob by the exchange; how many chunks were sent."""
        pieces = cut(content)
        chunks = [Chunk.of(piece) for piece in pieces]
        places = (await self.missing(repository, chunks, *sources)).json["missing"]
        if places:
            answer = await self.bundle(repository, *(pieces[place] for place in places))
            assert answer.json == {"stored": len(places)}, answer.body
        answer = await self.assemble(repository, Digest.of(content), chunks, *sources)
        assert answer.status == 201, answer.body
        return len(places)


def descriptor(content: bytes, media_type: str) -> dict[str, Any]:
    """What a manifest says of a blob."""
    return {"mediaType": media_type, "digest": Digest.of(content), "size": len(content)}


def image_manifest(config: bytes, *layers: bytes, **more: Any) -> dict[str, Any]:
    """An image's manifest; ``more`` is added to it."""
    return {
        "schemaVersion": 2,
        "mediaType": MediaType.MANIFEST,
        "config": descriptor(config, MediaType.CONFIG),
        "layers": [descriptor(layer, MediaType.LAYER) for layer in layers],
        **more,
    }
