"""Who is here, and what each session sees: views are made from grants, and follow their changes."""

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial

from dit4c_p2p.backoff import Backoff
from dit4c_p2p.fileserver.grants import GrantsClient, GrantsUnknown, NoGrants
from dit4c_p2p.fileserver.layout import Folder, View, split_session_path
from dit4c_p2p.fileserver.leases import Notice
from dit4c_p2p.fileserver.sftp_server import SftpSession
from dit4c_p2p.fileserver.trees import Trees
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.messages.grants import Grants

_log = logging.getLogger(__name__)

_FIRST_PAUSE_S = 0.2
_LONGEST_PAUSE_S = 5.0
_LONGEST_TIMER_S = 24 * 3600.0


class Sessions:
    """All SFTP sessions of a file server, by whose files they see.

    :param clock: seconds since 1970.
    :ivar grants: set by who makes both; told of sessions' peers.
    """

    grants: GrantsClient
    trees: Trees

    def __init__(self, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._by_peer: dict[PeerName, dict[SftpSession, Callable[[str], None]]] = {}
        self._refreshing: dict[PeerName, asyncio.Task[None]] = {}
        self._again: set[PeerName] = set()
        self._ends: dict[PeerName, asyncio.TimerHandle] = {}
        # Counted up whenever grants may have changed.
        self._changes = 0

    async def open_view(self, peer: PeerName) -> View:
        """What a new session of ``peer`` sees.

        :raises NoGrants: nothing.
        :raises GrantsUnknown: the portal can't be asked now.
        """
        changes = self._changes
        view = self._view(await self._grants_of(peer), None)
        view.changes = changes
        return view

    def add(self, peer: PeerName, session: SftpSession, end: Callable[[str], None]) -> None:
        """A session has begun; ``end`` ends it, with a reason."""
        self._by_peer.setdefault(peer, {})[session] = end
        if session.view.changes != self._changes:
            self.changed(peer)

    def remove(self, peer: PeerName, session: SftpSession) -> None:
        """A session has ended."""
        sessions = self._by_peer.get(peer, {})
        sessions.pop(session, None)
        if not sessions:
            self._by_peer.pop(peer, None)
            timer = self._ends.pop(peer, None)
            if timer is not None:
                timer.cancel()

    @property
    def all(self) -> list[SftpSession]:
        """Those that are here."""
        return [session for sessions in self._by_peer.values() for session in sessions]

    def notify(self, notices: list[Notice]) -> None:
        """Send notices of leases to their sessions, in order."""
        by_session: dict[SftpSession, list[Notice]] = {}
        for notice in notices:
            if isinstance(notice.session, SftpSession):
                by_session.setdefault(notice.session, []).append(notice)
        for session, its in by_session.items():
            session.notify(its)

    def changed(self, peer: PeerName | None) -> None:
        """The grants of ``peer``, or of anybody, may have changed."""
        self._changes += 1
        for name in list(self._by_peer) if peer is None else [peer]:
            if name not in self._by_peer:
                continue
            if name in self._refreshing:
                self._again.add(name)
                continue
            task = asyncio.create_task(self._refresh(name), name=f"grants of {name}")
            self._refreshing[name] = task
            task.add_done_callback(partial(self._refreshed, name))

    def _refreshed(self, name: PeerName, task: "asyncio.Task[None]") -> None:
        self._refreshing.pop(name, None)
        if name in self._again:
            self._again.discard(name)
            self.changed(name)

    async def close(self) -> None:
        """Ask no more."""
        for timer in self._ends.values():
            timer.cancel()
        tasks = list(self._refreshing.values())
        self._again.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _refresh(self, peer: PeerName) -> None:
        """Give all sessions of a peer their view by the newest grants."""
        backoff = Backoff(_FIRST_PAUSE_S, _LONGEST_PAUSE_S)
        while peer in self._by_peer:
            try:
                grants = await self._grants_of(peer)
            except NoGrants as error:
                for end in list(self._by_peer.get(peer, {}).values()):
                    end(error.one_line())
                return
            except GrantsUnknown as error:
                _log.warning("the grants of %s are not known: %s", peer, error.one_line())
                await asyncio.sleep(backoff.pause_s())
                continue
            for session in list(self._by_peer.get(peer, {})):
                session.change_view(self._view(grants, session.view))
            return

    async def _grants_of(self, peer: PeerName) -> Grants:
        grants = await self.grants.of(peer)
        if not grants.folders:
            raise NoGrants(f"{peer} has no folder on this file server")
        if grants.ends_at is not None:
            left_s = grants.ends_at - self._clock()
            if left_s <= 0:
                raise NoGrants(f"the grants of {peer} have ended")
            self._look_again(peer, min(left_s, _LONGEST_TIMER_S))
        return grants

    def _look_again(self, peer: PeerName, pause_s: float) -> None:
        """Ask again when grants end."""
        timer = self._ends.pop(peer, None)
        if timer is not None:
            timer.cancel()
        loop = asyncio.get_running_loop()
        self._ends[peer] = loop.call_later(pause_s, self.changed, peer)

    def _view(self, grants: Grants, before: View | None) -> View:
        """The view by ``grants``; folders that stay as they were are those of the view before."""
        kept = {} if before is None else dict(before.folders)
        folders: list[Folder] = []
        for quota in grants.quotas:
            self.trees.get(quota.tree).usage.limit_bytes = quota.bytes
        for grant in grants.folders:
            place = split_session_path(grant.path.encode())
            tree = self.trees.get(grant.tree)
            old = kept.get(place)
            if old is not None and (old.tree, old.folder) == (tree, grant.folder):
                old.writable = grant.write
                folders.append(kept.pop(place))
                continue
            folders.append(Folder(place, tree, grant.folder, grant.write))
        for folder in kept.values():
            folder.take_away()
        return View(folders)
