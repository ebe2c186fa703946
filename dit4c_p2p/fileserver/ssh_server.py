"""The file server's SSH side: who may log in, and the one subsystem that there is.

Stock clients work: ``sftp user-ada@files.example.org``.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import asyncssh

from dit4c_p2p.errors import DitError
from dit4c_p2p.fileserver.config import Limits
from dit4c_p2p.fileserver.grants import KeyTaken
from dit4c_p2p.fileserver.layout import View
from dit4c_p2p.fileserver.sessions import Sessions
from dit4c_p2p.fileserver.sftp_server import Server, SftpSession
from dit4c_p2p.identity.errors import InvalidName
from dit4c_p2p.identity.key_documents import KeyDocument
from dit4c_p2p.identity.names import Kind, PeerName
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.grants import ACTS_FOR
from dit4c_p2p.overlay import server
from dit4c_p2p.overlay.asyncssh_ext.fastpath import fast_writer
from dit4c_p2p.overlay.errors import Refused
from dit4c_p2p.overlay.server import ConnectionAdmission, PeerServer
from dit4c_p2p.overlay.ssh_options import PACKET_BYTES

_log = logging.getLogger(__name__)

# A long line stays full while a client writes.
_WINDOW_BYTES = 16 * 1024 * 1024
_SUBSYSTEM = "sftp"
_BEGIN_S = 20.0
_LOOK_S = 1.0


def admission_for(
    registry: Registry, portal: PeerName, limits: Limits, refused: Callable[[str], None]
) -> ConnectionAdmission:
    """Lets in instances, people, and the portal."""

    def admit(name: PeerName, document: KeyDocument) -> None:
        if name.kind not in (Kind.INSTANCE, Kind.USER) and name != portal:
            raise Refused(f"a file server does not serve {name.kind} peers")

    per_key = {
        Kind.INSTANCE: limits.connections_per_instance,
        Kind.USER: limits.connections_per_user,
        Kind.PORTAL: limits.connections_of_portal,
    }
    return ConnectionAdmission(
        registry,
        admit=admit,
        limits=server.Limits(channels_per_connection=limits.sessions_per_connection),
        per_key=lambda name: per_key[name.kind],
        refused=refused,
    )


class FileServerConnections:
    """What the SSH connections of a file server share."""

    def __init__(
        self, admission: ConnectionAdmission, shared: Server, sessions: Sessions, limits: Limits
    ) -> None:
        self.admission = admission
        self.shared = shared
        self.sessions = sessions
        self.limits = limits
        self.live: set[FileServerConnection] = set()

    def server(self) -> "FileServerConnection":
        """The factory that asyncssh calls for each connection."""
        return FileServerConnection(self)


class FileServerConnection(PeerServer):
    """One peer's connection."""

    def __init__(self, shared: FileServerConnections) -> None:
        super().__init__(shared.admission)
        self._shared = shared
        self.stalled_s = shared.limits.stalled
        self._proving: asyncio.Task[None] | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Called by asyncssh when a connection opens."""
        self._shared.live.add(self)
        super().connection_made(conn)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the connection has ended."""
        self._shared.live.discard(self)
        if self._proving is not None:
            self._proving.cancel()
        super().connection_lost(exc)

    def auth_completed(self) -> None:
        """Called by asyncssh when the peer has proven its key."""
        super().auth_completed()
        if self.authenticated and self.peer.kind == Kind.USER:
            self._proving = asyncio.create_task(self._prove(), name=f"key of {self.peer}")

    async def _prove(self) -> None:
        """A person's key that has logged in is proven: the portal is told before anything is seen.

        :raises DitError: it is somebody else's, or the portal can't be told.
        """
        await self._shared.sessions.grants.prove(self.peer, self.fingerprint)

    async def view_for(self, environment: dict[str, str]) -> tuple[PeerName, View]:
        """Whose files a session sees, and what.

        :raises DitError: nothing.
        """
        if self._proving is not None:
            try:
                await asyncio.shield(self._proving)
            except KeyTaken as error:
                self.conn.disconnect(asyncssh.DISC_BY_APPLICATION, error.one_line())
                raise
        peer = self.peer
        if peer.kind == Kind.PORTAL:
            try:
                peer = PeerName.parse(environment.get(ACTS_FOR, ""))
            except InvalidName:
                raise Refused("the portal does not say for whom it acts") from None
            if peer.kind != Kind.USER:
                raise Refused("the portal acts for people only")
        return peer, await self._shared.sessions.open_view(peer)

    def session_requested(self) -> Any:
        """Called by asyncssh for a session channel."""
        if not self.authenticated:
            return False
        channel = self.conn.create_server_channel(
            encoding=None, window=_WINDOW_BYTES, max_pktsize=PACKET_BYTES
        )
        return channel, SftpChannel(self, self._shared)


