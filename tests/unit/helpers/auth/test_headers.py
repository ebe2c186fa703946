"""What the app gets of a request, where connections repeat themselves."""

import pytest

from dit4c_p2p.helpers.auth.headers import Origin, ToApp
from dit4c_p2p.net.http1 import parse_head
from dit4c_p2p.net.proxy_protocol import ProxiedClient

ORIGIN = Origin(b"http", b"abc.localhost:8081")
CLIENT = ProxiedClient("203.0.113.7", 40123)
FIELDS = b"Host: abc.localhost:8081\r\nAccept: */*\r\nX-Forwarded-For: 10.0.0.1\r\n"


def to_app(*requests):
    """What each of them becomes, one after the other on one connection."""
    one, before = ToApp(ORIGIN, CLIENT), None
    made = []
    for line, fields, person in requests:
        before = parse_head(line + b"\r\n" + fields + b"\r\n", before)
        made.append(one.head(before, person))
    return made


@pytest.mark.parametrize(
    "second",
    [
        (b"GET /2?q HTTP/1.1", FIELDS, "ada"),
        (b"POST / HTTP/1.1", FIELDS, "ada"),
        (b"GET / HTTP/1.0", FIELDS, "ada"),
        (b"GET / HTTP/1.1", FIELDS, "eve"),
        (b"GET / HTTP/1.1", FIELDS + b"Cookie: a=1\r\n", "ada"),
        (b"GET / HTTP/1.1", FIELDS.replace(b"*/*", b"*/1"), "ada"),
        (b"GET http://abc.localhost:8081/x HTTP/1.1", FIELDS, "ada"),
    ],
)
def test_a_request_becomes_the_same_whatever_came_before_it(second):
    first = (b"GET / HTTP/1.1", FIELDS, "ada")
    assert to_app(first, second)[1:] == to_app(second)
    assert to_app(second, first)[1:] == to_app(first)
    assert to_app(first, second, first) == [to_app(first)[0], to_app(second)[0], to_app(first)[0]]


def test_what_callers_say_of_themselves_is_set_anew_each_time():
    request = (b"GET / HTTP/1.1", FIELDS, "ada")
    for head in to_app(request, request):
        assert b"10.0.0.1" not in head
        assert head.count(b"X-Forwarded-For: 203.0.113.7\r\n") == 1
        assert head.count(b"X-DIT4C-User: ada\r\n") == 1
