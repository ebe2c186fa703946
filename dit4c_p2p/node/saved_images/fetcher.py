"""Has a saved image at the engine: the portal's word is verified, missing layers are fetched."""

import asyncio
import hashlib
import logging
import time
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from functools import partial
from weakref import WeakValueDictionary

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity import sshsig, tokens
from dit4c_p2p.identity.errors import IdentityError
from dit4c_p2p.identity.keys import parse_public
from dit4c_p2p.messages.codec import InvalidMessage, decode
from dit4c_p2p.messages.image_access import RepositoryVerb, image_token_claims
from dit4c_p2p.messages.node import Progress
from dit4c_p2p.messages.public import ImageServerInfo
from dit4c_p2p.messages.saved_images import (
    COUNTERSIGNATURE_NAMESPACE,
    COUNTERSIGNED_TYPE,
    Countersigned,
    ImageRecord,
)
from dit4c_p2p.node.config import NodeConfig
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.engine.image_transfer import ImageTransfer
from dit4c_p2p.node.errors import (
    DiskFull,
    EngineFull,
    EngineSaid,
    NotFound,
    PolicyRefused,
    RegistryError,
    UnknownImage,
)
from dit4c_p2p.node.pods.status import memory_text
from dit4c_p2p.node.saved_images.chunk_cache import ChunkCache
from dit4c_p2p.node.saved_images.layer_source import layer_bytes
from dit4c_p2p.node.saved_images.table import ImageTable, engine_name
from dit4c_p2p.node.uploads.plan import has_layer_folder, layers_of, shared_layers
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.docker_archive import ArchiveSegment, docker_archive
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.layer_check import LayerCheck
from dit4c_p2p.oci.manifest import (
    MAX_CONFIG_BYTES,
    Descriptor,
    Manifest,
    parse_config,
    parse_manifest,
)
from dit4c_p2p.oci.registry_client import NoSuchBlob, RegistryAway, RegistryClient, RegistryRefused
from dit4c_p2p.one_behind import OneBehind

_log = logging.getLogger(__name__)

# Of a countersignature's manifest and its one layer.
_MAX_REFERRER_BYTES = 64 * 1024
_MAX_REFERRERS = 8
_TELL_EVERY_S = 0.5
# Images that no container is made of stay for the next start, so many of them.
_KEPT_IMAGES = 4


