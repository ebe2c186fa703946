"""What the file page does at a file server, over a person's SFTP session (:mod:`file_servers`)."""

import asyncio
import contextlib
import secrets
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import asyncssh

from dit4c_p2p.messages.snapshot_names import SNAPSHOTS
from dit4c_p2p.portal.errors import (
    Conflict,
    Forbidden,
    NotFound,
    PortalError,
    TookTooLong,
    Unavailable,
)
from dit4c_p2p.portal.storage.paths import FilePath, shown_name
from dit4c_p2p.portal.storage.zip_stream import ZipStream

# Of one answer from the file server; it may wait for a lease that a mount gives back.
CALL_S = 30.0
_BLOCK_BYTES = 1024 * 1024
MAX_LISTED = 100_000
# Deeper is no folder that a person made, or a loop.
MAX_DEPTH = 100
TEMPORARY = b".dit4c-upload-"
TEMPORARY_NAME_BYTES = 8

Kind = Literal["folder", "file", "link", "other"]


@dataclass(frozen=True)
class Item:
    """Something in a folder; ``modified`` in seconds since 1970."""

    name: bytes
    kind: Kind
    size_bytes: int
    modified: float


@contextlib.contextmanager
def translated(path: FilePath) -> Iterator[None]:
    """Have errors of the session raised as the portal's, about ``path``."""
    what = shown_name(path.name) or "your files"
    try:
        yield
    except (asyncssh.SFTPNoSuchFile, asyncssh.SFTPNoSuchPath):
        raise NotFound(f"there is no {what}", hint="it may have been renamed or deleted") from None
    except (asyncssh.SFTPPermissionDenied, asyncssh.SFTPWriteProtect):
        raise Forbidden(f"you may not do this with {what}") from None
    except asyncssh.SFTPFileAlreadyExists:
        raise _exists_for_file_actions(what) from None
    except (asyncssh.SFTPConnectionLost, asyncssh.SFTPNoConnection):
        raise Unavailable("the file server hung up", hint="try again in a moment") from None
    except asyncssh.SFTPError as error:
        text = " ".join(str(error.reason).split())[:200] or "it did not work"
        raise Conflict(f"the file server says of {what}: {text}") from None
    except TimeoutError:
        raise TookTooLong("the file server did not answer in time", hint="try again") from None
    except (asyncssh.Error, OSError):
        raise Unavailable("the file server hung up", hint="try again in a moment") from None


async def look(sftp: asyncssh.SFTPClient, path: FilePath) -> Item:
    """What is at a path; links are followed.

    :raises PortalError: nothing, or the file server says no.
    """
    with translated(path):
        async with asyncio.timeout(CALL_S):
            attrs = await sftp.stat(path.remote)
    return _item_for_file_actions(path.name, attrs)


async def look_at(sftp: asyncssh.SFTPClient, path: FilePath) -> Item:
    """The same of the link itself, if it is one."""
    with translated(path):
        async with asyncio.timeout(CALL_S):
            attrs = await sftp.lstat(path.remote)
    return _item_for_file_actions(path.name, attrs)


async def list_folder(sftp: asyncssh.SFTPClient, path: FilePath) -> list[Item]:
    """What is in a folder, folders first, then by name.

    :raises Conflict: too much to be shown.
    :raises PortalError: no folder, or the file server says no.
    """
    items = await _read_folder_for_file_actions(sftp, path)
    return sorted(items, key=lambda item: (item.kind != "folder", item.name.lower(), item.name))


async def make_folder(sftp: asyncssh.SFTPClient, path: FilePath) -> None:
    """A new folder.

    :raises Conflict: there is something of this name.
    """
    await check_free(sftp, path)
    with translated(path):
        async with asyncio.timeout(CALL_S):
            await sftp.mkdir(path.remote)


async def check_free(sftp: asyncssh.SFTPClient, path: FilePath) -> None:
    """:raises Conflict: there is something at a path."""
    if await exists(sftp, path):
        raise _exists_for_file_actions(shown_name(path.name))


