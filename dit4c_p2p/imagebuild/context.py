"""Build contexts as sent to the engine: the same sources always give the same bytes."""

import hashlib
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class ContextFile:
    """One file of a build context: its name there, with ``/``, and the path of its source."""

    name: str
    source: Path


def context_files_below(folder: Path, prefix: str = "") -> tuple[ContextFile, ...]:
    """Return every file below ``folder``, named relative to it and below ``prefix``, sorted."""
    found = (
        ContextFile(prefix + path.relative_to(folder).as_posix(), path)
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    )
    return tuple(sorted(found, key=lambda file: file.name))


def context_hash(files: Iterable[ContextFile], *facts: str) -> str:
    """Return the SHA-256 in hex of ``facts`` (such as a parent's id), names and contents."""
    total = hashlib.sha256()
    for fact in facts:
        total.update(f"{len(fact)}:{fact}\n".encode())
    for file in sorted(files, key=lambda file: file.name):
        contents = hashlib.sha256(file.source.read_bytes()).hexdigest()
        total.update(f"{len(file.name)}:{file.name} {contents}\n".encode())
    return total.hexdigest()


def pack_context(files: Iterable[ContextFile], archive: BinaryIO) -> None:
    """Write an uncompressed tar of ``files`` to ``archive`` and rewind it.

    Owner, mode and time are the same for every file, so that the engine's cache is hit wherever the
    sources lie, and whatever the umask was when they were checked out.
    """
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for file in sorted(files, key=lambda file: file.name):
            entry = tarfile.TarInfo(file.name)
            entry.size = file.source.stat().st_size
            entry.mode = 0o644
            with file.source.open("rb") as contents:
                tar.addfile(entry, contents)
    archive.seek(0)
