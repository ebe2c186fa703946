"""Manifests and indexes of repositories: tags, referrers, and what they name.

A manifest is kept only once everything that it names is in its repository, and keeps that there.
"""

import json
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from dit4c_p2p.errors import DitError
from dit4c_p2p.imageserver.store.blobs import Blobs
from dit4c_p2p.imageserver.store.errors import InUse, NotThere
from dit4c_p2p.imageserver.store.index import (
    Index,
    Transaction,
    ensure_repository,
    repository_id,
)
from dit4c_p2p.oci.digests import Digest
from dit4c_p2p.oci.errors import InvalidImage
from dit4c_p2p.oci.manifest import MAX_CONFIG_BYTES, Descriptor, Manifest, parse_config
from dit4c_p2p.oci.names import BaseRepository, parse_repository

_MAX_REFERRERS = 1000


class UnknownContent(DitError):
    """A manifest names a blob or a manifest that its repository does not have."""

    code = "unknown_content"

    def __init__(self, digest: str) -> None:
        super().__init__(
            f"the manifest names {digest}, which is not in the repository",
            hint="upload it first",
        )
        self.digest = digest


class KeptManifest(NamedTuple):
    """A manifest of a repository."""

    digest: Digest
    media_type: str
    body: bytes


class Referrer(NamedTuple):
    """A manifest whose subject is another."""

    digest: Digest
    media_type: str
    size: int
    artifact_type: str
    annotations: dict[str, str]


class Manifests:
    """The manifests of a store."""

    def __init__(self, index: Index, blobs: Blobs, clock: Callable[[], float] = time.time) -> None:
        self._index, self._blobs, self._clock = index, blobs, clock

    async def put(self, repository: str, tag: str, body: bytes, manifest: Manifest) -> None:
        """Keep a manifest; with ``tag`` not empty, have the tag name it.

        :raises UnknownContent: something that it names is not in the repository.
        :raises InvalidImage: a size is not as declared, or it is not the image of its base.
        """
        await self._check_base(repository, manifest)

        def work(at: Transaction) -> None:
            found = ensure_repository(at, repository)
            blobs = [_blob_id_for_manifest_store(at, found, one) for one in manifest.blobs]
            children = [_child_id_for_manifest_store(at, found, one) for one in manifest.manifests]
            made = _keep_for_manifest_store(at, found, body, manifest, self._clock())
            at.executemany(
                "INSERT OR IGNORE INTO manifest_blob VALUES (?, ?)", [(made, one) for one in blobs]
            )
            at.executemany(
                "INSERT OR IGNORE INTO manifest_child VALUES (?, ?)",
                [(made, one) for one in children],
            )
            if tag:
                at.execute(
                    "INSERT INTO tag VALUES (?, ?, ?) "
                    "ON CONFLICT DO UPDATE SET manifest = excluded.manifest",
                    (found, tag, made),
                )

        await self._index.write(work)

    async def find(self, repository: str, tag: str, digest: Digest | None) -> KeptManifest:
        """A manifest by its digest, or by a tag.

        :raises NotThere: the repository has none such.
        """

        def work(at: Transaction) -> KeptManifest:
            row = _find_for_manifest_store(at, repository, tag, digest)
            return KeptManifest(Digest.of_raw(row[1]), str(row[2]), row[3])

        return await self._index.read(work)

    async def delete(self, repository: str, tag: str, digest: Digest | None) -> None:
        """Remove a tag, or a manifest with all its tags.

        :raises NotThere: the repository has none such.
        :raises InUse: an index of the repository names the manifest.
        """

        def work(at: Transaction) -> None:
            made, *_ = _find_for_manifest_store(at, repository, tag, digest)
            if tag:
                at.execute(
                    "DELETE FROM tag WHERE repository = ? AND name = ?",
                    (repository_id(at, repository), tag),
                )
                return
            named = at.execute("SELECT 1 FROM manifest_child WHERE child = ?", (made,)).fetchone()
            if named is not None:
                raise InUse("an index names this manifest", hint="delete the index first")
            at.execute("DELETE FROM manifest WHERE id = ?", (made,))

        await self._index.write(work)

    async def tags(self, repository: str, last: str, limit: int) -> list[str]:
        """At the most ``limit`` tags after ``last``, in the order of their bytes.

        :raises NotThere: there is no such repository.
        """

        def work(at: Transaction) -> list[str]:
            found = repository_id(at, repository)
            if found is None:
                raise NotThere("there is no such repository")
            rows = at.execute(
                "SELECT name FROM tag WHERE repository = ? AND name > ? ORDER BY name LIMIT ?",
                (found, last, limit),
            )
            return [str(row[0]) for row in rows]

        return await self._index.read(work)

    async def referrers(self, repository: str, subject: Digest) -> list[Referrer]:
        """The manifests whose subject is ``subject``, whether that is there or not."""

        def work(at: Transaction) -> list[Referrer]:
            rows = at.execute(
                "SELECT m.digest, m.media_type, length(m.body), m.artifact_type, m.annotations "
                "FROM manifest m JOIN repository r ON r.id = m.repository "
                "WHERE r.name = ? AND m.subject = ? ORDER BY m.id LIMIT ?",
                (repository, subject.raw, _MAX_REFERRERS),
            )
            return [
                Referrer(Digest.of_raw(digest), media_type, size, artifact, json.loads(annotations))
                for digest, media_type, size, artifact, annotations in rows
            ]

        return await self._index.read(work)

    async def _check_base(self, repository: str, manifest: Manifest) -> None:
        """What is in ``bases/`` can be nothing but the image that the repository's name says."""
        try:
            base = parse_repository(repository)
        except DitError:
            return  # of a registry that is used for something else
        if not isinstance(base, BaseRepository):
            return
        if manifest.config is None or manifest.config.digest != base.image:
            raise InvalidImage(f"{repository} takes one image only, the configuration of its name")
        try:
            body = await self._blobs.whole(repository, base.image, MAX_CONFIG_BYTES)
        except NotThere:
            raise UnknownContent(base.image) from None
        layers = [layer.digest for layer in manifest.layers]
        if layers != list(parse_config(body).diff_ids):
            raise InvalidImage(
                "the layers are not those that the configuration names",
                hint="a base is uploaded with its layers uncompressed",
            )


