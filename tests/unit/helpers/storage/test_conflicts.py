"""How a conflict copy is named, and made where an attempt was cut off."""

import errno

import pytest

from dit4c_p2p.helpers.storage.attributes import Attributes
from dit4c_p2p.helpers.storage.conflicts import ConflictCopy, Unsent, copy_name
from dit4c_p2p.helpers.storage.remote import Opened
from dit4c_p2p.helpers.storage.sftp_client import ConnectionGone
from dit4c_p2p.sftp.constants import OpenFlag

AT = 1_700_000_000
DATE = b" (conflict 2023-11-14 22.13.20"


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        (b"notes.txt", 1, b"notes.txt" + DATE + b")"),
        (b"notes.txt", 2, b"notes.txt" + DATE + b" 2)"),
        (b"\xff\xfe", 1, b"\xff\xfe" + DATE + b")"),
        (b"x" * 255, 1, b"x" * 224 + DATE + b")"),
        ("\u00e4".encode() * 127, 3, "\u00e4".encode() * 111 + DATE + b" 3)"),
    ],
)
def test_names(name, number, expected):
    found = copy_name(name, AT, number)
    assert found == expected and len(found) <= 255


class Server:
    """Files by their paths; it is lost in the middle of each of so many attempts."""

    extensions: dict[bytes, bytes] = {}
    max_write_bytes = 4
    alive = True

    def __init__(self, losses: int, taken: int) -> None:
        self.files: dict[bytes, bytearray] = {}
        self.losses, self.taken = losses, taken
        self.client = self

    async def open(self, path, flags, mode=None):
        if flags & OpenFlag.EXCL and (path in self.files or len(self.files) < self.taken):
            self.files.setdefault(path, bytearray(b"somebody else's"))
            raise OSError(errno.EEXIST, "it is there")
        if flags & OpenFlag.TRUNC or path not in self.files:
            self.files[path] = bytearray()
        return Opened(path, Attributes())

    async def write(self, handle, offset, data):
        if offset and self.losses:
            self.losses -= 1
            self.alive = False
            raise ConnectionGone("lost")
        self.alive = True
        self.files[handle][offset : offset + len(data)] = data

    async def setattr(self, path, handle, changes, now):
        del self.files[handle][changes.size :]

    async def fsync(self, handle):
        return

    async def close(self, handle):
        return


@pytest.mark.parametrize(("losses", "taken"), [(0, 0), (2, 0), (1, 2)])
async def test_one_copy_is_made_whatever_the_attempts(losses, taken):
    server = Server(losses, taken)
    copy = ConflictCopy(
        b"/private/", b"f", None, Unsent(9, 0o100644, [(0, b"12345678"), (8, b"90")])
    )
    while True:
        try:
            await copy.make(server)
            break
        except ConnectionGone:
            server.alive = True
    assert len(server.files) == taken + 1
    assert server.files.pop(b"/private/" + copy.name) == b"123456789"
    assert all(data == b"somebody else's" for data in server.files.values())
