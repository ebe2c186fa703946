"""Which of the engine's images is which saved image: a load leaves no digest there.

Kept in ``<data>/node/saved-images.json``, by the digest of the manifest.
"""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from dit4c_p2p.atomic_file import NotWritten, write_whole
from dit4c_p2p.node.errors import FilesFailed

_FILE = "saved-images.json"


# So that an engine's owner sees whose these images are.
_NAME = "dit4c-saved"


def engine_name(repository: str, digest: str) -> str:
    """What the engine calls a saved image."""
    return f"{_NAME}/{repository.rpartition('/')[2]}:{digest[7:19]}"


@dataclass(frozen=True)
class KnownImage:
    """``image`` is the engine's id; ``used_at`` in seconds since 1970."""

    repository: str
    digest: str
    image: str
    used_at: float


class ImageTable:
    """The table of one agent."""

    def __init__(self, node_folder: Path) -> None:
        self._path = node_folder / _FILE

    def get(self, digest: str) -> KnownImage | None:
        """The image whose manifest has that digest."""
        return self._read().get(digest)

    def find(self, image: str) -> KnownImage | None:
        """The saved image that is the engine's ``image`` (an id)."""
        return next((one for one in self._read().values() if one.image == image), None)

    def all(self) -> list[KnownImage]:
        """All of them, the longest unused first."""
        return sorted(self._read().values(), key=lambda one: one.used_at)

    def add(self, repository: str, digest: str, image: str) -> None:
        """Remember an image, or that it is used.

        :raises FilesFailed: that can't be written.
        """
        known = self._read()
        known[digest] = KnownImage(repository, digest, image, time.time())
        self._write(known)

    def forget(self, digest: str) -> None:
        """The engine has it no more.

        :raises FilesFailed: that can't be written.
        """
        known = self._read()
        if known.pop(digest, None) is not None:
            self._write(known)

    def _read(self) -> dict[str, KnownImage]:
        try:
            listed = json.loads(self._path.read_bytes())
            return {one["digest"]: KnownImage(**one) for one in listed}
        except FileNotFoundError:
            return {}
        except (ValueError, TypeError, KeyError):
            # Everything in it can be fetched again.
            return {}
        except OSError as error:
            raise FilesFailed(error) from None

    def _write(self, known: dict[str, KnownImage]) -> None:
        content = json.dumps([asdict(one) for one in known.values()], indent=1).encode()
        try:
            write_whole(self._path, content)
        except NotWritten as error:
            raise FilesFailed(error.error) from None
