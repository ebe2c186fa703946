"""What can be wrong with an image, a chunk, or an image server's answer."""

from dit4c_p2p.errors import DitError


class InvalidImage(DitError):
    """A manifest, an index, a layer or a name is not as the OCI's specifications say."""

    code = "invalid_image"


class ImageTooLarge(InvalidImage):
    """An image is over a limit of this system; the message names the limit."""

    code = "image_too_large"


class InvalidDigest(InvalidImage):
    """A text is not a digest, or content does not have the digest it is said to have."""

    code = "invalid_digest"


class InvalidChunks(DitError):
    """A list or a bundle of chunks is malformed, or a chunk's bytes do not have its digest."""

    code = "invalid_chunks"
