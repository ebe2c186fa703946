"""Whose word counts: PROXY headers, forwarded fields, and strangers' forgeries.

Real proxies, as docs/proxy.md has them: test_proxy_page.py.
"""

import asyncio
import contextlib

import aiohttp
import pytest
from lib.http_probes import HARMLESS
from lib.waiting import until
from systems.nginx import Nginx, free_ports
from systems.router import a_house
from systems.visited_app import Portal, app, browser

from dit4c_p2p.net import proxy_protocol
from dit4c_p2p.net.trusted_proxies import TrustedProxies, parse_proxy_networks
from dit4c_p2p.portal import Limits as PortalLimits
from dit4c_p2p.router import Limits

NGINX = TrustedProxies(parse_proxy_networks(["127.0.0.1"]))
HOST = "abc.apps.example.test"
LIKE_FORWARDED = {
    "X_Forwarded_For": "203.0.113.7",
    "X-Forwarded_For": "203.0.113.7",
    "X_Forwarded_Proto": "http",
    "X_Forwarded_User": "admin",
}


def behind(proxies):
    return {"user_url": "https://{id}.apps.example.test:4443/", "proxies": proxies}


@pytest.fixture
async def house(tmp_path):
    async with a_house(tmp_path / "router", Limits(), **behind(NGINX)) as house:
        yield house


async def test_nginx_leads_its_plain_port_to_https(tmp_path, house, authority):
    (port,) = free_ports(1)
    server = f"""
  server {{ listen 127.0.0.1:{port}; server_name *.apps.example.test;
    location / {{ proxy_pass http://127.0.0.1:{house.router.http_port};
      proxy_set_header Host $http_host; proxy_set_header X-Forwarded-For $remote_addr;
      proxy_set_header X-Forwarded-Proto $scheme; }} }}"""
    with Nginx(tmp_path / "nginx", server):
        async with browser(authority) as session:
            url = f"http://{HOST}:{port}/a?b"
            async with session.get(url, allow_redirects=False) as answer:
                assert answer.status == 308
                assert answer.headers["Location"] == f"https://{HOST}:4443/a?b"


