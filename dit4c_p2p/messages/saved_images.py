"""Saved images: who says what about one, and how one is named where an image is asked for.

An instance is saved under the repository ``instances/<id>`` of the image server. The upload helper
tells the portal the manifest's digest (``PUT /images/``, :class:`ImageUploaded`), signed by the
instance's key. The portal answers with a :class:`Countersigned` record, which outlives that key:
the helper stores it beside the image as an OCI referrer of the type :data:`COUNTERSIGNED_TYPE`,
and a node verifies it before it starts an instance that is derived from the image.

Where an image's reference is expected, a saved one is
``saved.dit4c.internal/instances/<id>@sha256:…`` (:func:`saved_reference`): the host is no host, it
stands for the installation's image server.
"""

from dit4c_p2p.messages.codec import Record, encode

IMAGE_NAMESPACE = "dit4c-image"
COUNTERSIGNATURE_NAMESPACE = "dit4c-image-countersigned"
COUNTERSIGNED_TYPE = "application/vnd.dit4c.countersigned.v1+json"

SAVED_REGISTRY = "saved.dit4c.internal"

# A manifest of 128 layers has about 25 KiB.
MAX_MANIFEST_BYTES = 128 * 1024


class ImageUploaded(Record, frozen=True):
    """The body of ``PUT /images/``: this instance's image is at the image server.

    ``save`` is the id of the save that the portal had asked for. ``manifest`` is the OCI image
    manifest as text, ``digest`` its digest, ``signature`` an SSHSIG of :func:`image_statement` by
    the instance's key. ``layer_bytes`` is how much of it is new.
    """

    save: str
    digest: str
    manifest: str
    signature: str
    layer_bytes: int


class ImageRecord(Record, frozen=True):
    """What the portal says of a saved image; times in seconds since 1970.

    ``parent`` is the manifest's digest of the image that the instance was derived from, or empty.
    ``base`` is the image of the catalogue that it all began with. ``creator`` is a person's id.
    """

    digest: str
    repository: str
    parent: str
    base: str
    creator: str
    at: int


class Countersigned(Record, frozen=True):
    """The answer to ``PUT /images/``, and the one layer of the referrer.

    ``record`` is an :class:`ImageRecord` as the very text that is signed, ``signature`` an SSHSIG
    of it by the portal's key with the namespace :data:`COUNTERSIGNATURE_NAMESPACE`.
    """

    record: str
    signature: str


def image_statement(repository: str, digest: str, save: str) -> bytes:
    """What an instance signs (SSHSIG, namespace :data:`IMAGE_NAMESPACE`)."""
    return encode([IMAGE_NAMESPACE, repository, str(digest), save])


def repository_of(instance: str) -> str:
    """Where an instance's images are kept."""
    return f"instances/{instance}"


def base_repository(image_id: str) -> str:
    """Where the layers of a tool's image are kept; ``image_id`` is ``sha256:…``."""
    return f"bases/{image_id.replace(':', '-', 1)}"


def saved_reference(repository: str, digest: str) -> str:
    """How a saved image is named where an image is asked for."""
    return f"{SAVED_REGISTRY}/{repository}@{digest}"


def split_saved(image: str) -> tuple[str, str] | None:
    """The repository and the manifest's digest of a saved image; None if it is another image."""
    if not image.startswith(f"{SAVED_REGISTRY}/"):
        return None
    repository, _, digest = image.removeprefix(f"{SAVED_REGISTRY}/").partition("@")
    return repository, digest
