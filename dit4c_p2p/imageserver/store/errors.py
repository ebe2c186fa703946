"""Why the store refused; ``http_errors`` translates these to the Distribution API's codes."""

from dit4c_p2p.errors import DitError


class StoreError(DitError):
    """Base."""

    code = "store"


class NotThere(StoreError):
    """There is no such blob, manifest, tag, upload or chunk in the repository."""

    code = "not_there"


class NoSuchUpload(NotThere):
    """The repository has no such upload, or it was given up."""

    code = "no_such_upload"


class WrongOffset(StoreError):
    """A part of an upload does not begin where the upload ends; ``offset`` is where it ends."""

    code = "wrong_offset"

    def __init__(self, offset: int) -> None:
        super().__init__(
            f"the upload has {offset} bytes", hint="go on from there, without a gap or an overlap"
        )
        self.offset = offset


class WrongDigest(StoreError):
    """Content has another digest than it is said to have."""

    code = "wrong_digest"


class TooLarge(StoreError):
    """A blob or an image is over a limit."""

    code = "too_large"


class TooMany(StoreError):
    """A repository has as many uploads as it may have."""

    code = "too_many"


class InUse(StoreError):
    """Something can't be deleted because a manifest names it, or an upload is being written."""

    code = "in_use"


class MissingChunks(StoreError):
    """A blob can't be put together; ``places`` of the list are not there for the caller."""

    code = "missing_chunks"

    def __init__(self, places: list[int]) -> None:
        super().__init__(f"{len(places)} chunks are missing", hint="send these first")
        self.places = places


class DiskFull(StoreError):
    """There is no room on the image server's disk."""

    code = "disk_full"

    def __init__(self) -> None:
        super().__init__(
            "the image server's disk is full", hint="tell the admin; nothing was stored"
        )