async def test_forwarded_headers_of_a_stranger_are_ignored(tmp_path):
    """security.md 2.9; issue: forwarded headers from a stranger."""
    proxies = TrustedProxies(parse_proxy_networks(["127.0.0.99"]))
    async with a_house(tmp_path, Limits(), **behind(proxies)) as house:
        callers = []
        await app(house, callers)
        answer = await house.get(
            HOST, **{"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "http"}
        )
        assert answer.status == 200, "no redirect either"
        assert [host for host, _ in callers] == ["127.0.0.1"] and callers[0][1] > 0


async def test_a_field_that_is_only_like_a_forwarded_one_is_not_believed(house):
    """Not from a proxy either, which may have let a visitor's own pass."""
    assert HARMLESS["router", "X_Forwarded_For"]
    callers = []
    await app(house, callers)
    answer = await house.get(HOST, **LIKE_FORWARDED)
    assert answer.status == 200, "no redirect either"
    assert [host for host, _ in callers] == ["127.0.0.1"]


async def test_visitors_behind_a_proxy_are_limited_each(tmp_path):
    limits = Limits(visitors_per_address=2)
    async with a_house(tmp_path, limits, **behind(NGINX)) as house:
        tunnel = await house.connect(house.peer("instance-abc"))
        opened = []

        async def hold(reader, writer):
            opened.append(reader)
            await reader.read()

        await tunnel.start_server(lambda host, port: hold, "instance-abc", 80, encoding=None)

        async def visit(address, host=HOST):
            reader, writer = await house.visit()
            field = f"X-Forwarded-For: {address}"
            writer.write(f"GET / HTTP/1.1\r\nHost: {host}\r\n{field}\r\n\r\n".encode())
            return reader

        for address in ("192.0.2.1", "192.0.2.2") * 2:
            await visit(address)
        await until(lambda: len(opened) == 4)
        for address in ("192.0.2.1", "192.0.2.2"):
            assert (await (await visit(address)).read()).startswith(b"HTTP/1.1 503")
        other = await visit("192.0.2.3", "none.apps.example.test")
        assert (await other.read()).startswith(b"HTTP/1.1 404"), "others are let in"


async def test_a_proxys_connection_stays_with_one_instance(house):
    """security.md 1: what is asked of one reaches no other's machine, whatever a proxy mixes up."""
    got = bytearray()

    async def hold(reader, writer):
        while data := await reader.read(65536):
            got.extend(data)

    tunnel = await house.connect(house.peer("instance-abc"))
    await tunnel.start_server(lambda host, port: hold, "instance-abc", 80, encoding=None)
    reader, writer = await house.visit()
    own = f"GET /own HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode()
    writer.write(own)
    await until(lambda: bytes(got) == own)
    writer.write(own)
    await until(lambda: bytes(got) == own * 2)
    writer.write(b"GET /others HTTP/1.1\r\nHost: xyz.apps.example.test\r\nCookie: a=b\r\n\r\n")
    async with asyncio.timeout(10):
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""
    assert bytes(got) == own * 2


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize("version", [1, 2])
async def test_proxy_protocol_of_a_named_address(tmp_path, authority, tls, version):
    changes = behind(TrustedProxies(NGINX.networks, proxy_protocol=True)) | {
        "https": (("127.0.0.1", 0),),
        "tls": authority.files("router", "*.apps.example.test"),
    }
    async with a_house(tmp_path, Limits(), **changes) as house:
        callers = []
        await app(house, callers)
        port = house.router.https_port if tls else house.router.http_port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if version == 1:
            writer.write(b"PROXY TCP4 192.0.2.1 192.0.2.80 4567 443\r\n")
        else:
            writer.write(proxy_protocol.encode_proxy_header("192.0.2.1", 4567))
        if tls:
            await writer.start_tls(authority.client(), server_hostname=HOST)
        forged = b"X-Forwarded-For: 203.0.113.7\r\n"
        writer.write(b"GET / HTTP/1.1\r\nHost: %b\r\n%b\r\n" % (HOST.encode(), forged))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        writer.transport.abort()
        assert callers == [("192.0.2.1", 4567)]


async def test_a_stranger_can_not_speak_the_proxy_protocol(tmp_path):
    proxies = TrustedProxies(parse_proxy_networks(["127.0.0.99"]), proxy_protocol=True)
    async with a_house(tmp_path, Limits(head_s=1), **behind(proxies)) as house:
        callers = []
        await app(house, callers)
        for header in (
            proxy_protocol.encode_proxy_header("192.0.2.1", 4567),
            b"PROXY TCP4 192.0.2.1 192.0.2.80 4567 443\r\n",
        ):
            reader, writer = await house.visit()
            writer.write(header + b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % HOST.encode())
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
        assert (await house.get(HOST)).status == 200, "plainly, it is a visitor like any other"
        assert [host for host, _ in callers] == ["127.0.0.1"]


async def test_a_named_address_that_does_not_speak_it_is_cut(tmp_path):
    proxies = TrustedProxies(NGINX.networks, proxy_protocol=True)
    async with a_house(tmp_path, Limits(handshake_s=0.3), **behind(proxies)) as house:
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"PROXY", b""):
            reader, writer = await house.visit()
            writer.write(data)
            async with asyncio.timeout(3):
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    continue
        await until(lambda: house.router.door.visitors == 0)


# ---- the portal


@pytest.fixture
async def portal(tmp_path):
    work = Portal(tmp_path / "portal")
    work.url = "https://portal.example.test"
    work.with_config(url=work.url, proxies=NGINX)
    async with work:
        yield work


@pytest.fixture
async def passed_on_portal(tmp_path, authority):
    """A portal, plain and by TLS, whose proxy speaks the PROXY protocol."""
    work = Portal(tmp_path / "portal", PortalLimits(handshake_s=0.3))
    work.url = "https://portal.example.test"
    work.with_config(
        url=work.url,
        proxies=TrustedProxies(NGINX.networks, proxy_protocol=True),
        secure_addresses=(("127.0.0.1", 0),),
        tls=authority.files("portal", "portal.example.test"),
    )
    async with work:
        yield work


WHO = b"GET /who HTTP/1.1\r\nHost: portal.example.test\r\nX-Forwarded-For: 203.0.113.7\r\n\r\n"


async def who(reader):
    """The page's text, once its head has come."""
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    while (await reader.readline()).strip():
        pass
    return (await reader.read(100)).decode()


