"""The line that leads to one's files, and sizes in words."""

import pytest

from dit4c_p2p.messages.public import FileServerInfo
from dit4c_p2p.portal.storage.files import sftp_command, size_text


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("sftp://files.example.org", "sftp user-ada@files.example.org"),
        ("sftp://files.example.org:22", "sftp user-ada@files.example.org"),
        ("sftp://files.example.org:2222", "sftp -P 2222 user-ada@files.example.org"),
        ("sftp://localhost:8023", "sftp -P 8023 user-ada@localhost"),
    ],
)
def test_the_line_names_the_port_where_it_is_not_the_usual_one(url, line):
    assert sftp_command(FileServerInfo(name="fileserver-a", url=url), "ada") == line


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (150 * 1024 + 10, "150 KiB"),
        (50 * 1024**3, "50 GiB"),
        (2**60, "1024 PiB"),
    ],
)
def test_sizes_have_the_largest_unit_that_fits(size, text):
    assert size_text(size) == text
