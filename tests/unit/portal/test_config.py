"""A configuration that can't work, or would not be safe, is refused with what to do."""

from pathlib import Path

import pytest

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.messages.public import FileServerInfo, RouterInfo
from dit4c_p2p.portal import PortalConfig
from dit4c_p2p.portal.keys import known_hosts
from dit4c_p2p.portal.models import SshKey


def config(**changes):
    fields = {
        "data_folder": Path("data"),
        "url": "https://portal.example.org",
        "addresses": (),
        "user_url": "https://{id}.apps.example.org/",
        "routers": (),
        "catalogue": (),
    }
    return PortalConfig(**{**fields, **changes})


@pytest.mark.parametrize(
    "changes",
    [
        {"url": "https://portal.example.org/"},
        {"url": "https://portal.example.org/dit4c"},
        {"url": "ftp://portal.example.org"},
        {"url": "http://portal.example.org"},
        {"user_url": "https://apps.example.org/"},
        {"user_url": "https://{id}.apps.example.org"},
        {"connect": ("no port",)},
    ],
)
def test_refused(changes):
    with pytest.raises(ConfigError) as caught:
        config(**changes)
    assert caught.value.hint


def test_plain_http_is_for_loopback():
    assert config(url="http://localhost:8080").host == "localhost:8080"
    assert config(url="http://127.0.0.1:8080").host == "127.0.0.1:8080"
    assert config().host == "portal.example.org"
    assert config().instance_url("abc") == "https://abc.apps.example.org/"


def test_known_hosts_spells_addresses_as_openssh_looks_them_up():
    router = RouterInfo(
        name="router-main", ssh=["127.0.0.1:8022", "ssh.example.org:22", "[::1]:8022"], http=[]
    )
    key = SshKey(name="router-main", line="ssh-ed25519 AAAA", revoked_at=None)
    gone = SshKey(name="node-old", line="ssh-ed25519 BBBB", revoked_at=1.0)
    other = SshKey(name="instance-x", line="ssh-ed25519 CCCC", revoked_at=None)
    server = FileServerInfo(
        name="fileserver-main", url="sftp://files.example.org:2222", connect=["10.0.0.1:22"]
    )
    files = SshKey(name="fileserver-main", line="ssh-ed25519 DDDD", revoked_at=None)
    addresses = known_hosts.ssh_addresses([router], [server])
    text = known_hosts.compose_known_hosts(
        [key, gone, other, files], addresses, 1, 2, 3, 4
    ).decode()
    assert text.splitlines() == [
        "# dit4c-known-hosts serial=1 change=2 issued=3 expires=4",
        "router-main,[127.0.0.1]:8022,[localhost]:8022,ssh.example.org,[::1]:8022 ssh-ed25519 AAAA",
        "@revoked * ssh-ed25519 BBBB",
        "fileserver-main,[files.example.org]:2222,10.0.0.1 ssh-ed25519 DDDD",
    ]