async def make_folders(sftp: asyncssh.SFTPClient, base: FilePath, path: FilePath) -> None:
    """See that the folders from ``base`` down to ``path`` are there."""
    for depth in range(len(base.names) + 1, len(path.names) + 1):
        folder = FilePath(path.names[:depth])
        if not await exists(sftp, folder):
            with translated(folder), contextlib.suppress(asyncssh.SFTPFileAlreadyExists):
                async with asyncio.timeout(CALL_S):
                    await sftp.mkdir(folder.remote)


async def exists(sftp: asyncssh.SFTPClient, path: FilePath) -> bool:
    """Whether there is something at a path; a link counts, wherever it leads."""
    try:
        with translated(path):
            async with asyncio.timeout(CALL_S):
                await sftp.lstat(path.remote)
    except NotFound:
        return False
    return True


async def rename(sftp: asyncssh.SFTPClient, old: FilePath, new: FilePath) -> None:
    """Give something another name, and never in the place of something else.

    :raises Conflict: there is something of the new name.
    """
    await check_free(sftp, new)
    with translated(old):
        async with asyncio.timeout(CALL_S):
            await sftp.rename(old.remote, new.remote)


async def delete(sftp: asyncssh.SFTPClient, path: FilePath, *, depth: int = 0) -> None:
    """Remove a file, a link, or a folder with everything in it; links are not followed.

    :raises PortalError: there is nothing, or the file server says no; what was removed stays so.
    """
    if depth > MAX_DEPTH:
        raise Conflict(f"{shown_name(path.name)} has too many folders in one another")
    with translated(path):
        async with asyncio.timeout(CALL_S):
            attrs = await sftp.lstat(path.remote)
            if not stat.S_ISDIR(attrs.permissions or 0):
                await sftp.remove(path.remote)
                return
    for item in await _read_folder_for_file_actions(sftp, path):
        await delete(sftp, path.child(item.name), depth=depth + 1)
    with translated(path):
        async with asyncio.timeout(CALL_S):
            await sftp.rmdir(path.remote)


async def write(
    sftp: asyncssh.SFTPClient,
    path: FilePath,
    contents: AsyncIterator[bytes],
    *,
    replace: bool,
) -> int:
    """A new file; nobody sees it under its name before it is whole. Returns its size in bytes.

    :param replace: whether it may take the place of another file.
    :raises Conflict: there is one, and it may not; or it can't be stored.
    """
    if not replace:
        await check_free(sftp, path)
    token = secrets.token_hex(TEMPORARY_NAME_BYTES).encode()
    temporary = path.parent.child(TEMPORARY + token)
    size = 0
    try:
        with translated(path):
            async with asyncio.timeout(CALL_S):
                file = await sftp.open(temporary.remote, "xb")
            try:
                async for block in contents:
                    async with asyncio.timeout(CALL_S):
                        await file.write(block, size)
                    size += len(block)
                async with asyncio.timeout(CALL_S):
                    await _sync_for_file_actions(file)
            finally:
                async with asyncio.timeout(CALL_S):
                    await file.close()
            async with asyncio.timeout(CALL_S):
                if replace:
                    await sftp.posix_rename(temporary.remote, path.remote)
                else:
                    await sftp.rename(temporary.remote, path.remote)
    except BaseException:
        await _remove_quietly_for_file_actions(sftp, temporary)
        raise
    return size


async def read(
    sftp: asyncssh.SFTPClient, path: FilePath, size_bytes: int
) -> AsyncGenerator[bytes, None]:
    """The first ``size_bytes`` of a file.

    :raises Conflict: it has become shorter.
    """
    with translated(path):
        async with asyncio.timeout(CALL_S):
            file = await sftp.open(path.remote, "rb")
        try:
            done = 0
            while done < size_bytes:
                async with asyncio.timeout(CALL_S):
                    block = await file.read(min(_BLOCK_BYTES, size_bytes - done), done)
                if not isinstance(block, bytes) or not block:
                    raise Conflict(f"{shown_name(path.name)} has become shorter meanwhile")
                done += len(block)
                yield block
        finally:
            with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    await file.close()