def _find_for_manifest_store(
    at: Transaction, repository: str, tag: str, digest: Digest | None
) -> Any:
    if digest is not None:
        row = at.execute(
            "SELECT m.id, m.digest, m.media_type, m.body FROM manifest m "
            "JOIN repository r ON r.id = m.repository WHERE r.name = ? AND m.digest = ?",
            (repository, digest.raw),
        ).fetchone()
    else:
        row = at.execute(
            "SELECT m.id, m.digest, m.media_type, m.body FROM tag t "
            "JOIN manifest m ON m.id = t.manifest JOIN repository r ON r.id = t.repository "
            "WHERE r.name = ? AND t.name = ?",
            (repository, tag),
        ).fetchone()
    if row is None:
        raise NotThere("there is no such manifest in this repository")
    return row


def _blob_id_for_manifest_store(at: Transaction, repository: int, named: Descriptor) -> int:
    digest = Digest.parse(named.digest)
    row = at.execute(
        "SELECT b.id, b.size FROM blob b JOIN repository_blob l ON l.blob = b.id "
        "WHERE l.repository = ? AND b.digest = ?",
        (repository, digest.raw),
    ).fetchone()
    if row is None:
        raise UnknownContent(digest)
    if row[1] != named.size:
        raise InvalidImage(f"{digest} has {row[1]} bytes, and the manifest says {named.size}")
    return int(row[0])


def _child_id_for_manifest_store(at: Transaction, repository: int, named: Descriptor) -> int:
    digest = Digest.parse(named.digest)
    row = at.execute(
        "SELECT id, length(body) FROM manifest WHERE repository = ? AND digest = ?",
        (repository, digest.raw),
    ).fetchone()
    if row is None:
        raise UnknownContent(digest)
    if row[1] != named.size:
        raise InvalidImage(f"{digest} has {row[1]} bytes, and the index says {named.size}")
    return int(row[0])


def _keep_for_manifest_store(
    at: Transaction, repository: int, body: bytes, manifest: Manifest, now: float
) -> int:
    subject = None if manifest.subject is None else Digest.parse(manifest.subject.digest).raw
    at.execute(
        "INSERT INTO manifest (repository, digest, media_type, artifact_type, annotations, "
        "subject, body, touched) VALUES (?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT DO UPDATE SET touched = excluded.touched",
        (
            repository,
            manifest.digest.raw,
            manifest.media_type,
            manifest.artifact_type,
            json.dumps(manifest.annotations),
            subject,
            body,
            now,
        ),
    )
    (made,) = at.execute(
        "SELECT id FROM manifest WHERE repository = ? AND digest = ?",
        (repository, manifest.digest.raw),
    ).fetchone()
    return int(made)
