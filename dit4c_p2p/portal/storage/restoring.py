"""Copying a file or a folder out of a snapshot, at the file server, over a person's session."""

import asyncio
import contextlib
import secrets
import stat
from collections.abc import Iterable

import asyncssh

from dit4c_p2p.portal.errors import Conflict, PortalError
from dit4c_p2p.portal.storage.file_actions import (
    CALL_S,
    MAX_DEPTH,
    TEMPORARY,
    TEMPORARY_NAME_BYTES,
    check_free,
    delete,
    exists,
    list_folder,
    make_folders,
    translated,
)
from dit4c_p2p.portal.storage.paths import FilePath, shown_name

# The server copies this much in one call, which has its time limit.
_PIECE_BYTES = 64 * 1024 * 1024
_BLOCK_BYTES = 256 * 1024
# Entries of a folder that are copied at the same time.
_AT_ONCE = 16


async def existing(sftp: asyncssh.SFTPClient, paths: Iterable[FilePath]) -> set[FilePath]:
    """Those of the paths where there is something."""
    paths = list(paths)
    at_once = asyncio.Semaphore(_AT_ONCE)

    async def look(path: FilePath) -> bool:
        async with at_once:
            return await exists(sftp, path)

    there = await asyncio.gather(*(look(path) for path in paths))
    return {path for path, found in zip(paths, there, strict=True) if found}


async def restore(
    sftp: asyncssh.SFTPClient, source: FilePath, target: FilePath, *, replace: bool
) -> None:
    """Copy ``source`` to ``target``; nobody sees it there before it is whole.

    :param replace: whether it may take the place of what is there, which is removed.
    :raises Conflict: something is there, and it may not; or it can't be stored.
    """
    if not replace:
        await check_free(sftp, target)
    await make_folders(sftp, FilePath(), target.parent)
    copy = _temporary_for_restoring(target)
    try:
        await _Copying(sftp).copy(source, copy, 0)
        await _put_for_restoring(sftp, copy, target, replace=replace)
    except BaseException:
        await _remove_quietly_for_restoring(sftp, copy)
        raise


async def _put_for_restoring(
    sftp: asyncssh.SFTPClient, copy: FilePath, target: FilePath, *, replace: bool
) -> None:
    """Give the finished copy its name."""
    with translated(target):
        if not (replace and await exists(sftp, target)):
            async with asyncio.timeout(CALL_S):
                await sftp.rename(copy.remote, target.remote)
            return
        async with asyncio.timeout(CALL_S):
            old, new = await sftp.lstat(target.remote), await sftp.lstat(copy.remote)
            if not (_is_folder_for_restoring(old) or _is_folder_for_restoring(new)):
                await sftp.posix_rename(copy.remote, target.remote)
                return
        aside = _temporary_for_restoring(target)
        async with asyncio.timeout(CALL_S):
            await sftp.rename(target.remote, aside.remote)
        try:
            async with asyncio.timeout(CALL_S):
                await sftp.rename(copy.remote, target.remote)
        except BaseException:
            with contextlib.suppress(asyncssh.Error, OSError, TimeoutError):
                async with asyncio.timeout(CALL_S):
                    await sftp.rename(aside.remote, target.remote)
            raise
    await delete(sftp, aside)


class _Copying:
    """One copy of a tree."""

    def __init__(self, sftp: asyncssh.SFTPClient) -> None:
        self._sftp = sftp
        self._at_once = asyncio.Semaphore(_AT_ONCE)

    async def copy(self, source: FilePath, target: FilePath, depth: int) -> None:
        """Copy a file, a link, or a folder with its entries; sockets and the like are left out."""
        if depth > MAX_DEPTH:
            raise Conflict(f"{shown_name(source.name)} has too many folders in one another")
        sftp = self._sftp
        async with self._at_once:
            with translated(source):
                async with asyncio.timeout(CALL_S):
                    attrs = await sftp.lstat(source.remote)
            mode = attrs.permissions or 0
            if stat.S_ISLNK(mode):
                with translated(source):
                    async with asyncio.timeout(CALL_S):
                        await sftp.symlink(await sftp.readlink(source.remote), target.remote)
            elif stat.S_ISREG(mode):
                await self._copy_file(source, target, attrs)
            if not stat.S_ISDIR(mode):
                return
            with translated(source):
                async with asyncio.timeout(CALL_S):
                    await sftp.mkdir(target.remote)
            items = await list_folder(sftp, source)
        for start in range(0, len(items), _AT_ONCE):
            try:
                async with asyncio.TaskGroup() as group:
                    for item in items[start : start + _AT_ONCE]:
                        inner = (source.child(item.name), target.child(item.name))
                        group.create_task(self.copy(*inner, depth + 1))
            except BaseExceptionGroup as errors:
                raise errors.exceptions[0] from None
        with translated(source):
            async with asyncio.timeout(CALL_S):
                await sftp.setstat(target.remote, _kept_for_restoring(attrs))

    async def _copy_file(
        self, source: FilePath, target: FilePath, attrs: asyncssh.SFTPAttrs
    ) -> None:
        sftp, size = self._sftp, attrs.size or 0
        with translated(source):
            async with asyncio.timeout(CALL_S):
                old = await sftp.open(source.remote, "rb")
                new = await sftp.open(target.remote, "xb")
            try:
                done = 0
                while done < size:
                    async with asyncio.timeout(CALL_S):
                        done += await self._copy_piece(old, new, done, size - done)
                async with asyncio.timeout(CALL_S):
                    await new.setstat(_kept_for_restoring(attrs))
                    with contextlib.suppress(asyncssh.SFTPOpUnsupported):
                        await new.fsync()
            finally:
                async with asyncio.timeout(CALL_S):
                    await asyncio.gather(old.close(), new.close())

    async def _copy_piece(
        self, old: asyncssh.SFTPClientFile, new: asyncssh.SFTPClientFile, start: int, left: int
    ) -> int:
        """Copy some bytes from ``start`` on; how many."""
        if self._sftp.supports_remote_copy:
            count = min(left, _PIECE_BYTES)
            await self._sftp.remote_copy(old, new, start, count, start)
            return count
        block = await old.read(min(left, _BLOCK_BYTES), start)
        if not isinstance(block, bytes) or not block:
            raise asyncssh.SFTPFailure("it has become shorter meanwhile")
        await new.write(block, start)
        return len(block)


def _kept_for_restoring(attrs: asyncssh.SFTPAttrs) -> asyncssh.SFTPAttrs:
    """Permissions and times."""
    return asyncssh.SFTPAttrs(
        permissions=stat.S_IMODE(attrs.permissions or 0), atime=attrs.atime, mtime=attrs.mtime
    )


def _is_folder_for_restoring(attrs: asyncssh.SFTPAttrs) -> bool:
    return stat.S_ISDIR(attrs.permissions or 0)


def _temporary_for_restoring(path: FilePath) -> FilePath:
    """A name beside ``path`` that the file page does not show."""
    return path.parent.child(TEMPORARY + secrets.token_hex(TEMPORARY_NAME_BYTES).encode())


async def _remove_quietly_for_restoring(sftp: asyncssh.SFTPClient, path: FilePath) -> None:
    """Remove what was not finished; the file server may be gone, and then it stays."""
    with contextlib.suppress(asyncssh.Error, OSError, TimeoutError, PortalError):
        if await exists(sftp, path):
            await delete(sftp, path)
