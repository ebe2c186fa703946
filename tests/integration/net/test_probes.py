"""security.md section 4: smuggling probes, all rejected, over real sockets by every listener.

The auth helper's part is in tests/unit/helpers/auth/test_server_security.py: it listens on a
path socket.
"""

import asyncio
import ssl
from dataclasses import dataclass

import pytest
from lib.http_probes import CHUNKS, HARMLESS, HEADS, SMUGGLED, Said, filled, head, say
from systems.portal import PortalAtWork
from systems.router import a_house

from dit4c_p2p.router import Limits

AT_ONCE = 16
POST = b"POST /oauth/token HTTP/1.1"
FORM = b"Content-Type: application/x-www-form-urlencoded"
CHUNKED = b"Transfer-Encoding: chunked"


@dataclass
class Target:
    """A listener.

    :ivar kind: what it is called in the list of what is harmless.
    :ivar host: what it is right for.
    """

    kind: str
    port: int
    host: bytes
    tls: ssl.SSLContext | None = None

    async def say(self, data: bytes, **more) -> Said:
        """On a connection of its own."""
        name = self.host.partition(b":")[0].decode()
        return await say(filled(data, self.host), self.port, tls=self.tls, name=name, **more)

    async def say_all(self, probes: dict[str, bytes], **more) -> dict[str, Said]:
        """What is said to each of them, some at a time."""
        places = asyncio.Semaphore(AT_ONCE)

        async def one(data: bytes) -> Said:
            async with places:
                return await self.say(data, **more)

        said = await asyncio.gather(*map(one, probes.values()))
        return dict(zip(probes, said, strict=True))


@pytest.fixture
async def portal(tmp_path, authority):
    """A portal's three listeners."""
    work = PortalAtWork(tmp_path / "portal")
    work.url = "https://portal.example.test"
    work.with_config(
        url=work.url,
        secure_addresses=(("127.0.0.1", 0),),
        redirect_addresses=(("127.0.0.1", 0),),
        tls=authority.files("portal", "portal.example.test"),
    )
    async with work:
        server, host = work.portal._server, b"portal.example.test"
        yield {
            "plain": Target("portal", server.ports[0], host),
            "tls": Target("portal", server.secure_ports[0], host, authority.client()),
            "redirect": Target("redirect", server.redirect_ports[0], host),
        }


@pytest.fixture
async def router(tmp_path, authority):
    """A router's, with an instance whose app keeps what reaches it and answers each request."""
    changes = {
        "http": (("127.0.0.1", 0),),
        "https": (("127.0.0.1", 0),),
        "redirect": (("127.0.0.1", 0),),
        "tls": authority.files("router", "*.apps.example.test"),
        "user_url": "https://{id}.apps.example.test/",
    }
    async with a_house(tmp_path / "router", Limits(), **changes) as house:
        reached = []

        async def app(reader, writer):
            reached.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.write_eof()

        await house.tunnel("instance-abc", app)
        host, router = b"abc.apps.example.test", house.router
        yield {
            "plain": Target("router", router.http_port, host),
            "tls": Target("router", router.https_port, host, authority.client()),
            "redirect": Target("redirect", router.redirect_port, host),
            "reached": reached,
        }


def wrong(said: dict[str, Said], statuses: dict[str, int] | None = None) -> dict[str, object]:
    """Those that were not rejected, or not with the right status."""
    return {
        name: (one.statuses, one.ended)
        for name, one in said.items()
        if not one.rejected or (statuses and one.statuses not in ((), (statuses[name],)))
    }


STATUSES = {name: probe.status for name, probe in HEADS.items()}


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("listener", ["plain", "tls", "redirect"])
async def test_section_4_heads_are_rejected_by_the_portal(portal, listener, pieces):
    probes = {name: probe.data + SMUGGLED for name, probe in HEADS.items()}
    said = await portal[listener].say_all(probes, pieces=pieces)
    assert wrong(said, STATUSES) == {}
    good = await portal[listener].say(SMUGGLED)
    assert good.statuses == ((308,) if listener == "redirect" else (404,)), "it is still there"