class SavedImageFetcher:
    """Fetches saved images for one agent."""

    def __init__(self, config: NodeConfig, engine: Engine, table: ImageTable) -> None:
        self._config = config
        self._engine = engine
        self._transfer = ImageTransfer(engine)
        self._table = table
        self._cache = ChunkCache(config.folder / "chunks")
        # Forgotten when nobody holds or awaits it.
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def fetch(self, repository: str, digest: str) -> AsyncGenerator[Progress, None]:
        """Have the image here.

        :raises UnknownImage: the image server has it no more, or it is not as it must be.
        :raises PolicyRefused: the machine's owner does not allow it.
        :raises RegistryError: the image server does not answer.
        :raises DiskFull, EngineError: the engine can't take it.
        """
        async with self._locks.setdefault(digest, asyncio.Lock()):
            known = self._table.get(digest)
            if known is not None and await self._is_here(known.image):
                self._table.add(repository, digest, known.image)
                return
            progress: asyncio.Queue[Progress | None] = asyncio.Queue(8)
            work = asyncio.create_task(
                self._fetch(repository, digest, progress), name=f"fetch {digest[:19]}"
            )
            try:
                while (one := await progress.get()) is not None:
                    yield one
                await work
            finally:
                work.cancel()
                await asyncio.gather(work, return_exceptions=True)

    async def _fetch(
        self, repository: str, digest: str, progress: asyncio.Queue[Progress | None]
    ) -> None:
        try:
            async with self._client(repository) as client:
                await self._fetch_with(client, repository, digest, progress)
        except NoSuchBlob:
            raise UnknownImage(
                "the saved image is not at the image server any more",
                hint="start another one",
            ) from None
        except RegistryRefused as error:
            raise RegistryError(f"the image server does not give the image: {error}") from None
        except RegistryAway as error:
            raise RegistryError(str(error), hint="try again later") from None
        except InvalidImage as error:
            _log.error("%s@%s: %s", repository, digest, error.one_line())
            raise UnknownImage(f"the saved image can't be used: {error}") from None
        except EngineFull:
            raise DiskFull(
                "the disk of the machine it was to run on is full, so the image can't be stored",
                hint="its owner can make room",
            ) from None
        finally:
            await progress.put(None)

    async def _fetch_with(
        self,
        client: RegistryClient,
        repository: str,
        digest: str,
        progress: asyncio.Queue[Progress | None],
    ) -> None:
        body, media_type = await client.manifest(repository, digest)
        manifest = parse_manifest(body, media_type)
        if manifest.config is None:
            raise InvalidImage("it is not an image")
        record = await self._countersigned(client, repository, digest)
        image = manifest.config.digest
        config = await client.small_blob(repository, image, MAX_CONFIG_BYTES)
        layers = list(parse_config(config).diff_ids)
        if layers != [layer.digest for layer in manifest.layers]:
            raise InvalidImage("its layers are not those of its configuration")
        await self._check_policy(record, layers)
        present = await self._present(layers)
        teller = _Teller(progress, sum(layer.size for layer in manifest.layers[present:]))
        await self._make_room()

        archive = self._archive(
            client,
            repository,
            docker_archive(
                config, image, engine_name(repository, digest), manifest.layers, present
            ),
            teller,
        )
        async with aclosing(_Watched(archive)) as watched:
            try:
                await self._transfer.load(watched.stream())
            except EngineSaid as error:
                # The engine says only that the stream ended, where ours has broken off.
                if watched.error is not None:
                    raise watched.error from None
                raise error
            if watched.error is not None:
                raise watched.error
        if not await self._is_here(image):
            raise InvalidImage("the engine has another image after taking it in")
        self._table.add(repository, digest, image)
        await asyncio.to_thread(self._cache.tidy)
        _log.info(
            "%s@%s is here as %s; %d bytes came by wire", repository, digest, image, teller.wire
        )

    async def _archive(
        self,
        client: RegistryClient,
        repository: str,
        segments: list[ArchiveSegment],
        teller: "_Teller",
    ) -> AsyncIterator[bytes]:
        """If a layer can't be had the archive is cut off, and the engine does not take it."""
        for segment in segments:
            if segment.blob is None:
                yield segment.content
                continue
            async for data in self._layer(client, repository, segment.blob, teller):
                yield data

    async def _countersigned(
        self, client: RegistryClient, repository: str, digest: str
    ) -> ImageRecord:
        """The portal's word for the image.

        :raises InvalidImage: there is none.
        """
        listed = await client.referrers(repository, digest, COUNTERSIGNED_TYPE)
        for one in listed[:_MAX_REFERRERS]:
            try:
                body, media_type = await client.manifest(repository, str(one.get("digest")))
                referrer: Manifest = parse_manifest(body, media_type)
                content = await client.small_blob(
                    repository, referrer.layers[0].digest, _MAX_REFERRER_BYTES
                )
                record = verified(content, self._config.portal.key)
            except (InvalidImage, InvalidMessage, IdentityError, NoSuchBlob, IndexError) as error:
                _log.warning("%s@%s: not the portal's word: %s", repository, digest, error)
                continue
            if (record.digest, record.repository) == (digest, repository):
                return record
        raise InvalidImage("the portal has not signed for it")

    async def _check_policy(self, record: ImageRecord, layers: Sequence[str]) -> None:
        """An owner who allows certain images allows what is derived from them as well."""
        allowed = self._config.policy.images
        if not allowed:
            return
        base = record.base.rpartition("@")[2]
        if {record.base, base}.isdisjoint(allowed):
            raise PolicyRefused(f"the owner of this node does not allow the image {base[:19]}…")
        try:
            below = layers_of(await self._engine.image(record.base))
        except NotFound:
            raise PolicyRefused(
                "the owner of this node allows certain images, and the one below is not here"
            ) from None
        if shared_layers(layers, below) != len(below):
            raise PolicyRefused("the saved image is not made from an image that is allowed here")

    async def _present(self, layers: Sequence[str]) -> int:
        """How many of the lowest layers the engine has."""
        if not has_layer_folder(await self._engine.info()):
            # With another image store it is not known to take an archive that lacks layers.
            return 0
        most = 0
        for one in await self._transfer.images():
            try:
                known = layers_of(await self._engine.image(str(one["Id"])))
            except NotFound:
                continue
            most = max(most, shared_layers(layers, known))
        return most

    async def _layer(
        self, client: RegistryClient, repository: str, layer: Descriptor, teller: "_Teller"
    ) -> AsyncIterator[bytes]:
        """A layer's bytes.

        :raises InvalidImage: of another digest or size, or not as a layer may be.
        """
        whole, size, check = hashlib.sha256(), 0, LayerCheck()
        try:
            # The engine stores what it is sent, and does nothing with it before the archive's end.
            async with OneBehind() as looking:
                async for data in layer_bytes(client, repository, layer, self._cache, teller.came):
                    size += len(data)
                    if size > layer.size:
                        raise InvalidImage("a layer is longer than its manifest says")
                    await looking.begin(
                        partial(_look_at_for_saved_image_fetcher, whole, check, data)
                    )
                    teller.moved(len(data))
                    yield data
                await looking.finish()
            await asyncio.to_thread(check.finish)
        finally:
            await asyncio.to_thread(check.close)
        if size != layer.size or Digest.of_raw(whole.digest()) != layer.digest:
            raise InvalidImage("the bytes of a layer have another digest")

    async def _make_room(self) -> None:
        """Remove saved images that were not used for long, but for the newest few."""
        for known in self._table.all()[:-_KEPT_IMAGES]:
            try:
                await self._transfer.remove(engine_name(known.repository, known.digest))
            except EngineSaid:
                # A container is made of it.
                continue
            if not await self._is_here(known.image):
                self._table.forget(known.digest)

    async def _is_here(self, image: str) -> bool:
        try:
            await self._engine.image(image)
        except NotFound:
            return False
        return True

    def _client(self, repository: str) -> RegistryClient:
        config = self._config
        server = config.image_server_for_agent()
        if server is None:
            raise RegistryError(
                "this machine knows of no image server", hint="its owner can set [imageserver]"
            )
        return registry_client(config, server)


