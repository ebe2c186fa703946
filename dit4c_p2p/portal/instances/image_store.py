"""The portal as a client of the image server: it reads what people export, and deletes."""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

import asyncssh

from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.image_access import RepositoryVerb, image_token_claims
from dit4c_p2p.oci.docker_archive import ArchiveSegment, archive_parts_from, docker_archive
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.manifest import MAX_CONFIG_BYTES, parse_manifest
from dit4c_p2p.oci.registry_client import (
    NoSuchBlob,
    RegistryAway,
    RegistryClient,
    RegistryRefused,
)
from dit4c_p2p.portal.config import PortalConfig
from dit4c_p2p.portal.errors import Conflict, NotFound, Unavailable


def check_image_server(config: PortalConfig) -> None:
    """:raises Conflict: there is nowhere to save an image."""
    if not config.imageservers:
        raise Conflict(
            "there is nowhere to save it: this installation has no image server",
            hint="ask an admin to set one up",
        )


@dataclass(frozen=True)
class SavedArchive:
    """A saved image as ``docker load`` takes it; ``size`` in bytes."""

    repository: str
    segments: list[ArchiveSegment]
    size: int


class ImageStore:
    """What the portal does at the first image server.

    :param key: the portal's own.
    """

    def __init__(
        self,
        key: asyncssh.SSHKey,
        config: PortalConfig,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._key = key
        self._config = config
        self._clock = clock

    async def archive(self, repository: str, digest: str, name: str) -> SavedArchive:
        """A saved image's archive; nothing large is read yet.

        :param name: what the image is to be called, with a tag.
        :raises NotFound: it is not there any more.
        :raises Unavailable: the image server does not answer.
        """
        try:
            async with self._client() as client:
                body, media_type = await client.manifest(repository, digest)
                manifest = parse_manifest(body, media_type)
                if manifest.config is None:
                    raise InvalidImage("it is not an image")
                image = manifest.config.digest
                config = await client.small_blob(repository, image, MAX_CONFIG_BYTES)
        except NoSuchBlob:
            raise NotFound("the saved image is not there any more") from None
        except (RegistryAway, RegistryRefused, InvalidImage) as error:
            raise Unavailable(str(error), hint="try again later") from None
        segments = docker_archive(config, image, name, manifest.layers)
        return SavedArchive(repository, segments, sum(segment.size for segment in segments))

    async def read(self, archive: SavedArchive, start: int, end: int) -> AsyncIterator[bytes]:
        """The archive's bytes from ``start`` to ``end``, which is not included.

        :raises Unavailable: the image server breaks off.
        """
        try:
            async with self._client() as client:
                for segment, first, count in archive_parts_from(archive.segments, start, end):
                    if segment.blob is None:
                        yield segment.content[first : first + count]
                        continue
                    left = count
                    digest = segment.blob.digest
                    async for data in client.read_blob(archive.repository, digest, first):
                        yield data[:left]
                        left -= min(left, len(data))
                        if not left:
                            break
                    if left:
                        raise Unavailable("the image server broke off")
        except (RegistryAway, RegistryRefused) as error:
            raise Unavailable(str(error)) from None

    async def delete(self, repository: str, digest: str) -> None:
        """Delete an image; fine if it is not there.

        :raises RegistryAway, RegistryRefused: it is still there.
        """
        async with self._client() as client:
            await client.delete_manifest(repository, digest)

    def _client(self) -> RegistryClient:
        if not self._config.imageservers:
            raise Unavailable("there is no image server")
        server = self._config.imageservers[0].info

        def token(repository: str) -> str:
            return tokens.issue(
                self._key,
                PeerName.parse(str(self._config.name)),
                server.name,
                now=self._clock(),
                claims=image_token_claims(repository, (RepositoryVerb.PULL, RepositoryVerb.DELETE)),
            )

        return RegistryClient(server.url, connect=server.connect, token=token)
