"""Where there are passkeys at all."""

import pytest

from dit4c_p2p.portal.login.passkeys import relying_party_id


@pytest.mark.parametrize(
    ("url", "party"),
    [
        ("https://portal.example.org", "portal.example.org"),
        ("https://portal.example.org:8443", "portal.example.org"),
        ("http://localhost:8080", "localhost"),
        ("http://portal.localhost:8080", "portal.localhost"),
        ("http://127.0.0.1:8080", ""),
        ("http://[::1]:8080", ""),
        ("https://192.0.2.7", ""),
        ("https://[2001:db8::1]", ""),
        ("http://portal.example.org", ""),
    ],
)
def test_the_relying_party_is_the_host_where_browsers_have_passkeys(url, party):
    assert relying_party_id(url) == party
