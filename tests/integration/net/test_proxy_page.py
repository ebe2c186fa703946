"""docs/proxy.md is followed: real proxies with its own text, in front of a portal and a router."""

import asyncio
from dataclasses import dataclass, field

import pytest
from lib.certificates import Authority
from lib.proxy_guide import INSTANCES, PORTAL, PROXIES, believed, running
from lib.waiting import until
from systems.all_in_one import free_ports
from systems.portal import PortalAtWork
from systems.router import House, a_house
from systems.visited_app import Portal, app, browser

from dit4c_p2p.router import Limits

INSTANCE = INSTANCES.replace("*", "abc")
ADDRESSES = ("127.0.0.9", "127.0.0.10")
FORGED = {"X-Forwarded-For": "203.0.113.7", "X-Real-IP": "203.0.113.7", "X-Forwarded-Proto": "http"}


@dataclass
class Front:
    """One of the page's proxies, and what is behind it.

    :ivar trusted: by visitors; who has signed for whatever ends TLS.
    :ivar callers: from where the app was visited, as the router says it.
    :ivar taken: pieces of bodies that came to the app.
    :ivar given: those that it is to answer with.
    """

    name: str
    port: int
    redirect_port: int
    trusted: Authority
    portal: PortalAtWork
    house: House
    callers: list[tuple[str, int]] = field(default_factory=list)
    taken: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)
    given: "asyncio.Queue[bytes]" = field(default_factory=asyncio.Queue)

    def url(self, host: str, path: str, scheme: str = "https") -> str:
        return f"{scheme}://{host}:{self.port}{path}"


@pytest.fixture(params=PROXIES)
async def front(request, tmp_path, authority):
    name, (_, passes_on) = request.param, PROXIES[request.param]
    proxy, redirect = free_ports(2)
    proxies = believed(proxy_protocol=passes_on)
    here = (("127.0.0.1", 0),)
    portal = Portal(tmp_path / "portal")
    portal.url = f"https://{PORTAL}:{proxy}"
    of_portal = {"url": portal.url, "proxies": proxies}
    of_router = {"user_url": f"https://{{id}}.example.net:{proxy}/", "proxies": proxies}
    if passes_on:
        files = authority.files("portal", PORTAL)
        of_portal |= {"addresses": (), "secure_addresses": here, "tls": files, "connect": ()}
        files = authority.files("router", INSTANCES)
        of_router |= {"http": (), "https": here, "tls": files}
    portal.with_config(**of_portal)
    async with portal, a_house(tmp_path / "router", Limits(), **of_router) as house:
        server, router = portal.portal._server, house.router
        behind = (
            (server.secure_ports[0], router.https_port)
            if passes_on
            else (server.ports[0], router.http_port)
        )
        ports = dict(
            zip(("proxy", "redirect", "portal", "router"), (proxy, redirect, *behind), strict=True)
        )
        front = Front(name, proxy, redirect, authority, portal, house)
        await app(house, front.callers, front.taken, front.given)
        with running(name, tmp_path / "proxy", authority, ports):
            yield front


async def test_the_portal_knows_who_visits_and_speaks_at_once(front):
    for address in ADDRESSES:
        async with browser(front.trusted, address) as session:
            async with session.get(front.url(PORTAL, "/who"), headers=FORGED) as answer:
                assert (answer.status, await answer.text()) == (200, address)
                assert "Strict-Transport-Security" in answer.headers
            path = "/schedulers/main/link"
            async with session.ws_connect(front.url(PORTAL, path, "wss")) as socket:
                assert "nonce" in (await socket.receive(timeout=5)).data
            async with session.get(front.url(PORTAL, "/keys/events")) as events:
                async with asyncio.timeout(5):
                    assert (await events.content.readline()).startswith(b"data: ")


async def test_instances_know_who_visits_and_websockets_pass(front):
    for address in ADDRESSES:
        async with browser(front.trusted, address) as session:
            for _ in range(2):
                async with session.get(front.url(INSTANCE, "/"), headers=FORGED) as answer:
                    assert answer.status == 200
            async with session.ws_connect(front.url(INSTANCE, "/echo", "wss")) as socket:
                for number in range(20):
                    await socket.send_str(f"{number}")
                    assert (await socket.receive(timeout=5)).data == f"{number}"
    hosts = [host for host, _ in front.callers]
    assert hosts == [address for address in ADDRESSES for _ in range(3)], "a visit each"
    await until(lambda: front.house.router.door.visitors == 0)


async def test_bodies_are_not_held_back(front):
    """Each piece arrives before the next is sent, both ways; a large body is let through."""
    taken, given = front.taken, front.given

    async def pieces():
        for number in range(5):
            yield b"%d" % number
            async with asyncio.timeout(5):
                assert await taken.get() == b"%d" % number

    async with browser(front.trusted) as session:
        async with session.post(front.url(INSTANCE, "/take"), data=pieces()) as answer:
            assert answer.status == 200
        async with session.get(front.url(INSTANCE, "/give")) as answer:
            for number in range(5):
                given.put_nowait(b"%d" % number)
                async with asyncio.timeout(5):
                    assert await answer.content.readany() == b"%d" % number
            given.put_nowait(b"")
        large = bytes(3 * 1024 * 1024)
        async with session.post(front.url(INSTANCE, "/take"), data=large) as answer:
            assert answer.status == 200
        assert sum(len(taken.get_nowait()) for _ in range(taken.qsize())) == len(large)
    await until(lambda: front.house.router.door.visitors == 0)


async def test_other_hosts_lead_nowhere(front):
    async with browser(front.trusted) as session:
        for host in (PORTAL, INSTANCE):
            headers = {"Host": "www.example.com"}
            async with session.get(front.url(host, "/who"), headers=headers) as answer:
                # Caddy says nothing for hosts that are not in its file.
                said = answer.status, answer.content_length
                assert answer.status == 421 or (front.name == "caddy" and said == (200, 0))
    assert front.callers == []


@pytest.mark.parametrize("front", ["nginx", "caddy"], indirect=True)
async def test_plain_http_is_led_to_https(front):
    async with browser(front.trusted) as session:
        for host in (PORTAL, INSTANCE):
            url = f"http://{host}:{front.redirect_port}/a?b"
            async with session.get(url, allow_redirects=False) as answer:
                assert answer.status == 308
                assert answer.headers["Location"].startswith(f"https://{host}")
                assert answer.headers["Location"].endswith("/a?b")
