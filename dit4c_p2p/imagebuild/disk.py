"""Recognition of a full disk among the reasons for a failure."""

from collections.abc import Iterable

from dit4c_p2p.errors import DitError


class DiskFull(DitError):
    """The disk has no room for an image or its sources."""

    code = "disk_full"

    def __init__(self, doing: str) -> None:
        """Set the message; ``doing`` says what failed: ``the base image could not be built``."""
        super().__init__(
            f"the disk is full: {doing}",
            hint="Make room (docker system df shows what the engine uses) and try again.",
        )


def says_disk_full(lines: Iterable[str]) -> bool:
    """Whether a program's output or an error's text contains the C library's text of ``ENOSPC``."""
    return any("no space left on device" in line.lower() for line in lines)
