"""A stopped app's files → an image at the image server, and the portal's word for it.

    the layers of the image below   mounted from where they are; those that are nowhere are wanted
                                    of the agent, which streams them in (:meth:`Push.layers`)
    the app's own files             a layer, streamed from the scanner
    configuration, manifest         made here
    PUT /images/ at the portal      the digest, signed by the instance's key
    the portal's countersignature   stored as a referrer of the image

Everything may be done again from the beginning: what is there is not sent again.
"""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import IO

import aiohttp

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.pod_config import HelperPod
from dit4c_p2p.helpers.upload.archive import Member, archive_members
from dit4c_p2p.helpers.upload.report import Reporter
from dit4c_p2p.helpers.upload.retry import REFUSED_FOR_S, Retry
from dit4c_p2p.helpers.upload.scan_client import scan_layer
from dit4c_p2p.helpers.upload.stream_upload import (
    Blob,
    UploadInterrupted,
    supports_chunks,
    upload_chunks,
    upload_whole,
)
from dit4c_p2p.identity import sshsig, tokens
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.problems import read_problem
from dit4c_p2p.messages.codec import decode, encode
from dit4c_p2p.messages.image_access import RepositoryVerb, image_token_claims
from dit4c_p2p.messages.saved_images import (
    COUNTERSIGNED_TYPE,
    IMAGE_NAMESPACE,
    Countersigned,
    ImageUploaded,
    image_statement,
)
from dit4c_p2p.messages.upload import SCAN_FOLDER, UploadDone, UploadPlan
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.manifest import MAX_IMAGE_BYTES, MAX_LAYERS, MediaType
from dit4c_p2p.oci.registry_client import RegistryClient

_log = logging.getLogger(__name__)

# An address of an upload under way, for a registry without the chunk exchange.
_MEMORY = "upload"
# The digest of the layer that the app's whole file system has become.
_FLAT = "flat"
_BLOCK_BYTES = 4 * 1024**2
_TRIES = 5
_PORTAL_FIRST_S = 0.5
_PORTAL_LONGEST_S = 10.0
_NOT_YET = frozenset({401, 403, 409})
TAG = "latest"


class PushFailed(DitError):
    """The image can't be uploaded; the message is for the instance's user."""

    code = "not_saved"


class LayersWanted(DitError):
    """The image server lacks layers that only the engine has."""

    code = "layers_wanted"


def registry_token(pod: HelperPod, plan: UploadPlan, repository: str) -> str:
    """A bearer token of the instance's for one repository at the image server."""
    sources = [*plan.sources, plan.shared_repository] if plan.shared_repository else plan.sources
    return tokens.issue(
        pod.key,
        pod.name,
        plan.server.name,
        now=time.time(),
        claims=image_token_claims(repository, (RepositoryVerb.PULL, RepositoryVerb.PUSH), sources),
    )


