"""A look at a layer while it passes by: what no layer of a saved image may have.

An engine unpacks a layer inside a changed root, and containers open no device that the engine does
not give them. This refuses beforehand what only a forged layer has.
"""

import io
import queue
import tarfile
import threading
from pathlib import PurePosixPath

from dit4c_p2p.oci.errors import ImageTooLarge, InvalidImage
from dit4c_p2p.oci.manifest import MAX_ENTRIES, MAX_IMAGE_BYTES

# null, zero, full, random, urandom; tty, console, ptmx. Debian's own images have them.
_PLAIN_DEVICES = frozenset({1, 5})
_BLOCKS_AHEAD = 4


class LayerCheck:
    """Checks a layer that is fed to it block by block, in a thread of its own.

    ``feed`` all of it, then ``finish``; both raise what is wrong with it as soon as that is known.
    ``close`` ends it early.
    """

    def __init__(self) -> None:
        self._blocks: queue.Queue[bytes] = queue.Queue(_BLOCKS_AHEAD)
        self._error: InvalidImage | None = None
        self._done = threading.Event()
        self.entries = 0
        self._thread = threading.Thread(target=self._run, name="layer check", daemon=True)
        self._thread.start()

    def feed(self, block: bytes) -> None:
        """The next bytes; may wait until those before have been looked at.

        :raises InvalidImage: the layer is not as it may be.
        """
        if block and not self._done.is_set():
            self._blocks.put(block)
        if self._error is not None:
            raise self._error

    def finish(self) -> None:
        """There is no more.

        :raises InvalidImage: the layer is not as it may be, or not whole.
        """
        self.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread."""
        if not self._done.is_set():
            self._blocks.put(b"")
        self._thread.join()

    def _run(self) -> None:
        try:
            self._check()
        except InvalidImage as error:
            self._error = error
        except (tarfile.TarError, ValueError, OverflowError, EOFError) as error:
            self._error = InvalidImage(f"a layer is not a tar archive: {error}")
        finally:
            self._done.set()
            while not self._blocks.empty():
                self._blocks.get_nowait()

    def _check(self) -> None:
        size = 0
        source = _LayerSource(self._blocks)
        with tarfile.open(fileobj=source, mode="r|", bufsize=1024**2) as archive:
            members: list[tarfile.TarInfo] = archive.__dict__["members"]
            for entry in archive:
                self.entries += 1
                size += entry.size
                _check_layer_entry(entry)
                # Otherwise all of them would be kept in memory.
                members.clear()
                if self.entries > MAX_ENTRIES:
                    raise ImageTooLarge(f"a layer has more than {MAX_ENTRIES:,} entries")
                if size > MAX_IMAGE_BYTES:
                    raise ImageTooLarge("a layer's files are larger than an image may be")
        while source.read(1024**2):
            # Behind the tar's end there may be padding.
            continue


def _check_layer_entry(entry: tarfile.TarInfo) -> None:
    name = entry.name
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise InvalidImage(f"a layer has an entry outside of it: {name[:100]!r}")
    if entry.islnk():
        target = entry.linkname
        if target.startswith("/") or ".." in PurePosixPath(target).parts:
            raise InvalidImage(f"a layer has a link that leaves it: {name[:100]!r}")
    if entry.isblk() or (entry.ischr() and entry.devmajor not in _PLAIN_DEVICES):
        raise InvalidImage(f"a layer has a device in it: {name[:100]!r}")


class _LayerSource(io.RawIOBase):
    """The blocks as a file."""

    def __init__(self, blocks: "queue.Queue[bytes]") -> None:
        super().__init__()
        self._blocks = blocks
        self._rest = b""
        self._ended = False

    def readable(self) -> bool:
        """It can be read."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes; nothing at the end."""
        if not self._rest and not self._ended:
            self._rest = self._blocks.get()
            self._ended = not self._rest
        data, self._rest = self._rest[:size], self._rest[size:]
        return data
