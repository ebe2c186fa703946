"""A client of the OCI Distribution API 1.1, and of the chunk exchange where the server has it.

Used as ``async with RegistryClient(...)``. Every call is one request, or one upload's step, and has
a time limit; nothing is tried again here. What can be tried again is :class:`RegistryAway`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, Self, TypeVar

import aiohttp
import msgspec
from multidict import MultiDict
from yarl import URL

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.portal_client import FixedResolver, split_address, trusting_context
from dit4c_p2p.messages.codec import InvalidMessage, Record, decode
from dit4c_p2p.oci.chunks import Chunk, encode_chunks
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.exchange import (
    BUNDLE_TYPE,
    EXTENSION,
    LIST_TYPE,
    Assembled,
    Assembling,
    BundleReader,
    Missing,
    Packed,
    Stored,
)
from dit4c_p2p.oci.manifest import INDEX_TYPES, MANIFEST_TYPES, MAX_MANIFEST_BYTES, MediaType

R = TypeVar("R", bound=Record)

# A body of 16 MiB over 1 Mbit/s takes 135 s.
_CALL_S = 300.0
_CONNECT_S = 10.0
# While a blob is being read.
_SILENCE_S = 120.0
_READ_BYTES = 256 * 1024
_MAX_ERROR_BYTES = 16 * 1024
_MAX_ANSWER_BYTES = 8 * 1024**2
_MAX_TEXT_CHARS = 300
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_ACCEPTED = ", ".join(sorted({*MANIFEST_TYPES, *INDEX_TYPES}))


class RegistryAway(DitError):
    """The image server does not answer, or not now."""

    code = "image_server_away"


class RegistryRefused(DitError):
    """The image server answered, and said no. ``status`` is the HTTP status."""

    code = "image_server_refused"

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RegistryFull(RegistryRefused):
    """The image server has no room, or the quota is used up."""

    code = "image_server_full"


class NoSuchBlob(RegistryRefused):
    """What was asked for is not there, or not for who asks."""

    code = "no_such_blob"


class RegistryClient:
    """A session with one image server.

    :param url: its canonical URL; a path in it is a prefix of all paths.
    :param connect: ``host:port`` pairs to connect to instead; none: the URL's own.
    :param token: makes the bearer token for a repository; None: none is sent.
    :param ca: PEM of authorities to believe beside the system's.
    """

    def __init__(
        self,
        url: str,
        *,
        connect: Iterable[str] = (),
        token: Callable[[str], str] | None = None,
        ca: str = "",
    ) -> None:
        self._url = URL(url)
        self._token = token
        addresses = [split_address(address) for address in connect]
        self._connector = aiohttp.TCPConnector(
            resolver=FixedResolver(addresses) if addresses else None,
            use_dns_cache=False,
            limit=16,
            keepalive_timeout=30,
            ssl=trusting_context(ca) if self._url.scheme == "https" else True,
        )
        self._session: aiohttp.ClientSession

    async def __aenter__(self) -> Self:
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_S, sock_read=_SILENCE_S, connect=None
        )
        self._session = aiohttp.ClientSession(connector=self._connector, timeout=timeout)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    # ---- blobs

    async def blob_size(self, repository: str, digest: str) -> int | None:
        """How many bytes a blob of the repository has; None if it is not there."""
        async with self._call("HEAD", repository, f"blobs/{digest}", {200, 404}) as response:
            if response.status == 404:
                return None
            return int(response.headers.get("Content-Length", "0"))

    async def read_blob(self, repository: str, digest: str, start: int = 0) -> AsyncIterator[bytes]:
        """A blob's bytes from ``start`` on; the digest is not verified here.

        :raises NoSuchBlob: it is not there.
        """
        headers = {"Range": f"bytes={start}-"} if start else {}
        path = f"blobs/{digest}"
        expected = {206} if start else {200}
        async with self._call(
            "GET", repository, path, expected, headers=headers, limit_s=None
        ) as response:
            async for data in response.content.iter_chunked(_READ_BYTES):
                yield data

    async def small_blob(self, repository: str, digest: str, most: int) -> bytes:
        """A whole blob, verified.

        :raises InvalidImage: larger than ``most`` bytes, or of another digest.
        """
        content = b""
        async for data in self.read_blob(repository, digest):
            content += data
            if len(content) > most:
                raise InvalidImage(f"the blob {digest[:19]}… is larger than {most} bytes")
        if Digest.of(content) != digest:
            raise InvalidImage(f"the bytes of the blob {digest[:19]}… have another digest")
        return content

    async def mount(self, repository: str, digest: str, source: str) -> bool:
        """Have a blob of another repository in this one as well; whether that was possible."""
        query = {"mount": digest, "from": source}
        async with self._call(
            "POST", repository, "blobs/uploads/", {201, 202, 403, 404}, query=query
        ) as response:
            if response.status != 202:
                return response.status == 201
            location = self._location(response)
        await self.give_up(repository, location)
        return False

    async def put_blob(self, repository: str, digest: str, content: bytes) -> None:
        """A small blob in one go; fine if it is there."""
        if await self.blob_size(repository, digest) is None:
            location = await self.begin(repository)
            await self.finish(repository, location, digest, content)

    async def begin(self, repository: str) -> str:
        """Begin an upload; returns where to send it."""
        async with self._call("POST", repository, "blobs/uploads/", {202}) as response:
            return self._location(response)

    async def append(self, repository: str, location: str, offset: int, data: bytes) -> str:
        """Send the next bytes, which begin at ``offset``; returns where to send those after."""
        headers = {
            "Content-Type": "application/octet-stream",
            "Content-Range": f"{offset}-{offset + len(data) - 1}",
        }
        async with self._at(
            "PATCH", repository, location, {202}, data=data, headers=headers
        ) as response:
            return self._location(response)

    async def received(self, repository: str, location: str) -> tuple[int, str] | None:
        """How many bytes have arrived, and where to go on; None if the upload is not known."""
        async with self._at("GET", repository, location, {204, 404}) as response:
            if response.status == 404:
                return None
            last = response.headers.get("Range", "0-0").rpartition("-")[2]
            count = int(last) + 1 if last not in ("", "0") else 0
            return count, self._location(response, location)

    async def finish(self, repository: str, location: str, digest: str, last: bytes = b"") -> None:
        """End an upload, with its last bytes; the server verifies the digest."""
        target = str(URL(location).update_query(digest=digest))
        headers = {"Content-Type": "application/octet-stream"}
        async with self._at("PUT", repository, target, {201}, data=last, headers=headers):
            return

    async def give_up(self, repository: str, location: str) -> None:
        """Drop an upload; one that the server does not know any more is dropped."""
        async with self._at("DELETE", repository, location, {200, 202, 204, 404, 405}):
            return

    # ---- manifests

    async def put_manifest(
        self, repository: str, reference: str, body: bytes, media_type: str
    ) -> bool:
        """Store a manifest; whether the server took note of its subject (the referrers API)."""
        headers = {"Content-Type": media_type}
        path = f"manifests/{reference}"
        async with self._call(
            "PUT", repository, path, {201}, data=body, headers=headers
        ) as response:
            return "OCI-Subject" in response.headers

    async def manifest(self, repository: str, reference: str) -> tuple[bytes, str]:
        """A manifest or an index and its media type; verified if it is named by its digest.

        :raises NoSuchBlob: it is not there.
        :raises InvalidImage: too large, or of another digest.
        """
        path, headers = f"manifests/{reference}", {"Accept": _ACCEPTED}
        async with self._call("GET", repository, path, {200}, headers=headers) as response:
            body = await _read_registry_response(response, MAX_MANIFEST_BYTES)
            media_type = response.content_type
        if ":" in reference and Digest.of(body) != reference:
            raise InvalidImage(f"the bytes of the manifest {reference[:19]}… have another digest")
        return body, media_type

    async def delete_manifest(self, repository: str, digest: str) -> None:
        """Delete a manifest; fine if it is not there."""
        async with self._call("DELETE", repository, f"manifests/{digest}", {202, 404}):
            return

    async def referrers(self, repository: str, digest: str, kind: str) -> list[dict[str, Any]]:
        """The descriptors of what refers to a manifest, of one artifact type.

        A registry without the API has them in an index under a tag (distribution-spec 1.1,
        "Unavailable Referrers API").
        """
        query = {"artifactType": kind}
        async with self._call(
            "GET", repository, f"referrers/{digest}", {200, 404}, query=query
        ) as response:
            body = (
                await _read_registry_response(response, MAX_MANIFEST_BYTES)
                if response.status == 200
                else b""
            )
        if not body:
            try:
                body, _ = await self.manifest(repository, digest.replace(":", "-"))
            except NoSuchBlob:
                return []
        return [one for one in _manifests_of_index(body) if one.get("artifactType") == kind]

    async def add_referrer(
        self, repository: str, subject: dict[str, Any], kind: str, content: bytes
    ) -> str:
        """Store ``content`` as an artifact that refers to ``subject`` (a descriptor).

        Returns the digest of the artifact's manifest.
        """
        empty = b"{}"
        layer = {"mediaType": kind, "digest": Digest.of(content), "size": len(content)}
        config = {"mediaType": MediaType.EMPTY, "digest": Digest.of(empty), "size": len(empty)}
        body = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MediaType.MANIFEST,
                "artifactType": kind,
                "config": config,
                "layers": [layer],
                "subject": subject,
            }
        ).encode()
        await self.put_blob(repository, Digest.of(empty), empty)
        await self.put_blob(repository, Digest.of(content), content)
        digest = Digest.of(body)
        if not await self.put_manifest(repository, digest, body, MediaType.MANIFEST):
            await self._tag_referrer(repository, subject["digest"], kind, digest, len(body))
        return digest

    async def _tag_referrer(
        self, repository: str, subject: str, kind: str, digest: str, size: int
    ) -> None:
        tag = subject.replace(":", "-")
        try:
            before, _ = await self.manifest(repository, tag)
        except NoSuchBlob:
            before = b"{}"
        known = [one for one in _manifests_of_index(before) if one.get("digest") != digest]
        ours = {
            "mediaType": MediaType.MANIFEST,
            "digest": digest,
            "size": size,
            "artifactType": kind,
        }
        index = {"schemaVersion": 2, "mediaType": MediaType.INDEX, "manifests": [*known, ours]}
        await self.put_manifest(repository, tag, json.dumps(index).encode(), MediaType.INDEX)

    # ---- chunks

    async def missing_chunks(
        self, repository: str, chunks: list[Chunk], sources: Iterable[str] = ()
    ) -> list[int] | None:
        """The places in ``chunks`` of those that the server lacks; None: it has no exchange.

        :param sources: further repositories that count as well.
        """
        body, headers = encode_chunks(chunks), {"Content-Type": LIST_TYPE}
        path = f"{EXTENSION}/chunks/missing"
        async with self._call(
            "POST", repository, path, {200, 404, 405}, query=sources, data=body, headers=headers
        ) as response:
            if response.status != 200:
                return None
            return (await _registry_record(response, Missing)).missing

    async def send_chunks(self, repository: str, packed: Iterable[Packed]) -> int:
        """Have the server store chunks; how many of them it has stored."""
        body = b"".join(one.wire for one in packed)
        path, headers = f"{EXTENSION}/chunks/bundle", {"Content-Type": BUNDLE_TYPE}
        async with self._call(
            "POST", repository, path, {200}, data=body, headers=headers
        ) as response:
            return (await _registry_record(response, Stored)).stored

    async def assemble(
        self, repository: str, digest: str, chunks: list[Chunk], sources: Iterable[str] = ()
    ) -> Assembled | Assembling | Missing:
        """Have the server put a blob together; ask again after :class:`Assembling`."""
        path, headers = f"{EXTENSION}/blobs/{digest}", {"Content-Type": LIST_TYPE}
        async with self._call(
            "POST",
            repository,
            path,
            {201, 202, 409},
            query=sources,
            data=encode_chunks(chunks),
            headers=headers,
        ) as response:
            match response.status:
                case 201:
                    return await _registry_record(response, Assembled)
                case 202:
                    return await _registry_record(response, Assembling)
            return await _registry_record(response, Missing)

    async def chunks_of(self, repository: str, digest: str) -> bytes | None:
        """What a blob is made of, as a list; None: the server doesn't say."""
        path = f"{EXTENSION}/blobs/{digest}"
        async with self._call("GET", repository, path, {200, 404, 405}) as response:
            if response.status != 200:
                return None
            return await _read_registry_response(response, _MAX_ANSWER_BYTES)

    async def fetch_chunks(self, repository: str, chunks: list[Chunk]) -> AsyncIterator[Packed]:
        """These chunks, in order; nothing of them is verified here."""
        path, headers = f"{EXTENSION}/chunks/fetch", {"Content-Type": LIST_TYPE}
        body, reader = encode_chunks(chunks), BundleReader()
        async with self._call(
            "POST", repository, path, {200}, data=body, headers=headers, limit_s=None
        ) as response:
            async for data in response.content.iter_chunked(_READ_BYTES):
                for packed in reader.feed(data):
                    yield packed

    # ---- beneath

    @asynccontextmanager
    async def _call(
        self,
        method: str,
        repository: str,
        path: str,
        expected: set[int],
        *,
        query: Mapping[str, str] | Iterable[str] = (),
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        limit_s: float | None = _CALL_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """:param query: the query, or the repositories that count as sources of chunks."""
        url = self._url.joinpath("v2", *repository.split("/"), *path.split("/"))
        if not isinstance(query, Mapping):
            query = MultiDict(("from", source) for source in query)
        if query:
            url = url.update_query(query)
        async with self._at(
            method, repository, str(url), expected, data=data, headers=headers, limit_s=limit_s
        ) as response:
            yield response

    @asynccontextmanager
    async def _at(
        self,
        method: str,
        repository: str,
        url: str,
        expected: set[int],
        *,
        data: bytes | None = None,
        headers: dict[str, str] | None = None,
        limit_s: float | None = _CALL_S,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request. The one place where what can go wrong is translated."""
        sent = dict(headers or {})
        if self._token is not None:
            sent["Authorization"] = f"Bearer {self._token(repository)}"
        try:
            async with asyncio.timeout(limit_s):
                async with self._session.request(
                    method, URL(url, encoded=True), data=data, headers=sent, allow_redirects=False
                ) as response:
                    if response.status not in expected:
                        raise await _registry_refusal(response)
                    yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            reason = type(error).__name__
            raise RegistryAway(f"the image server does not answer ({reason})") from None

    def _location(self, response: aiohttp.ClientResponse, known: str = "") -> str:
        """Where an upload goes on: relative to the request, and always at this server."""
        text = response.headers.get("Location", known)
        if not text:
            raise InvalidImage("the image server does not say where to send the bytes")
        location = response.url.join(URL(text, encoded=True))
        if location.origin() != self._url.origin():
            # It knows itself by another address; what counts is the one that is configured.
            location = URL(str(self._url.origin()), encoded=True).join(location.relative())
        return str(location)


async def _registry_refusal(response: aiohttp.ClientResponse) -> DitError:
    said = await _read_registry_response(response, _MAX_ERROR_BYTES, cut=True)
    text, code = "", ""
    try:
        first = json.loads(said)["errors"][0]
        text, code = str(first.get("message") or ""), str(first.get("code") or "")
    except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError):
        text = ""
    reason = " ".join((text or code).split())[:_MAX_TEXT_CHARS]
    about = f"the image server answers {response.status}" + (f": {reason}" if reason else "")
    if response.status in (413, 507):
        return RegistryFull(response.status, about)
    if response.status == 404:
        return NoSuchBlob(response.status, about)
    if response.status in _PASSING:
        return RegistryAway(about)
    return RegistryRefused(response.status, about)


async def _read_registry_response(
    response: aiohttp.ClientResponse, most: int, *, cut: bool = False
) -> bytes:
    body = b""
    while data := await response.content.read(_READ_BYTES):
        body += data
        if len(body) > most:
            if cut:
                return body[:most]
            raise InvalidImage(f"the image server's answer is larger than {most} bytes")
    return body


async def _registry_record(response: aiohttp.ClientResponse, kind: type[R]) -> R:
    body = await _read_registry_response(response, _MAX_ANSWER_BYTES)
    try:
        if len(body) > 200_000:
            return msgspec.json.decode(body, type=kind)
        return decode(body, kind)
    except (InvalidMessage, msgspec.DecodeError) as error:
        raise InvalidImage(f"the image server's answer can't be read: {error}") from None


def _manifests_of_index(index: bytes) -> list[dict[str, Any]]:
    """The descriptors of an index; none if it is none."""
    try:
        listed = json.loads(index).get("manifests") or []
    except (ValueError, AttributeError, RecursionError):
        return []
    return [one for one in listed if isinstance(one, dict)]