@pytest.mark.parametrize("pieces", [1, 3])
@pytest.mark.parametrize("listener", ["plain", "tls", "redirect"])
async def test_section_4_heads_are_rejected_by_the_router(router, listener, pieces):
    # An instance's own address answers a head that is too large; the redirect does so itself.
    passed_on = set() if listener == "redirect" else {"large head"}
    assert all(HARMLESS["router", name] for name in passed_on)
    probes = {name: probe.data + SMUGGLED for name, probe in HEADS.items() if name not in passed_on}
    said = await router[listener].say_all(probes, pieces=pieces)
    assert wrong(said, STATUSES) == {}
    assert router["reached"] == []


@pytest.mark.parametrize("listener", ["plain", "tls"])
async def test_section_4_later_heads_are_rejected_by_the_portal(portal, listener):
    """After a good request on the same connection, which is answered."""
    first = head(line=b"GET /config.json HTTP/1.1")
    probes = {name: first + probe.data + SMUGGLED for name, probe in HEADS.items()}
    said = await portal[listener].say_all(probes)
    failed = {
        name: (one.statuses, one.ended)
        for name, one in said.items()
        if not one.ended or one.statuses not in ((200, STATUSES[name]), (200,))
    }
    assert failed == {}


async def test_pipelined_requests_are_answered_in_order(portal):
    first = head(line=b"GET /config.json HTTP/1.1")
    said = await portal["plain"].say(first * 5 + HEADS["http/2.0"].data + SMUGGLED)
    assert said.ended and said.statuses == (*[200] * 5, 505)


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("listener", ["plain", "tls"])
async def test_section_4_chunks_are_rejected_by_the_portal(portal, listener, pieces):
    begin = head(FORM, CHUNKED, line=POST)
    probes = {name: begin + data + SMUGGLED for name, (_, data) in CHUNKS.items()}
    said = await portal[listener].say_all(probes, pieces=pieces)
    assert wrong(said, dict.fromkeys(CHUNKS, 400)) == {}
    # … and a good one is not.
    good = await portal[listener].say(begin + b"3\r\na=b\r\n0\r\n\r\n" + SMUGGLED)
    assert good.statuses[1:] == (404,), "what follows it is a request of its own"


async def test_redirects_read_one_request_only(portal, router):
    assert HARMLESS["redirect", "chunks"]
    begin = head(CHUNKED, line=POST)
    probes = {name: begin + data + SMUGGLED for name, (_, data) in CHUNKS.items()}
    for house in (portal, router):
        said = await house["redirect"].say_all(probes)
        assert {(one.statuses, one.ended) for one in said.values()} == {((308,), True)}


@pytest.mark.parametrize("listener", ["plain", "tls"])
async def test_a_router_passes_bodies_and_later_heads_on_to_the_one_instance(router, listener):
    assert HARMLESS["router", "chunks"] and HARMLESS["router", "later heads"]
    target = router[listener]
    said = await target.say(head(CHUNKED, line=POST) + CHUNKS["extension"][1] + SMUGGLED)
    assert said.ended and said.statuses == (200,)
    assert len(router["reached"]) == 1


H2C = head(
    b"Connection: Upgrade, HTTP2-Settings",
    b"Upgrade: h2c",
    b"HTTP2-Settings: AAA",
    line=b"GET /config.json HTTP/1.1",
)


async def test_other_protocols_that_are_offered_are_not_switched_to(portal, router):
    assert HARMLESS["portal", "Upgrade: h2c"] and HARMLESS["router", "Upgrade: h2c"]
    assert (await portal["plain"].say(H2C + SMUGGLED)).statuses == (200, 404)
    assert (await router["plain"].say(H2C + SMUGGLED)).statuses == (200,)


async def test_nothing_is_lost_after_an_offer_of_another_protocol(portal):
    """aiohttp loses what arrives together with such an offer, and so where the next head begins."""
    target = portal["plain"]
    body = filled(SMUGGLED, target.host)
    post = head(FORM, b"Content-Length: %d" % len(body), line=POST) + body
    last = head(b"Connection: close")
    for pieces in (1, 5):
        said = await target.say((H2C + post) * 3 + last, pieces=pieces)
        assert said.statuses == (200, 400) * 3 + (401,)
