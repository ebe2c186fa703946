"""A full disk, told apart from every other reason for a failure."""

from collections.abc import Iterable

from dit4c_p2p.errors import DitError


class DiskFull(DitError):
    """There is no room for an image or for what it is made of."""

    code = "disk_full"

    def __init__(self, doing: str) -> None:
        """``doing`` is what could not be done: ``the base image could not be built``."""
        super().__init__(
            f"the disk is full: {doing}",
            hint="Make room (docker system df shows what the engine uses) and try again.",
        )


def says_disk_full(lines: Iterable[str]) -> bool:
    """Whether a program's output, or an error's text, has the C library's words for ``ENOSPC``."""
    return any("no space left on device" in line.lower() for line in lines)
