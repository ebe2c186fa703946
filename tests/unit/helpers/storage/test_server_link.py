"""A file that is open at a server: opened again after a loss, and closed once."""

import asyncio
import errno

import pytest

from dit4c_p2p.helpers.storage.attributes import Attributes
from dit4c_p2p.helpers.storage.conflicts import ChangedElsewhere
from dit4c_p2p.helpers.storage.remote import Opened
from dit4c_p2p.helpers.storage.server_link import RemoteFile
from dit4c_p2p.sftp.constants import OpenFlag
from dit4c_p2p.sftp.extensions import CHANGED_BY_OTHERS

BOTH = OpenFlag.READ | OpenFlag.WRITE
ID, SINCE = 7, 5


class Session:
    """A session whose opens wait for a word; ``error`` is what opening again ends in."""

    alive = True

    def __init__(self, error: int = 0) -> None:
        self.client = self
        self.error = error
        self.asked: list[str] = []
        self.closed: list[bytes] = []
        self.goes_on = asyncio.Event()

    async def open(self, path, flags):
        self.asked.append("open")
        await self.goes_on.wait()
        return Opened(b"handle", Attributes(file_id=ID))

    async def reopen(self, path, flags, file_id, since_ns):
        assert (file_id, since_ns) == (ID, SINCE)
        self.asked.append("reopen")
        if self.error:
            raise OSError(self.error, "refused")
        return Opened(b"handle", Attributes(file_id=ID))

    def close(self, handle):
        self.closed.append(handle)
        done = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done


async def test_what_is_closed_while_it_is_being_opened_is_closed_at_the_server():
    session = Session()
    file = RemoteFile(lambda: b"/f", OpenFlag.READ)
    opening = asyncio.create_task(file.on(session))
    await asyncio.sleep(0)
    file.close()
    session.goes_on.set()
    await opening
    assert session.closed == [b"handle"] and not file.opened


@pytest.mark.parametrize(
    ("flags", "kept", "asked"),
    [(BOTH, True, "reopen"), (BOTH, False, "open"), (OpenFlag.READ, True, "open")],
)
async def test_only_what_was_written_before_a_loss_needs_an_unchanged_file(flags, kept, asked):
    session = Session()
    session.goes_on.set()
    file = RemoteFile(lambda: b"/f", flags, file_id=ID)
    file.since_ns = lambda: SINCE if kept else None
    assert await file.on(session) == b"handle"
    assert session.asked == [asked]


@pytest.mark.parametrize(
    ("number", "conflict"),
    [(CHANGED_BY_OTHERS, True), (errno.ENOENT, True), (errno.ESTALE, True), (errno.EACCES, False)],
)
async def test_what_others_did_is_a_conflict_and_what_failed_is_not(number, conflict):
    session = Session(number)
    file = RemoteFile(lambda: b"/f", BOTH, file_id=ID)
    file.since_ns = lambda: SINCE
    with pytest.raises(OSError) as caught:
        await file.on(session)
    assert isinstance(caught.value, ChangedElsewhere) is conflict
    assert caught.value.errno == (errno.EIO if conflict else number)


async def test_a_broken_file_is_used_no_more():
    session = Session()
    file = RemoteFile(lambda: b"/f", BOTH, (session, b"handle"), file_id=ID)
    file.broken = True
    with pytest.raises(ChangedElsewhere):
        await file.on(session)