class SftpChannel(asyncssh.SSHServerSession[bytes]):
    """One session channel: the subsystem ``sftp``, and nothing else."""

    def __init__(self, connection: FileServerConnection, shared: FileServerConnections) -> None:
        self._connection = connection
        self._shared = shared
        self._channel: asyncssh.SSHServerChannel[bytes]
        self._session: SftpSession | None = None
        self._peer = ""
        self._beginning: asyncio.Task[None] | None = None
        # What came before the session was there; the channel is not read on meanwhile.
        self._early: list[bytes] = []
        self._ended = False
        self._eof = False
        self._look: asyncio.TimerHandle | None = None

    def connection_made(self, chan: asyncssh.SSHServerChannel[bytes]) -> None:
        """Called by asyncssh when the channel opens."""
        self._channel = chan

    def subsystem_requested(self, subsystem: str) -> bool:
        """The only one; shells and commands are refused by the base class."""
        return subsystem == _SUBSYSTEM

    def session_started(self) -> None:
        """Called by asyncssh when the subsystem was accepted."""
        self._beginning = asyncio.create_task(self._begin(), name="SFTP session")

    async def _begin(self) -> None:
        try:
            async with asyncio.timeout(_BEGIN_S):
                peer, view = await self._connection.view_for(self._environment())
        except TimeoutError:
            self._refuse("the portal does not answer")
            return
        except DitError as error:
            self._refuse(error.one_line())
            return
        except Exception:  # noqa: BLE001  it would close the whole connection
            _log.exception("a session of %s could not begin", self._connection.peer)
            self._refuse("the file server failed; its log says why")
            return
        if self._ended or self._channel.is_closing():
            return
        self._peer = str(peer)
        session = self._session = SftpSession(
            self._shared.shared,
            view,
            send=fast_writer(self._channel),
            pause=self._pause,
            end=self._end,
        )
        self._shared.sessions.add(peer, session, self._end)
        _log.info("%s begins a session for %s", self._connection.peer, peer)
        early, self._early = self._early, []
        for data in early:
            self._feed(data)
        self._channel.resume_reading()
        if self._eof:
            session.finish(self._finished)

    def _environment(self) -> dict[str, str]:
        return {str(name): str(value) for name, value in self._channel.get_environment().items()}

    def _refuse(self, reason: str) -> None:
        """End the channel before anything was seen; stock clients show the reason."""
        self._shared.admission.refused("session")
        _log.warning("refused %s a session: %s", self._connection.peer, reason)
        self._exit(1, reason)

    def _end(self, reason: str) -> None:
        _log.warning("ended a session of %s: %s", self._peer, reason)
        self._exit(1, reason)

    def _exit(self, status: int, reason: str = "") -> None:
        """End the channel, unless it is ending already."""
        if self._ended or self._channel.is_closing():
            return
        if reason:
            self._channel.write_stderr(f"dit4c: {reason}\r\n".encode())
        self._channel.exit(status)

    def _pause(self, paused: bool) -> None:
        if self._look is not None:
            self._look.cancel()
            self._look = None
        if paused:
            self._channel.pause_reading()
            self._look_later()
        else:
            self._channel.resume_reading()

    def _look_later(self) -> None:
        self._look = asyncio.get_running_loop().call_later(_LOOK_S, self._look_for_close)

    def _look_for_close(self) -> None:
        """While the channel is not read, asyncssh tells nobody that the client has closed it."""
        self._look = None
        if self._channel.is_closing():
            self._channel.abort()
        elif not self._ended:
            self._look_later()

    def data_received(self, data: bytes, datatype: int | None) -> None:
        """Called by asyncssh with the client's bytes."""
        if self._session is None:
            self._early.append(data)
            self._channel.pause_reading()
        else:
            self._feed(data)

    def _feed(self, data: bytes) -> None:
        session = self._session
        if session is None:
            return
        try:
            session.data_received(data)
        except (asyncssh.Error, OSError) as error:
            self._end(f"it broke off: {error}")
        except Exception:  # noqa: BLE001  it would close the whole connection
            _log.exception("a session of %s failed", self._peer)
            self._end("the file server failed; its log says why")

    def eof_received(self) -> bool:
        """The client has nothing more to ask; what is under way is answered."""
        self._eof = True
        if self._session is not None:
            self._session.finish(self._finished)
        return True

    def _finished(self) -> None:
        self._exit(0)

    def pause_writing(self) -> None:
        """Called by asyncssh when the client reads too slowly."""
        if self._session is not None:
            self._session.pause_writing()

    def resume_writing(self) -> None:
        """Called by asyncssh when the client has caught up."""
        if self._session is not None:
            self._session.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncssh when the channel has ended."""
        self._ended = True
        self._early = []
        if self._look is not None:
            self._look.cancel()
        session = self._session
        if session is not None:
            self._shared.sessions.remove(PeerName.parse(self._peer), session)
            session.close()
