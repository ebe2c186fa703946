"""The scanner: serves what an app has written as a layer.

It runs as root with DAC_READ_SEARCH and SYS_ADMIN and nothing else: no network, no key, the app's
files mounted read-only. Each connection to its socket is one question; see ``messages.upload``.
For a checkpoint it first makes a copy, of which it then serves the layer.
"""

# Names are bytes here, which pathlib does not take.
# ruff: noqa: PTH101, PTH123

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from dit4c_p2p.helpers.upload.layer import LayerFailed, Part, layer_parts, measure_layer
from dit4c_p2p.helpers.upload.snapshot import Snapshot, stored_parts, stored_size
from dit4c_p2p.messages.codec import InvalidMessage, decode, encode
from dit4c_p2p.messages.upload import (
    COPY_FOLDER,
    COPY_MODE,
    PAUSED_LINE,
    SCAN_SOCKET,
    SCANNED_ROOT,
    SCANNED_VOLUMES,
    VOLUMES_VARIABLE,
    CopyDone,
    CopyProgress,
    PauseWanted,
    ScanAnswer,
    ScanFailed,
    ScanRequest,
)

_log = logging.getLogger(__name__)

READY_LINE = "ready"
_QUESTION_S = 10.0
# The helper may wait for the image server meanwhile, for as long as an upload may take.
_SILENT_S = 4 * 3600.0
_MAX_QUESTION_BYTES = 1024
# What is sent together: most entries of a tar are small.
_GATHERED_BYTES = 256 * 1024
_SEND_BYTES = 4 * 1024**2
_SAY_EVERY_S = 0.5


class Source(Protocol):
    """Where a layer comes from."""

    def measure(self) -> tuple[int, int]:
        """How many bytes the tar has, and how many entries."""

    def parts(self) -> Iterator[Part]:
        """Its parts, in order."""


class Files:
    """The layer of a stopped app: its own files, as they are."""

    def __init__(self, root: Path | None, volumes: Mapping[str, Path]) -> None:
        self._root, self._volumes = root, volumes

    def measure(self) -> tuple[int, int]:
        """See :class:`Source`."""
        return measure_layer(self._root, self._volumes)

    def parts(self) -> Iterator[Part]:
        """See :class:`Source`."""
        return layer_parts(self._root, self._volumes)


class Copy:
    """The layer of a complete copy."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def measure(self) -> tuple[int, int]:
        """See :class:`Source`."""
        return stored_size(self._folder)

    def parts(self) -> Iterator[Part]:
        """See :class:`Source`."""
        return stored_parts(self._folder)


def serve_scan(path: str, source: Source) -> None:
    """Answer questions at the socket ``path`` until the process is ended."""
    Path(path).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        # The helper is another user; the volume that the socket is in is theirs alone.
        os.chmod(path, 0o666)
        server.listen(4)
        print(READY_LINE, flush=True)
        while True:
            connection, _ = server.accept()
            threading.Thread(
                target=_answer_for_scanner, args=(connection, source), daemon=True, name="answer"
            ).start()


def _answer_for_scanner(connection: socket.socket, source: Source) -> None:
    with connection:
        try:
            connection.settimeout(_QUESTION_S)
            request = decode(_line_for_scanner(connection), ScanRequest)
            connection.settimeout(_SILENT_S)
            size, entries = source.measure()
            connection.sendall(encode(ScanAnswer(bytes=size, entries=entries)) + b"\n")
            if not request.measure:
                _send_for_scanner(connection, source)
        except LayerFailed as error:
            _say_for_scanner(connection, ScanFailed(code=error.code, text=str(error)))
        except InvalidMessage as error:
            _say_for_scanner(connection, ScanFailed(code="bad_request", text=str(error)))
        except (BrokenPipeError, ConnectionResetError, TimeoutError):
            _log.info("the caller went away")
        except OSError as error:
            _log.exception("the layer can't be read")
            _say_for_scanner(
                connection, ScanFailed(code="unreadable", text=error.strerror or str(error))
            )


def _say_for_scanner(connection: socket.socket, failed: ScanFailed) -> None:
    """Where bytes have been sent already this breaks the stream off, which is the point."""
    try:
        connection.sendall(encode(failed) + b"\n")
    except OSError as error:
        _log.info("the caller went away: %s", error)


def _line_for_scanner(connection: socket.socket) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        received = connection.recv(_MAX_QUESTION_BYTES)
        line += received
        if not received or len(line) > _MAX_QUESTION_BYTES:
            raise InvalidMessage("no question")
    return line


def _send_for_scanner(connection: socket.socket, source: Source) -> None:
    gathered = bytearray()
    for part in source.parts():
        gathered += part.head
        if part.size:
            small = part.size <= _GATHERED_BYTES
            if small:
                gathered += _content_for_scanner(part)
            else:
                connection.sendall(gathered)
                gathered.clear()
                _send_file_for_scanner(connection, part)
            gathered += bytes(-part.size % 512)
        if len(gathered) >= _GATHERED_BYTES:
            connection.sendall(gathered)
            gathered.clear()
    connection.sendall(gathered)


def _content_for_scanner(part: Part) -> bytes:
    """A small file, as long as it was said to be."""
    with open(part.path, "rb") as file:
        file.seek(part.offset)
        return file.read(part.size).ljust(part.size, b"\0")


def _send_file_for_scanner(connection: socket.socket, part: Part) -> None:
    """A file that has become shorter meanwhile is filled up with zeros."""
    with open(part.path, "rb") as file:
        left = part.size - connection.sendfile(file, part.offset, part.size)
    while left > 0:
        left -= connection.send(bytes(min(left, _SEND_BYTES)))


def make_copy(folder: Path, root: Path | None, volumes: Mapping[str, Path]) -> bool:
    """Have a complete copy; lines on standard output, and one on standard input, are as
    ``messages.upload`` has it. Returns whether there is one.
    """
    told = 0.0

    def say(done: int, total: int) -> None:
        nonlocal told
        if time.monotonic() - told >= _SAY_EVERY_S:
            told = time.monotonic()
            _print_for_scanner(CopyProgress(done=done, total=total))

    snapshot = Snapshot(folder, root, volumes, say)
    if snapshot.is_complete:
        return True
    try:
        snapshot.rounds()
        _print_for_scanner(PauseWanted())
        if sys.stdin.readline().strip() != PAUSED_LINE:
            _print_for_scanner(ScanFailed(code="not_paused", text="the app could not be paused"))
            return False
        snapshot.finish()
    except LayerFailed as error:
        _print_for_scanner(ScanFailed(code=error.code, text=str(error)))
        return False
    except OSError as error:
        _log.exception("the copy can't be made")
        _print_for_scanner(ScanFailed(code="unreadable", text=error.strerror or str(error)))
        return False
    _print_for_scanner(CopyDone(changed_bytes=snapshot.changed_bytes))
    return True


def _print_for_scanner(line: CopyProgress | PauseWanted | CopyDone | ScanFailed) -> None:
    print(encode(line).decode(), flush=True)


def scanner_main(mode: str) -> int:
    """Serve until told to stop."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    targets = json.loads(os.environ.get(VOLUMES_VARIABLE, "[]"))
    volumes = {target: Path(SCANNED_VOLUMES, str(n)) for n, target in enumerate(targets)}
    found = Path(SCANNED_ROOT)
    root = found if found.is_dir() else None
    if mode != COPY_MODE:
        serve_scan(SCAN_SOCKET, Files(root, volumes))
    elif make_copy(Path(COPY_FOLDER), root, volumes):
        serve_scan(SCAN_SOCKET, Copy(Path(COPY_FOLDER)))
    return 1