async def forget_images(engine: Engine, table: ImageTable) -> None:
    """Remove every saved image that no container needs."""
    transfer = ImageTransfer(engine)
    for known in table.all():
        try:
            await transfer.remove(engine_name(known.repository, known.digest))
        except EngineSaid as error:
            _log.warning("a saved image stays at the engine: %s", error.words)
        table.forget(known.digest)


def registry_client(config: NodeConfig, server: ImageServerInfo) -> RegistryClient:
    """A client of the image server, as the node."""

    def token(repository: str) -> str:
        about = image_token_claims(repository, (RepositoryVerb.PULL,))
        return tokens.issue(config.key, config.name, server.name, now=time.time(), claims=about)

    return RegistryClient(server.url, connect=server.connect, token=token, ca=config.ca)


def verified(content: bytes, portal_key: str) -> ImageRecord:
    """The record in a countersignature.

    :raises IdentityError: not signed by the portal.
    :raises InvalidMessage: malformed.
    """
    countersigned = decode(content, Countersigned)
    text = countersigned.record.encode()
    sshsig.verify(
        text, countersigned.signature, COUNTERSIGNATURE_NAMESPACE, [parse_public(portal_key)]
    )
    return decode(text, ImageRecord)


def _look_at_for_saved_image_fetcher(
    whole: "hashlib._Hash", check: LayerCheck, data: bytes
) -> None:
    whole.update(data)
    check.feed(data)


class _Watched:
    """An archive's stream that remembers why it broke off, which an engine doesn't tell."""

    def __init__(self, archive: AsyncIterator[bytes]) -> None:
        self._archive = archive
        self.error: DitError | None = None

    async def stream(self) -> AsyncIterator[bytes]:
        """The same bytes; broken off, the request with them is."""
        try:
            async for data in self._archive:
                yield data
        except DitError as error:
            self.error = error
            raise ConnectionError("broken off") from error

    async def aclose(self) -> None:
        """Close what is beneath."""
        close = getattr(self._archive, "aclose", None)
        if close is not None:
            await close()


class _Teller:
    """What the user is told while bytes come; not too often."""

    def __init__(self, progress: asyncio.Queue[Progress | None], total: int) -> None:
        self._progress = progress
        self._total = total
        self._moved = 0
        self.wire = 0
        self._told = float("-inf")

    def came(self, size: int) -> None:
        """So many bytes came by wire."""
        self.wire += size

    def moved(self, size: int) -> None:
        """So many more bytes are here."""
        self._moved += size
        now = time.monotonic()
        if now - self._told < _TELL_EVERY_S or self._progress.full():
            return
        self._told = now
        info = f"Fetching the image: {memory_text(self._moved)} of {memory_text(self._total)}"
        fraction = min(1.0, self._moved / max(1, self._total))
        self._progress.put_nowait(Progress(info=info, fraction=fraction))
