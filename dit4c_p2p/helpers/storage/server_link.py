"""A connection to one file server that comes back, and calls that outlive its loss."""

import asyncio
import errno
import functools
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.storage.conflicts import ChangedElsewhere, is_others_doing
from dit4c_p2p.helpers.storage.remote import Opened, Remote
from dit4c_p2p.helpers.storage.sftp_client import ConnectionGone, now_s
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import REPLAY_S, Notice

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 3.0
_LOOK_S = 1.0
# A session that has sent nothing for so long sends something, so that its leases last.
_RENEW_S = 0.7
# No session has been lost yet.
NEVER_AWAY_NS = (1 << 63) - 1
# Bytes of writes on their way to one server.
MAX_UNSENT_BYTES = 32 * 1024 * 1024

T = TypeVar("T")
Connect = Callable[[], Awaitable[Remote]]
OnState = Callable[[str], None]


class ServerLink:
    """Keeps a session with one file server for as long as :meth:`run` runs.

    :param connect: opens a session; raises :class:`DitError`.
    :param limit_s: how long a call waits for a server that is absent or does not answer.
    :param on_state: told why there is no session; empty when there is one.
    """

    def __init__(
        self,
        name: str,
        connect: Connect,
        *,
        limit_s: float,
        on_state: OnState = lambda trouble: None,
    ) -> None:
        self.name = name
        self._connect = connect
        self._limit_s = limit_s
        self._on_state = on_state
        self._remote: Remote | None = None
        self._changed = asyncio.Event()
        # Told what the server says of its leases, and that those of a session are gone.
        self.on_notice: Callable[[Remote, Notice], None] = lambda remote, notice: None
        self.on_lost: Callable[[], None] = lambda: None
        # Since when somebody else may have changed what this mount has not sent yet; of the
        # server's clock.
        self.since_ns = NEVER_AWAY_NS
        # The server's clock has come at least so far: the newest time of change that it has told.
        self.newest_ns = 0
        self.trouble = "not connected yet"

    @property
    def remote(self) -> Remote | None:
        """The session, if there is one."""
        return self._remote

    async def run(self) -> None:
        """Connect again whenever there is no session, until cancelled."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while True:
            try:
                remote = await self._connect()
            except DitError as error:
                self._say(error.one_line())
                await asyncio.sleep(backoff.pause_s())
                continue
            began = asyncio.get_running_loop().time()
            remote.on_notice = functools.partial(self._hear, remote)
            self._remote = remote
            self._changed.set()
            self._say("")
            try:
                await self._watch(remote)
            finally:
                self._remote = None
                remote.client.abort()
                lasted_s = asyncio.get_running_loop().time() - began
                # What was to be sent again may not be sent yet.
                if lasted_s > REPLAY_S or self.since_ns == NEVER_AWAY_NS:
                    self.since_ns = remote.heard_ns
                if remote.leases is not None:
                    remote.leases.end()
                self.on_lost()
            self._say("the connection to the file server ended")
            if asyncio.get_running_loop().time() - began > _LONGEST_PAUSE_S:
                backoff.reset()
            else:
                # A server that ends each session at once is not asked in a tight loop.
                await asyncio.sleep(backoff.pause_s())

    def _hear(self, remote: Remote, notice: Notice) -> None:
        self.on_notice(remote, notice)

    async def _watch(self, remote: Remote) -> None:
        """Return when the session has ended, or does not answer. Renews its leases meanwhile."""
        client = remote.client
        renewing: asyncio.Future[None] | None = None
        while client.alive:
            idle = remote.leases is not None and now_s() - client.sent_at > _RENEW_S
            if idle and (renewing is None or renewing.done()):
                renewing = asyncio.ensure_future(remote.renew())
                renewing.add_done_callback(_heard_for_server_link)
            await asyncio.wait([client.closed], timeout=_LOOK_S)
            if client.oldest_s() > self._limit_s:
                _log.warning("%s has not answered for %s s", self.name, self._limit_s)
                return

    async def call(
        self,
        operation: Callable[[Remote], Awaitable[T]],
        *,
        already: Collection[int] = (),
        otherwise: T | None = None,
    ) -> T:
        """The result of ``operation``, tried again when the connection ends in its middle.

        :param already: errors that mean, after an attempt whose end is not known, that it was
            carried out; then ``otherwise`` is returned.
        :raises OSError: the server's error; EIO when time is up.
        """
        remote = self._remote
        since = asyncio.get_running_loop().time()
        uncertain = False
        while True:
            if remote is not None:
                try:
                    return await operation(remote)
                except ConnectionGone:
                    uncertain = True
                except OSError as error:
                    if uncertain and error.errno in already:
                        return otherwise  # type: ignore[return-value]
                    raise
            remote = await self._next_remote(remote, since)

    async def _next_remote(self, last: Remote | None, since: float) -> Remote:
        try:
            async with asyncio.timeout_at(since + self._limit_s):
                while True:
                    remote = self._remote
                    if remote is not None and remote is not last and remote.client.alive:
                        return remote
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            raise OSError(errno.EIO, f"no file server for {self._limit_s:.0f} s") from None

    def _say(self, trouble: str) -> None:
        if trouble != self.trouble:
            self.trouble = trouble
            _log.info("%s: %s", self.name, trouble or "connected")
            self._on_state(trouble)


class RemoteFile:
    """An open file at the server, opened again after a loss of the connection.

    :param path: where it is now; raises :class:`OSError` once it has no name any more.
    :param flags: ``OpenFlag``, without those that act at the first opening only.
    :param opened: the session in which it has been opened, and its handle there.
    :param file_id: of the file, where the server says one: no other file is opened in its place.
    :ivar since_ns: returns since when (the server's clock) nobody else may have changed the file,
        as there is something to be written to it that is older; None: there is nothing.
    :ivar broken: somebody else has changed the file: nothing is done with it any more.
    """

    def __init__(
        self,
        path: Callable[[], bytes],
        flags: int,
        opened: tuple[Remote, bytes] | None = None,
        *,
        file_id: int | None = None,
    ) -> None:
        self.flags = flags
        self._file_id = file_id
        self._path = path
        self._remote: Remote | None = None
        self._handle = b""
        if opened is not None:
            self._remote, self._handle = opened
        self._opening = asyncio.Lock()
        self.since_ns: Callable[[], int | None] = lambda: None
        self.broken = False
        self._closed = False

    async def on(self, remote: Remote) -> bytes:
        """Its handle in that session.

        :raises OSError: it can't be opened again.
        :raises ChangedElsewhere: it must not be, for what is to be written to it.
        """
        if self.broken:
            raise ChangedElsewhere
        if self._remote is remote:
            return self._handle
        async with self._opening:
            if self._remote is not remote:
                found = await self._open(remote)
                if self._file_id is not None and found.attributes.file_id != self._file_id:
                    remote.client.close(found.handle).add_done_callback(_closed_for_server_link)
                    raise OSError(errno.EIO, "another file has this name now")
                if self._closed:  # while it was being opened
                    remote.client.close(found.handle).add_done_callback(_closed_for_server_link)
                    return found.handle
                self._handle, self._remote = found.handle, remote
        return self._handle

    async def _open(self, remote: Remote) -> Opened:
        path, since_ns = self._path(), self.since_ns()
        if since_ns is None or not self.flags & OpenFlag.WRITE:
            return await remote.open(path, self.flags)
        try:
            if self._file_id is None:
                return await remote.open(path, self.flags)
            return await remote.reopen(path, self.flags, self._file_id, since_ns)
        except OSError as error:
            if is_others_doing(error):
                raise ChangedElsewhere from None
            raise

    def handle_on(self, remote: Remote | None) -> bytes | None:
        """Its handle in that session, if it has one there."""
        return self._handle if remote is not None and self._remote is remote else None

    @property
    def opened(self) -> bool:
        """Whether it has been opened at a server at all."""
        return self._remote is not None

    def close(self) -> None:
        """Give the handle back; nobody waits for it."""
        self._closed = True
        remote, self._remote = self._remote, None
        if remote is not None and remote.client.alive:
            remote.client.close(self._handle).add_done_callback(_closed_for_server_link)


def _closed_for_server_link(future: "asyncio.Future[None]") -> None:
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.info("a handle could not be given back: %s", error)


def _heard_for_server_link(future: "asyncio.Future[None]") -> None:
    """A session that ends takes what waits for an answer with it."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.info("leases could not be renewed: %s", error)
