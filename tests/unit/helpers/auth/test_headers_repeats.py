"""Connections repeat themselves: what is remembered of one request never lets in another."""

import itertools

import pytest
from systems.auth_helper import ORIGIN

from dit4c_p2p.helpers.auth.headers import FromApp
from dit4c_p2p.net.http1 import BadResponse

A_LINK = (
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Mode: navigate",
    "Sec-Fetch-Dest: document",
    "Accept: text/html",
)


async def test_a_repeated_request_of_a_session_that_has_ended_is_a_strangers(house):
    browser = await house.login()
    for _ in range(2):
        assert (await browser.ask("GET", "/a")).status == 200
    (session,) = house.server.sessions._by_id.values()
    house.server.sessions.end(session, "logged out elsewhere")
    assert (await browser.ask("GET", "/a")).status == 401
    assert len(house.app.requests) == 2


async def test_a_repeated_request_does_not_outlive_its_session(house):
    browser = await house.login()
    for _ in range(2):
        assert (await browser.ask("GET", "/a")).status == 200
    (session,) = house.server.sessions._by_id.values()
    session.expires = session.used
    assert (await browser.ask("GET", "/a")).status == 401
    assert session.ended
    assert len(house.app.requests) == 2


async def test_another_method_with_the_same_fields_is_checked_by_itself(house):
    """A link from another site may be followed; a form of another site may not be sent."""
    browser = await house.login()
    for _ in range(2):
        assert (await browser.ask("GET", "/a", *A_LINK)).status == 200
    assert (await browser.ask("POST", "/a", *A_LINK)).status == 403
    assert [request.method for request in house.app.requests] == ["GET", "GET"]


async def test_another_path_with_the_same_fields_may_be_our_own(house):
    browser = await house.login()
    for _ in range(2):
        assert (await browser.ask("GET", "/a")).status == 200
    reply = await browser.ask("GET", "/.dit4c/nothing-of-the-app")
    assert reply.status == 404
    assert len(house.app.requests) == 2


async def test_other_fields_are_checked_by_themselves(house):
    browser = await house.login()
    for _ in range(2):
        assert (await browser.ask("POST", "/a", f"Origin: {ORIGIN}")).status == 200
    assert (await browser.ask("POST", "/a", "Origin: http://other.localhost")).status == 403
    assert len(house.app.requests) == 2


ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nServer: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nServer: a\r\n\r\n",
    b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\nServer: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nServer: a\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nServer: a\r\nConnection: x-mine, close\r\nX-Mine: 1\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a=1; Domain=localhost\r\n\r\n",
]


def through(from_app, data, method, *, close):
    """What an answer is read as, and what the browser gets of it."""
    head = from_app.read(data, method)
    return head.status, head.body, head.keep_alive, from_app.head(head, close=close)


@pytest.mark.parametrize("secure", [False, True])
def test_an_answer_becomes_the_same_whatever_came_before_it(secure):
    cases = list(itertools.product(ANSWERS, ("GET", "HEAD"), (False, True)))
    alone = {
        (data, method, close): through(FromApp(secure=secure), data, method, close=close)
        for data, method, close in cases
    }
    for first, second in itertools.product(cases, cases):
        one = FromApp(secure=secure)
        for data, method, close in (first, second, second, first):
            assert through(one, data, method, close=close) == alone[data, method, close]


def test_an_answer_that_is_none_is_refused_each_time():
    one = FromApp(secure=False)
    one.read(ANSWERS[0], "GET")
    for _ in range(2):
        with pytest.raises(BadResponse):
            one.read(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "GET")