@pytest.mark.parametrize("tls", [False, True])
@pytest.mark.parametrize(
    "header, visitor",
    [
        (b"PROXY TCP4 192.0.2.1 192.0.2.80 4567 443\r\n", "192.0.2.1"),
        (b"PROXY TCP6 2001:db8::1 ::1 4567 443\r\n", "2001:db8::1"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
        (proxy_protocol.encode_proxy_header("192.0.2.1", 4567), "192.0.2.1"),
        (proxy_protocol.encode_proxy_header("", 0), "127.0.0.1"),
    ],
    ids=["v1", "v1 IPv6", "v1 unknown", "v2", "v2 local"],
)
async def test_proxy_protocol_at_the_portal(passed_on_portal, authority, tls, header, visitor):
    server = passed_on_portal.portal._server
    port = server.secure_ports[0] if tls else server.ports[0]
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(header)
    if tls:
        await writer.start_tls(authority.client(), server_hostname="portal.example.test")
    writer.write(WHO)
    assert await who(reader) == visitor
    writer.transport.abort()


async def test_a_stranger_can_not_speak_the_proxy_protocol_to_the_portal(passed_on_portal):
    port, stranger = passed_on_portal.portal._server.ports[0], ("127.0.0.9", 0)
    for header in (
        proxy_protocol.encode_proxy_header("192.0.2.1", 4567),
        b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=stranger)
        writer.write(header + WHO)
        said = await reader.read()
        assert said.startswith(b"HTTP/1.1 400 ") and said.count(b"HTTP/1.1 ") == 1
        writer.close()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=stranger)
    writer.write(WHO)
    assert await who(reader) == "127.0.0.9", "plainly, it is a visitor like any other"
    writer.close()


async def test_a_named_address_that_does_not_speak_it_is_cut_by_the_portal(passed_on_portal):
    server = passed_on_portal.portal._server
    for port in (server.ports[0], server.secure_ports[0]):
        for data in (WHO, b"PROXY", b"PROXY TCP4 192.0.2.1 192.0.2.2 99999 1\r\n", b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            async with asyncio.timeout(10):
                try:
                    assert await reader.read() == b""
                except ConnectionResetError:
                    continue
            writer.close()
    await until(lambda: server.connections == 0)


async def test_a_stranger_at_the_portal(portal):
    connector = aiohttp.TCPConnector(local_addr=("127.0.0.9", 0))
    async with aiohttp.ClientSession(connector=connector) as session:
        headers = {
            "Host": "portal.example.test",
            "X-Forwarded-For": "203.0.113.7",
            "X-Forwarded-Proto": "http",
        }
        async with session.get(f"http://127.0.0.1:{portal.port}/who", headers=headers) as answer:
            assert (answer.status, await answer.text()) == (200, "127.0.0.9")


async def test_a_field_that_is_only_like_a_forwarded_one_is_not_believed_by_the_portal(portal):
    assert HARMLESS["portal", "X_Forwarded_For"]
    async with aiohttp.ClientSession() as session:
        headers = {"Host": "portal.example.test", **LIKE_FORWARDED}
        async with session.get(f"http://127.0.0.1:{portal.port}/who", headers=headers) as answer:
            assert (answer.status, await answer.text()) == (200, "127.0.0.1")


async def test_plain_http_at_the_proxy_is_led_to_https(portal):
    async with aiohttp.ClientSession() as session:
        for host, status in (("portal.example.test", 308), ("evil.test", 421)):
            headers = {"Host": host, "X-Forwarded-Proto": "http", "X-Forwarded-For": "192.0.2.1"}
            async with session.get(
                f"http://127.0.0.1:{portal.port}/who?a", headers=headers, allow_redirects=False
            ) as answer:
                assert answer.status == status
                location = answer.headers.get("Location")
                assert location == ("https://portal.example.test/who?a" if status == 308 else None)


async def test_the_portal_by_tls_and_its_redirects(tmp_path, authority):
    work = Portal(tmp_path / "portal")
    (port, plain) = free_ports(2)
    work.url = f"https://portal.example.test:{port}"
    work.with_config(
        url=work.url,
        addresses=(),
        connect=(),
        secure_addresses=(("127.0.0.1", port),),
        redirect_addresses=(("127.0.0.1", plain),),
        tls=authority.files("portal", "portal.example.test"),
    )
    async with work, browser(authority) as session:
        async with session.get(f"{work.url}/who") as answer:
            assert await answer.text() == "127.0.0.9"
        async with session.get(f"http://portal.example.test:{plain}/who") as answer:
            assert str(answer.url) == f"{work.url}/who" and answer.status == 200
        url = f"http://evil.test:{plain}/who"
        async with session.get(url, allow_redirects=False) as answer:
            assert answer.status == 421
        async with session.ws_connect(f"{work.url}/schedulers/main/link") as socket:
            assert "nonce" in (await socket.receive(timeout=5)).data
        with pytest.raises(aiohttp.ClientConnectorCertificateError):
            await session.get(f"https://other.example.test:{port}/")
