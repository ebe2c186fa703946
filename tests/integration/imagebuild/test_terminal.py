"""The terminal, confined as in a pod: a shell that outlives its page, and nobody else's."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

pytestmark = pytest.mark.engine

Serve = Callable[[str], Awaitable[Any]]

# As the server has them.
REPLAY_BYTES = 256 * 1024
WINDOW_BYTES = 1024 * 1024


class Page:
    """What the page in the browser does, without drawing anything."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self.printed = b""
        self.received = 0
        self.begins = 0
        self.ended = False

    async def type(self, text: str) -> None:
        await self._socket.send_bytes(text.encode())

    async def tell(self, **message: object) -> None:
        await self._socket.send_str(json.dumps(message))

    async def read(self, *, confirm: bool = True) -> bool:
        """One message; whether there was one."""
        message = await self._socket.receive()
        if message.type is aiohttp.WSMsgType.BINARY:
            self.received += len(message.data)
            self.printed += message.data
            if confirm:
                await self.tell(shown=len(message.data))
        elif message.type is aiohttp.WSMsgType.TEXT:
            told = json.loads(message.data)
            if "begin" in told:
                self.begins += 1
                self.printed = b""
            self.ended = self.ended or "end" in told
        else:
            return False
        return True

    async def until(self, text: str) -> None:
        async with asyncio.timeout(60):
            while text.encode() not in self.printed:
                assert await self.read(), self.printed


@pytest.fixture
async def terminal(serve: Serve) -> Any:
    return await serve("terminal")


@asynccontextmanager
async def page(terminal: Any, number: int = 1, **headers: str) -> AsyncIterator[Page]:
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            f"{terminal.url}/{number}/socket", headers={**terminal.headers, **headers}
        ) as socket:
            yield Page(socket)


async def test_a_shell_of_the_image_s_user_without_powers(terminal: Any) -> None:
    assert terminal.port == 7681
    async with page(terminal) as shell:
        await shell.tell(size=[30, 100])
        await shell.type("echo $((6*7)) $(id -un) $(stty size) $PWD $(locale charmap) $SHLVL\n")
        await shell.until("42 user 30 100 /home/user UTF-8 1\r\n")
        await shell.type("grep -E 'CapEff|NoNewPrivs' /proc/self/status | xargs\n")
        await shell.until("CapEff: 0000000000000000 NoNewPrivs: 1")
        await shell.type("for p in git curl nano vim less python3 ssh unzip; do type -P $p; done\n")
        await shell.until("/usr/bin/unzip\r\n")
        assert shell.printed.count(b"/usr/bin/") == 8
        await shell.type("printf '%s\\n' żółw-漢字 | rev\n")
        await shell.until("字漢-włóż\r\n")


async def test_its_page_says_what_it_may_load(terminal: Any) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{terminal.url}/", headers=terminal.headers) as response:
            assert response.url.path == "/1"
            shown = await response.text()
            assert "<title>Field data</title>" in shown
            assert '<a id="back" href="https://portal.example.org"' in shown
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
        async with session.get(f"{terminal.url}/static/xterm/xterm.mjs") as module:
            assert (module.status, module.content_type) == (200, "text/javascript")
        for missing in ("/10", "/0", "/static/../server.py", "/static/%2e%2e/server.py"):
            async with session.get(f"{terminal.url}{missing}") as response:
                assert response.status in (403, 404)


async def test_another_site_s_page_gets_no_socket(terminal: Any) -> None:
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        async with page(terminal, Origin="https://evil.example.org"):
            pass
    assert refused.value.status == 403


async def test_the_shell_goes_on_without_its_page(terminal: Any) -> None:
    async with page(terminal) as shell:
        await shell.type("read -rp 'what''? ' x; echo got $x\n")
        await shell.until("what? ")
    async with page(terminal) as again:
        # What was there is shown, and what waits for an answer still does.
        await again.until("what? ")
        assert again.begins == 1
        await again.type("this\n")
        await again.until("got this")


async def test_each_number_is_a_shell_and_another_is_offered(terminal: Any) -> None:
    async with page(terminal, 1) as one, page(terminal, 2) as two:
        await one.type("X=one\n")
        await two.type("X=two\n")
        await two.type('echo "it is $X"\n')
        await two.until("it is two")
        await one.type('echo "it is $X"\n')
        await one.until("it is one")
        async with aiohttp.ClientSession() as session:
            async with session.get(f"{terminal.url}/another") as response:
                assert response.url.path == "/3"
                assert "<h1>Field data – shell 3</h1>" in await response.text()


async def test_two_pages_of_one_shell_share_the_smaller_size(terminal: Any) -> None:
    async with page(terminal) as large:
        await large.tell(size=[50, 200])
        async with page(terminal) as small:
            await small.tell(size=[20, 250])
            await small.type("echo size $(stty size)\n")
            await large.until("size 20 200")
        async with asyncio.timeout(20):
            while b"size 50 200" not in large.printed:
                await large.type("echo size $(stty size)\n")
                await large.read()


async def test_a_page_that_lags_behind_holds_up_nothing(terminal: Any) -> None:
    async with page(terminal) as slow, page(terminal) as quick:
        await quick.type("yes 0123456789abcdef | head -c 20000000; echo all''done\n")
        await quick.until("alldone")
        async with asyncio.timeout(20):
            # It has shown nothing, so it gets a window's worth and no more.
            while slow.received <= WINDOW_BYTES:
                assert await slow.read(confirm=False)
        assert slow.received < WINDOW_BYTES + REPLAY_BYTES
        assert slow.begins == 1
        await slow.tell(shown=slow.received)
        # Then it is shown the end.
        await slow.until("alldone")
        assert slow.begins == 2
        assert len(slow.printed) <= REPLAY_BYTES


async def test_a_shell_that_ends_says_so_and_the_next_is_new(terminal: Any) -> None:
    async with page(terminal) as shell:
        # What it leaves behind has the terminal open, and does not keep the page waiting.
        await shell.type("X=old; sleep 1000 & exit\n")
        async with asyncio.timeout(20):
            while await shell.read():
                pass
        assert shell.ended
    async with page(terminal) as shell:
        await shell.type('echo "X is <$X>"\n')
        await shell.until("X is <>")
    processes = await terminal.output("ps", "-eo", "stat,args")
    assert "Z" not in {line.split()[0][0] for line in processes.splitlines()[1:]}


@pytest.mark.parametrize("nonsense", ["[1]", "{", '{"size": ["a", 2]}', '{"shown": -1.5}', "7"])
async def test_nonsense_ends_the_connection_and_not_the_shell(terminal: Any, nonsense: str) -> None:
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(
            f"{terminal.url}/1/socket", headers=terminal.headers
        ) as socket:
            await socket.send_str(nonsense)
            async with asyncio.timeout(20):
                while not socket.closed:
                    await socket.receive()
        assert socket.close_code == 1008
    async with page(terminal) as shell:
        await shell.tell(size=[-5, 10**12])
        await shell.type("echo size $(stty size)\n")
        await shell.until("size 1 1000")


async def test_it_ends_when_told(terminal: Any) -> None:
    async with page(terminal) as shell:
        await shell.type("trap '' HUP TERM; echo ready''now; sleep 1000\n")
        await shell.until("readynow")
        async with asyncio.timeout(8):
            await terminal.container.stop(t=30)
    assert (await terminal.container.show())["State"]["ExitCode"] == 0