async def zip_folder(sftp: asyncssh.SFTPClient, path: FilePath) -> AsyncGenerator[bytes, None]:
    """A folder as a ZIP archive, block by block; links stay links.

    :raises PortalError: something can't be read; what was sent is no whole archive then.
    """
    stream = ZipStream()
    try:
        async for block in _zip_into_for_file_actions(
            stream, sftp, path, _zip_name_for_file_actions(path.name), 0
        ):
            if block:
                yield block
        yield stream.finish()
    finally:
        stream.discard()


# ---- inside


async def _zip_into_for_file_actions(
    stream: ZipStream, sftp: asyncssh.SFTPClient, folder: FilePath, prefix: str, depth: int
) -> AsyncIterator[bytes]:
    if depth > MAX_DEPTH:
        raise Conflict(f"{shown_name(folder.name)} has too many folders in one another")
    yield stream.add_folder(prefix, 0)
    for item in await _read_folder_for_file_actions(sftp, folder):
        path, name = folder.child(item.name), f"{prefix}/{_zip_name_for_file_actions(item.name)}"
        if item.kind == "folder":
            async for block in _zip_into_for_file_actions(stream, sftp, path, name, depth + 1):
                yield block
        elif item.kind == "file":
            contents = read(sftp, path, item.size_bytes)
            async for block in stream.add_file(name, item.modified, contents):
                yield block
        elif item.kind == "link":
            with translated(path):
                async with asyncio.timeout(CALL_S):
                    target = await sftp.readlink(path.remote)
            yield stream.add_link(name, item.modified, _as_bytes_for_file_actions(target))


async def _read_folder_for_file_actions(sftp: asyncssh.SFTPClient, path: FilePath) -> list[Item]:
    items: list[Item] = []
    with translated(path):
        async with asyncio.timeout(CALL_S) as limit:
            async for entry in sftp.scandir(path.remote):
                limit.reschedule(asyncio.get_running_loop().time() + CALL_S)
                name = _as_bytes_for_file_actions(entry.filename)
                if name in (b".", b"..", SNAPSHOTS) or b"/" in name or name.startswith(TEMPORARY):
                    continue
                if len(items) >= MAX_LISTED:
                    raise Conflict(
                        f"there is more than {MAX_LISTED:,} in {shown_name(path.name)}",
                        hint="use sftp, sshfs or rclone for this folder",
                    )
                items.append(_item_for_file_actions(name, entry.attrs))
    return items


def _item_for_file_actions(name: bytes, attrs: asyncssh.SFTPAttrs) -> Item:
    mode = attrs.permissions or 0
    kind: Kind = "other"
    for test, word in _KINDS:
        if test(mode):
            kind = word
    return Item(name, kind, attrs.size or 0, float(attrs.mtime or 0))


_KINDS: tuple[tuple[Callable[[int], bool], Kind], ...] = (
    (stat.S_ISDIR, "folder"),
    (stat.S_ISREG, "file"),
    (stat.S_ISLNK, "link"),
)


async def _sync_for_file_actions(file: asyncssh.SFTPClientFile) -> None:
    """Have the file on the server's disk, where the server can do that."""
    with contextlib.suppress(asyncssh.SFTPOpUnsupported):
        await file.fsync()


async def _remove_quietly_for_file_actions(sftp: asyncssh.SFTPClient, path: FilePath) -> None:
    """Remove what was not finished; the file server may be gone, and then it stays."""
    with contextlib.suppress(asyncssh.Error, OSError, TimeoutError, PortalError):
        async with asyncio.timeout(CALL_S):
            await sftp.remove(path.remote)


def _zip_name_for_file_actions(name: bytes) -> str:
    """A name as text in an archive; some programs take a backslash for a slash."""
    return shown_name(name).replace("\\", "_")


def _as_bytes_for_file_actions(name: bytes | str | None) -> bytes:
    return name.encode() if isinstance(name, str) else name or b""


def _exists_for_file_actions(what: str) -> Conflict:
    return Conflict(
        f"there is something called {what} already",
        field="name",
        hint="choose another name, or delete it first",
    )
