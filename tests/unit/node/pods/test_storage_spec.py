"""The numeric user that an image's USER means."""

import pytest

from dit4c_p2p.node.pods.storage_spec import owner_of

PASSWD = """root:x:0:0:root:/root:/bin/bash
broken line
jovyan:x:1000:100::/home/jovyan:/bin/bash
nobody:x:65534:65534::/:/sbin/nologin
"""
GROUP = "root:x:0:\nusers:x:100:\nstaff:x:50:jovyan\n"


@pytest.mark.parametrize(
    ("user", "expected"),
    [
        ("", (0, 0)),
        ("root", (0, 0)),
        ("jovyan", (1000, 100)),
        ("1000", (1000, 100)),
        ("1234", (1234, 0)),
        ("1234:77", (1234, 77)),
        ("jovyan:staff", (1000, 50)),
        ("jovyan:7", (1000, 7)),
        (":staff", (0, 50)),
        ("unknown", (0, 0)),
    ],
)
def test_users(user, expected):
    assert owner_of(user, PASSWD, GROUP) == expected


def test_an_image_without_passwd():
    assert owner_of("4711", "", "") == (4711, 0)
    assert owner_of("", "", "") == (0, 0)
