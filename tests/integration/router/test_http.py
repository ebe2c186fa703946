"""The HTTP side: streams into instances, pages, limits, bad input."""

import asyncio
import errno
import os
import re
import socket
import struct
import time
from pathlib import Path
from typing import Any

import aiohttp
import asyncssh
import pytest
from aiohttp import web
from lib.waiting import until
from systems.router import House, a_house, hello

from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity import tokens
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.net.listener import ConnectionSlot
from dit4c_p2p.router import Limits, Router, RouterConfig

MIB = 1024 * 1024
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


async def nothing_is_left(house: House) -> None:
    """No visitor, channel, window or task of any of them."""
    door, board = house.router.door, house.router.board
    await until(lambda: door.visitors == 0 and door.windows.leased_bytes == 0)
    await until(lambda: all(server.channels == 0 for server in board.live))


# ---- streams


async def test_keep_alive_is_spliced(house: House) -> None:
    await house.tunnel("instance-abc", hello)
    reader, writer = await house.visit()
    for path in (b"/one", b"/two", b"/three"):
        writer.write(b"GET %b HTTP/1.1\r\nHost: abc.localhost:8081\r\n\r\n" % path)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(len(path)) == path
    writer.close()
    await nothing_is_left(house)


async def test_fifty_parallel_requests(house: House) -> None:
    await house.tunnel("instance-abc", hello)
    answers = await asyncio.gather(
        *(house.get("abc.localhost", f"/{number}") for number in range(50))
    )
    assert [answer.body for answer in answers] == [b"/%d" % number for number in range(50)]
    await nothing_is_left(house)