class Push:
    """One upload. ``client`` is open."""

    def __init__(
        self, pod: HelperPod, plan: UploadPlan, client: RegistryClient, reporter: Reporter
    ) -> None:
        self._pod = pod
        self._plan = plan
        self._client = client
        self._reporter = reporter
        self._retry = Retry(reporter.waiting)
        shared = [plan.shared_repository] if plan.shared_repository else []
        self._sources = list(dict.fromkeys([*plan.sources, *shared]))

    async def push(self) -> UploadDone:
        """Everything, from what the scanner serves to the portal's word.

        :raises LayersWanted: run :meth:`layers` first.
        :raises LayerUnfit, PushFailed, RegistryRefused: it can't be done.
        """
        lower = await self._lower_layers()
        own = await self._own_layer()
        manifest = await self._put_manifest([*lower, own])
        digest = str(Digest.of(manifest))
        countersigned = await self._tell_portal(manifest, digest, own.size)
        subject = {"mediaType": MediaType.MANIFEST, "digest": digest, "size": len(manifest)}
        await self._retry(
            lambda: self._client.add_referrer(
                self._plan.repository, subject, COUNTERSIGNED_TYPE, encode(countersigned)
            )
        )
        return UploadDone(digest=digest, layer_bytes=own.size, sent=self._reporter.tally.sent)

    async def _lower_layers(self) -> list[Blob]:
        """Have them in the repository.

        :raises LayersWanted: some are nowhere.
        """
        plan, found, wanted = self._plan, list[Blob](), list[str]()
        if plan.flat:
            return [await self._flat_layer()]
        for digest in [*plan.layers, *plan.committed]:
            size = await self._have(digest)
            if size is None:
                wanted.append(digest)
            else:
                found.append(Blob(digest, size))
        if wanted:
            raise LayersWanted(f"{len(wanted)} layers are not at the image server yet")
        return found

    async def _flat_layer(self) -> Blob:
        """The layer that :meth:`flat` has uploaded.

        :raises LayersWanted: it has not yet.
        """
        kept = Path(SCAN_FOLDER, _FLAT)
        digest = kept.read_text() if kept.exists() else ""
        size = await self._have(digest) if digest else None
        if size is None:
            raise LayersWanted("the app's whole file system is not at the image server yet")
        return Blob(digest, size)

    async def flat(self, archive: IO[bytes]) -> None:
        """Upload the app's whole file system, which is a tar, as one layer."""
        blob = await self._upload(self._plan.repository, _blocks_of(archive), None)
        Path(SCAN_FOLDER, _FLAT).write_text(blob.digest)

    async def _have(self, digest: str) -> int | None:
        client, repository = self._client, self._plan.repository
        size = await self._retry(lambda: client.blob_size(repository, digest))
        for source in self._sources if size is None else ():
            if await self._retry(partial(client.mount, repository, digest, source)):
                return await self._retry(lambda: client.blob_size(repository, digest))
        return size

    async def _own_layer(self) -> Blob:
        for _ in range(_TRIES):
            async with scan_layer() as layer:
                self._reporter.total = layer.size
                self._reporter.tally.done = 0
                try:
                    blob = await self._upload(
                        self._plan.repository, layer.blocks(), Path(SCAN_FOLDER, _MEMORY)
                    )
                except UploadInterrupted as error:
                    _log.warning("%s: from the beginning", error)
                    Path(SCAN_FOLDER, _MEMORY).unlink(missing_ok=True)
                    continue
            self._reporter.waiting("")
            return blob
        raise PushFailed("the image server loses what it is sent")

    async def _upload(
        self, repository: str, blocks: AsyncIterator[bytes], memory: Path | None
    ) -> Blob:
        client, retry, tally = self._client, self._retry, self._reporter.tally
        if await supports_chunks(client, repository, retry):
            sources = [one for one in self._sources if one != repository]
            return await upload_chunks(client, repository, blocks, retry, tally, sources)
        return await upload_whole(client, repository, blocks, retry, tally, memory=memory)

    async def _put_manifest(self, layers: list[Blob]) -> bytes:
        plan = self._plan
        if len(layers) > MAX_LAYERS:
            raise PushFailed(f"its image would have more than {MAX_LAYERS} layers")
        if sum(layer.size for layer in layers) > MAX_IMAGE_BYTES:
            limit = MAX_IMAGE_BYTES // 1024**3
            raise PushFailed(f"its image would have more than {limit} GiB")
        config = json.loads(plan.config)
        config["rootfs"] = {"type": "layers", "diff_ids": [layer.digest for layer in layers]}
        content = json.dumps(config, sort_keys=True).encode()
        manifest = manifest_of(content, layers)
        client, repository = self._client, plan.repository
        await self._retry(lambda: client.put_blob(repository, Digest.of(content), content))
        for reference in (Digest.of(manifest), TAG):
            await self._retry(
                partial(client.put_manifest, repository, reference, manifest, MediaType.MANIFEST)
            )
        return manifest

    # ---- layers that only the engine has

    async def layers(self, archive: IO[bytes]) -> None:
        """Upload those layers of an image archive that the image server lacks.

        A tool's own go to the repository that all share, to be mounted from there. A registry that
        is not our image server may let nobody mount: it gets them in the instance's own.

        :raises ArchiveBroken: it ended early.
        """
        plan, client, retry = self._plan, self._client, self._retry
        shared = bool(plan.shared_repository) and not plan.committed
        shared = shared and await supports_chunks(client, plan.repository, retry)
        repository = plan.shared_repository if shared else plan.repository
        wanted = set[str]()
        for digest in dict.fromkeys([*plan.layers, *plan.committed]):
            size = await retry(partial(client.blob_size, repository, digest))
            if size is None:
                wanted.add(digest)
        configs: dict[str, bytes] = {}
        entries = archive_members(archive)
        while (entry := await asyncio.to_thread(next, entries, None)) is not None:
            if not entry.is_layer:
                content = await asyncio.to_thread(b"".join, entry.content)
                configs[Digest.of(content)] = content
            elif wanted and (not entry.digest or entry.digest in wanted):
                self._reporter.total += entry.size
                blob = await self._upload(repository, _stream(entry), None)
                wanted.discard(blob.digest)
                _log.info("layer %s: %d bytes", blob.digest[:19], blob.size)
        if wanted:
            raise PushFailed(f"the engine lacks {len(wanted)} layers of the image")
        if shared:
            await self._put_base(repository, configs)

    async def _put_base(self, repository: str, configs: dict[str, bytes]) -> None:
        """The tool's own image, so that what it is made of stays and can be pulled."""
        config = configs.get("sha256:" + repository.rpartition("sha256-")[2])
        if config is None:
            _log.info("the engine's archive has another configuration: no manifest for it")
            return
        client, retry, layers = self._client, self._retry, list[Blob]()
        for digest in self._plan.layers:
            size = await retry(partial(client.blob_size, repository, digest))
            layers.append(Blob(digest, size or 0))
        await retry(lambda: client.put_blob(repository, Digest.of(config), config))
        manifest = manifest_of(config, layers)
        await retry(lambda: client.put_manifest(repository, TAG, manifest, MediaType.MANIFEST))

    # ---- the portal

    async def _tell_portal(self, manifest: bytes, digest: str, layer_bytes: int) -> Countersigned:
        plan, pod = self._plan, self._pod
        statement = image_statement(plan.repository, digest, plan.save)
        body = ImageUploaded(
            save=plan.save,
            digest=digest,
            manifest=manifest.decode(),
            signature=sshsig.sign(pod.key, statement, IMAGE_NAMESPACE),
            layer_bytes=layer_bytes,
        )
        loop = asyncio.get_running_loop()
        backoff, refused_at = Backoff(_PORTAL_FIRST_S, _PORTAL_LONGEST_S), None
        async with PortalClient(pod.config.portal, ca=pod.config.ca) as client:
            while True:
                status, answer = await self._put(client, encode(body))
                if status == 200:
                    return decode(answer, Countersigned)
                if status in _NOT_YET:
                    refused_at = refused_at or loop.time()
                    if loop.time() - refused_at > REFUSED_FOR_S:
                        raise PushFailed(f"the portal does not take the image: {answer}")
                elif 400 <= status < 500 and status not in (408, 425, 429):
                    raise PushFailed(f"the portal does not take the image: {answer}")
                self._reporter.waiting("Waiting for the portal to answer")
                await asyncio.sleep(backoff.pause_s())

    async def _put(self, client: PortalClient, body: bytes) -> tuple[int, str]:
        """The status and the text of the answer; 0 for none."""
        token = tokens.issue(self._pod.key, self._pod.name, client.portal.url, now=time.time())
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        try:
            async with client.session.put(
                client.url("/images/"), data=body, headers=headers, allow_redirects=False
            ) as response:
                if response.status == 200:
                    return 200, await response.text()
                return response.status, str(await read_problem(response))
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            return 0, f"the portal does not answer ({type(error).__name__})"


def manifest_of(config: bytes, layers: list[Blob]) -> bytes:
    """An OCI image manifest (image-spec 1.1, "manifest.md")."""
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MediaType.MANIFEST,
            "config": {
                "mediaType": MediaType.CONFIG,
                "digest": Digest.of(config),
                "size": len(config),
            },
            "layers": [
                {"mediaType": MediaType.LAYER, "digest": layer.digest, "size": layer.size}
                for layer in layers
            ],
        },
        separators=(",", ":"),
    ).encode()


async def _blocks_of(archive: IO[bytes]) -> AsyncIterator[bytes]:
    while block := await asyncio.to_thread(archive.read, _BLOCK_BYTES):
        yield block


async def _stream(entry: Member) -> AsyncIterator[bytes]:
    content: Iterator[bytes] = entry.content
    while (block := await asyncio.to_thread(next, content, None)) is not None:
        yield block
