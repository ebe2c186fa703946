"""The instance's own URL, as browsers say it."""

import pytest
from yarl import URL

from dit4c_p2p.helpers.auth.headers import Origin


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://abc.example.net/", b"abc.example.net"),
        ("https://abc.example.net:443/", b"abc.example.net"),
        ("https://ABC.example.net:8443/", b"abc.example.net:8443"),
        ("http://abc.localhost/", b"abc.localhost"),
        ("http://abc.localhost:8081/", b"abc.localhost:8081"),
    ],
)
def test_the_port_is_said_where_it_is_not_the_schemes_own(url, host):
    origin = Origin.of(URL(url))
    assert origin.host == host
    assert origin.text == url.partition("://")[0].encode() + b"://" + host