async def test_instances_do_not_mix(house: House) -> None:
    async def other(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nother")
        writer.close()

    await house.tunnel("instance-abc", hello)
    await house.tunnel("instance-xyz", other)
    answers = await asyncio.gather(
        *(house.get(f"{name}.localhost", "/mine") for name in ("abc", "xyz") * 10)
    )
    assert [answer.body for answer in answers] == [b"/mine", b"other"] * 10


async def test_the_callers_address_travels_with_the_stream(house: House) -> None:
    origins: list[tuple[str, int]] = []

    def accept(host: str, port: int) -> Any:
        origins.append((host, port))
        return hello

    connection = await house.connect(house.peer("instance-abc"))
    await connection.start_server(accept, "instance-abc", 80, encoding=None)
    _, writer = await house.visit()
    writer.write(b"GET / HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
    await until(lambda: bool(origins))
    assert origins == [writer.get_extra_info("sockname")[:2]]


async def test_websockets_go_through(house: House) -> None:
    async def echo(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse()
        await ws.prepare(request)
        async for message in ws:
            await ws.send_bytes(message.data)
        return ws

    app = web.Application()
    app.router.add_get("/ws", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    house.stack.push_async_callback(runner.cleanup)
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    await house.ssh(house.peer("instance-abc"), "-N", "-R", f"instance-abc:80:127.0.0.1:{port}")
    await house.listened("instance-abc")
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{house.router.http_port}/ws"
        async with session.ws_connect(url, headers={"Host": "abc.localhost"}) as ws:
            for size in (1, 1000, 100_000, 1_000_000):
                await ws.send_bytes(bytes(size))
                assert len(await ws.receive_bytes(timeout=10)) == size
    await nothing_is_left(house)


async def test_a_large_upload_and_download(house: House) -> None:
    body = os.urandom(8 * MIB)

    async def app(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        received = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(received))
        writer.write(received)
        await writer.drain()
        writer.close()

    await house.tunnel("instance-abc", app)
    async with (
        aiohttp.ClientSession() as session,
        session.post(
            f"http://127.0.0.1:{house.router.http_port}/",
            headers={"Host": "abc.localhost"},
            data=body,
        ) as response,
    ):
        assert await response.read() == body
    await nothing_is_left(house)


async def test_a_half_close_is_passed_on(house: House) -> None:
    async def app(reader: Any, writer: Any) -> None:
        everything = await reader.read()
        writer.write(b"got %d" % len(everything))
        writer.write_eof()

    await house.tunnel("instance-abc", app)
    reader, writer = await house.visit()
    request = b"GET / HTTP/1.0\r\nHost: abc.localhost\r\n\r\n"
    writer.write(request)
    writer.write_eof()
    async with asyncio.timeout(5):
        assert await reader.read() == b"got %d" % len(request)


async def test_a_browser_that_goes_away_mid_download_leaves_nothing(house: House) -> None:
    """issue, bad input: a browser that goes away mid-download."""
    gone = asyncio.Event()

    async def app(reader: Any, writer: Any) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        try:
            while True:
                writer.write(bytes(65536))
                await writer.drain()
        except (OSError, asyncssh.Error):
            gone.set()

    await house.tunnel("instance-abc", app)
    for _ in range(3):
        gone.clear()
        reader, writer = await house.visit()
        writer.write(b"GET / HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
        await reader.readexactly(100_000)
        writer.transport.abort()
        async with asyncio.timeout(5):
            await gone.wait()
        await nothing_is_left(house)


async def test_a_slow_reader_is_held_up_and_not_buffered(house: House) -> None:
    sent = 0

    async def app(reader: Any, writer: Any) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        try:
            while True:
                writer.write(bytes(65536))
                sent += 65536
                await writer.drain()
        except (OSError, asyncssh.Error):
            pass

    await house.tunnel("instance-abc", app)
    reader, writer = await house.visit()
    writer.write(b"GET / HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
    await reader.readexactly(1)
    before = -1
    while before != sent:
        before = sent
        await asyncio.sleep(0.3)
    assert sent < 64 * MIB
    await house.tunnel("instance-xyz", hello)
    assert (await house.get("xyz.localhost", "/quick")).body == b"/quick"
    writer.transport.abort()
    await nothing_is_left(house)


async def test_a_cut_app_stream_is_cut_for_the_browser(house: House) -> None:
    connection = await house.tunnel("instance-abc", hello)
    reader, writer = await house.visit()
    writer.write(b"GET /a HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
    await reader.readuntil(b"/a")
    connection.abort()
    async with asyncio.timeout(5):
        with pytest.raises(ConnectionResetError):  # an end of file would look complete
            await reader.read()


async def test_an_upgrade_over_http_1_0_is_told_what_it_lacks(house: House) -> None:
    """A stock nginx in front; it read that a WebSocket has no body."""
    reader, writer = await house.visit()
    writer.write(
        b"GET / HTTP/1.0\r\nHost: abc.localhost\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Accept: application/json\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    async with asyncio.timeout(5):
        answer = (await reader.read()).decode()
    assert "passed on" in answer and "HTTP/1.1, and its request came by HTTP/1.0" in answer


# ---- pages


@pytest.mark.parametrize(
    ("state", "status", "code", "words"),
    [
        ("starting", 503, "starting", "is starting"),
        ("running", 503, "not_connected", "be reached right now"),
        ("stopped", 503, "stopped", "is stopped"),
        ("gone", 410, "gone", "is gone"),
        ("unknown", 404, "no_such_instance", "no such instance"),
        ("something new", 404, "no_such_instance", "no such instance"),
    ],
)
async def test_a_page_for_each_state(
    house: House, state: str, status: int, code: str, words: str
) -> None:
    house.portal.page_states["abc"] = {"state": state, "title": "My Lab"}
    page = await house.get("abc.localhost:8081", Accept=BROWSER)
    assert (page.status, page.headers["Connection"]) == (status, "close")
    assert words in page.body.decode().lower() and "<html" in page.body.decode()
    assert ("Retry-After" in page.headers) == (status == 503)
    problem = await house.get("abc.localhost", Accept="application/json")
    assert (problem.status, problem.json()["code"]) == (status, code)
    assert "My Lab" in page.body.decode() or state in ("unknown", "something new")


async def test_the_portal_is_asked_as_the_router_and_not_too_often(house: House) -> None:
    house.portal.page_states["abc"] = {"state": "starting", "title": ""}
    await asyncio.gather(*(house.get("abc.localhost") for _ in range(20)))
    assert len(house.portal.tokens) == 1
    config = house.router.config
    token = tokens.verify(house.portal.tokens[0], [config.key], house.portal.url, now=time.time())
    assert token.issuer == config.name
    assert token.expires - token.issued <= 300


async def test_a_page_turns_into_the_app_when_it_is_there(house: House) -> None:
    house.portal.page_states["abc"] = {"state": "starting", "title": ""}
    assert (await house.get("abc.localhost")).status == 503
    await house.tunnel("instance-abc", hello)
    assert (await house.get("abc.localhost", "/now")).body == b"/now"


@pytest.mark.parametrize("trouble", ["slow", "down", "error", "nonsense"])
async def test_the_page_says_that_the_portal_does_not_answer(
    strict_house: House, trouble: str
) -> None:
    house = strict_house
    if trouble == "slow":
        house.portal.page_delay_s = 1.0
    elif trouble == "down":
        await house.portal.stop()
    elif trouble == "error":
        house.portal.page_status = 500
    else:
        house.portal.page_states["abc"] = {"title": "no state"}
    since = time.monotonic()
    answer = await house.get("abc.localhost", Accept="application/json")
    assert time.monotonic() - since < 2
    assert (answer.status, answer.json()["code"]) == (503, "portal_silent")
    assert answer.headers["Retry-After"]


async def test_running_sessions_do_not_notice_that_the_portal_is_down(house: House) -> None:
    await house.tunnel("instance-abc", hello)
    await house.portal.stop()
    assert (await house.get("abc.localhost", "/still")).body == b"/still"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost:8081", 421),
        ("example.org", 421),
        ("abc.example.org", 421),
        ("a.b.localhost", 421),
        ("127.0.0.1", 421),
        ("[::1]:8081", 421),
        ("abclocalhost", 421),
        ("-abc.localhost", 400),
        ("a_b.localhost", 404),
        ("x" * 41 + ".localhost", 404),
    ],
)
async def test_row_2_9_other_hosts_lead_nowhere(house: House, host: str, status: int) -> None:
    """security.md 2.9: wrong host gets 421."""
    await house.tunnel("instance-abc", hello)
    assert (await house.get(host)).status == status
    assert not house.portal.tokens


async def test_a_head_request_gets_no_body(house: House) -> None:
    reader, writer = await house.visit()
    writer.write(b"HEAD / HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
    async with asyncio.timeout(5):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 404") and answer.endswith(b"\r\n\r\n")


# ---- bad input


async def answer_to(house: House, request: bytes) -> bytes:
    """All that comes back for these bytes, until the router closes."""
    reader, writer = await house.visit()
    writer.write(request)
    async with asyncio.timeout(8):
        return await reader.read()


async def refuse(reader: Any, writer: Any) -> None:
    """An app that reads a head and refuses it."""
    tail = b""
    while not tail.endswith(b"\r\n\r\n"):
        tail = tail[-3:] + await reader.read(MIB)
    writer.write(b"HTTP/1.1 431 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    writer.write_eof()
    writer.close()


@pytest.mark.parametrize(("host", "status"), [("abc.localhost", 431), ("other.localhost", 404)])
async def test_a_request_head_of_1_mib_is_passed_on_without_being_kept(
    house: House, host: str, status: int
) -> None:
    """The instance answers it: its page says how to get rid of cookies that are too large."""
    await house.tunnel("instance-abc", refuse)
    head = f"GET / HTTP/1.1\r\nHost: {host}\r\nX-Large: {'a' * MIB}\r\n\r\n"
    answer = await answer_to(house, head.encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)
    await nothing_is_left(house)


async def test_row_3_headers_that_trickle_in_are_cut(strict_house: House) -> None:
    """security.md 3: headers that trickle in hold a connection for 10 s at most; here 0.5."""
    house = strict_house
    reader, writer = await house.visit()
    writer.write(b"GET / HTTP/1.1\r\nHost: abc.localhost\r\n")
    since = time.monotonic()

    async def trickle() -> None:
        while True:
            writer.write(b"X-A: b\r\n")
            await asyncio.sleep(0.05)

    trickling = asyncio.create_task(trickle())
    async with asyncio.timeout(8):
        line = await reader.readline()
    trickling.cancel()
    assert line.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - since < 3
    await asyncio.gather(trickling, return_exceptions=True)
    writer.transport.abort()
    await nothing_is_left(house)


async def test_a_connection_opened_ahead_is_closed_without_a_word(strict_house: House) -> None:
    reader, _ = await strict_house.visit()
    async with asyncio.timeout(5):
        assert await reader.read() == b""


async def test_500_slow_senders_do_not_delay_others(house: House) -> None:
    """security.md 5: 500 slow senders of headers."""
    await house.tunnel("instance-abc", hello)
    slow = [await house.visit() for _ in range(500)]
    for _, writer in slow:
        writer.write(b"GET / HTTP/1.1\r\n")
    since = time.monotonic()
    assert (await house.get("abc.localhost", "/quick")).body == b"/quick"
    assert time.monotonic() - since < 1


async def test_one_address_has_only_so_many_connections(strict_house: House) -> None:
    house = strict_house
    await house.tunnel("instance-abc", hello)
    held = [await house.visit() for _ in range(40)]
    await until(lambda: house.router.door.visitors == 40)
    reader, _ = await house.visit()
    async with asyncio.timeout(5):
        assert (await reader.readline()).startswith(b"HTTP/1.1 503 ")
    for _, writer in held:
        writer.transport.abort()
    await until(lambda: house.router.door.visitors <= 1)
    assert (await house.get("abc.localhost", "/again")).body == b"/again"


async def test_row_4_one_address_has_only_a_share_of_an_instances_streams(house: House) -> None:
    """security.md 4: 256 channels a tunnel; a stranger must not keep them all from the owner."""
    most = house.router.config.limits.channels_per_visitor
    assert most * 2 < house.router.config.limits.channels_per_tunnel
    await house.tunnel("instance-abc", hello)
    await house.tunnel("instance-xyz", hello)
    held = []
    for _ in range(most):
        reader, writer = await house.visit()
        writer.write(b"GET /x HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        held.append(writer)
    assert house.router.door.streams == most
    page = await house.get("abc.localhost", Accept="application/json")
    assert (page.status, page.json()["code"]) == (503, "crowded")
    assert str(most) in page.json()["detail"] and page.headers["Retry-After"]
    assert (await house.get("xyz.localhost", "/other")).body == b"/other"
    elsewhere = ConnectionSlot(house.router.door.room, ("192.0.2.1", 1))
    instance = PeerName.parse("instance-abc")
    stream = house.router.door.take_stream(instance, elsewhere)
    assert stream is not None, "from other addresses there is room"
    house.router.door.give_stream_back(stream)
    elsewhere.leave()
    for writer in held:
        writer.transport.abort()
    await until(lambda: house.router.door.streams == 0)
    assert (await house.get("abc.localhost", "/again")).body == b"/again"


async def test_lookups_of_unknown_ids_are_limited_and_cached(house: House) -> None:
    house.portal.page_delay_s = 0.5
    questions = [house.get(f"made-up-{n}.localhost", Accept="application/json") for n in range(12)]
    codes = sorted([answer.json()["code"] for answer in await asyncio.gather(*questions)])
    assert codes == ["no_such_instance"] * 8 + ["portal_silent"] * 4
    house.portal.page_delay_s = 0
    assert len(house.portal.tokens) == 8
    states = house.router.door._states
    assert states._shares.taken == 0
    assert len(states._unknown) == 8 and not states._known
    await asyncio.sleep(house.router.config.limits.page_state_ttl_s)
    known = next(iter(states._unknown))
    assert (await house.get(f"{known}.localhost")).status == 404
    assert len(house.portal.tokens) == 8, "an id that nobody has is not asked for each second"


async def test_opening_a_stream_has_a_time_limit(strict_house: House) -> None:
    house = strict_house
    waiting = asyncio.Event()

    async def never() -> Any:
        await waiting.wait()
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_CONNECT_FAILED, "too late")

    house.portal.page_states["abc"] = {"state": "running", "title": ""}
    connection = await house.connect(house.peer("instance-abc"))
    await connection.create_server(lambda host, port: never(), "instance-abc", 80)
    since = time.monotonic()
    assert (await house.get("abc.localhost")).status == 503
    assert time.monotonic() - since < 3
    waiting.set()
    await nothing_is_left(house)


async def test_a_browser_that_resets_while_its_stream_opens_leaves_nothing(house: House) -> None:
    opening, go_on = asyncio.Event(), asyncio.Event()

    async def later() -> Any:
        opening.set()
        await go_on.wait()
        return asyncssh.SSHTCPSession()

    connection = await house.connect(house.peer("instance-abc"))
    await connection.create_server(lambda host, port: later(), "instance-abc", 80)
    _, writer = await house.visit()
    writer.write(b"GET / HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
    await opening.wait()
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    go_on.set()
    await nothing_is_left(house)


# ---- starting and stopping


def config_like(house: House, folder: Path, **changes: Any) -> RouterConfig:
    config = house.router.config
    values = {name: getattr(config, name) for name in config.__dataclass_fields__}
    return RouterConfig(**{**values, "data_folder": folder, **changes})


@pytest.mark.parametrize("side", ["http", "ssh"])
async def test_a_taken_port_is_reported_in_one_line(
    house: House, tmp_path: Path, side: str
) -> None:
    """issue, bad input: port taken."""
    taken = house.router.http_port
    router = Router(config_like(house, tmp_path, **{side: (("127.0.0.1", taken),)}))
    with pytest.raises(ConfigError) as caught:
        await router.start()
    line = caught.value.one_line()
    assert re.search(rf"port {taken} on 127\.0\.0\.1 is taken.*--router", line)
    assert "\n" not in line


async def test_a_foreign_address_is_reported_in_one_line(house: House, tmp_path: Path) -> None:
    router = Router(config_like(house, tmp_path, http=(("192.0.2.1", 0),)))
    with pytest.raises(ConfigError, match="no address of this machine"):
        await router.start()


async def test_several_addresses_share_a_port(house: House, tmp_path: Path) -> None:
    both = (("127.0.0.1", 0), ("127.0.0.2", 0))
    router = Router(config_like(house, tmp_path, http=both, ssh=both))
    try:
        await router.start()
    except ConfigError as error:  # another program had that port at the second address
        pytest.skip(str(error))
    for port in (router.http_port, router.ssh_port):
        for host in ("127.0.0.1", "127.0.0.2"):
            _, writer = await asyncio.open_connection(host, port)
            writer.close()
    await router.stop()


async def test_stopping_is_quick_and_leaves_nothing(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    async with a_house(tmp_path, Limits()) as house:
        await house.tunnel("instance-abc", hello)
        reader, writer = await house.visit()
        writer.write(b"GET /a HTTP/1.1\r\nHost: abc.localhost\r\n\r\n")
        await reader.readuntil(b"/a")
        since = time.monotonic()
        await house.router.stop()
        assert time.monotonic() - since < 5
        with pytest.raises(ConnectionResetError):
            await reader.read()
        await house.router.wait()
        for port in (house.router.http_port, house.router.ssh_port):
            with pytest.raises(OSError) as caught:
                await asyncio.open_connection("127.0.0.1", port)
            assert caught.value.errno == errno.ECONNREFUSED
    await until(lambda: len(asyncio.all_tasks()) <= len(before) + 1)
