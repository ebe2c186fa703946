"""Where a peer comes from."""

from typing import Any

import pytest

from dit4c_p2p.overlay.server import _peer_address_of


class Conn:
    """What asyncssh knows of a connection's ends."""

    def __init__(self, **extra: Any) -> None:
        self._extra = extra

    def get_extra_info(self, name: str) -> Any:
        return self._extra.get(name)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1", "fe80::1%eth0"])
def test_directly_and_through_a_router(address):
    assert _peer_address_of(Conn(peername=(address, 2222, 0, 0))) == (address, 2222)
    through = Conn(peername=("", 0), remote_peername=(address, 0))
    assert _peer_address_of(through) == (address, 0)


@pytest.mark.parametrize("said", ["", "example.org", "192.0.2.1\nlogged in", "x" * 10_000])
def test_what_a_router_says_that_is_no_address_is_none(said):
    assert _peer_address_of(Conn(peername=("", 0), remote_peername=(said, 0))) == ("", 0)


def test_a_socket_without_an_address():
    assert _peer_address_of(Conn(peername="")) == ("", 0)
