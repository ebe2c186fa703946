"""Cookies that a sibling set for the parent domain, through the whole path: there is a way out."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from systems.web_path import WholePath, a_path

CLEAR = "/.dit4c/clear-cookies"


async def app(request: web.BaseRequest) -> web.Response:
    """One that takes less than we do, as Node and aiohttp."""
    size = len(request.headers.get("Cookie", ""))
    return web.Response(status=431 if size > 8190 else 200, text=f"{size}")


@pytest.fixture
async def path(tmp_path) -> AsyncIterator[WholePath]:
    server = web.Server(app, access_log=None, max_line_size=10**6, max_field_size=10**6)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    async with a_path(tmp_path, runner.addresses[0][1]) as path:
        yield path
    await runner.cleanup()


async def ask(
    path: WholePath, method: str, target: str, cookies: int, *lines: str, accept: str = "text/html"
) -> tuple[int, dict[str, str], str]:
    """Status, fields and body of the answer to a request with so many cookies of 4 KiB."""
    many = "; ".join([path.cookie, *(f"c{n}={'x' * 4090}" for n in range(cookies))])
    fields = [f"Host: {path.host}", f"Accept: {accept}", *lines, f"Cookie: {many}"]
    reader, writer = await asyncio.open_connection("127.0.0.1", path.port, limit=2**20)
    writer.write("\r\n".join([f"{method} {target} HTTP/1.1", *fields, "", ""]).encode())
    async with asyncio.timeout(10):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        first, *rest = head.split("\r\n")[:-2]
        answer = dict(line.split(": ", 1) for line in rest)
        body = await reader.readexactly(int(answer.get("Content-Length", "0")))
    writer.close()
    return int(first.split(" ")[1]), answer, body.decode()


@pytest.mark.parametrize("cookies", [3, 15, 17, 40, 180])
async def test_a_page_names_the_cause_and_the_button_clears_them(path, cookies):
    status, answer, body = await ask(path, "GET", "/lab", cookies)
    assert status == 431
    assert answer["Content-Type"].startswith("text/html")
    assert "too many cookies" in body and f'action="{CLEAR}"' in body
    assert "form-action 'self'" in answer["Content-Security-Policy"]

    # As browsers send it: the page has Referrer-Policy: no-referrer.
    fields = (
        "Origin: null",
        "Content-Length: 0",
        "Content-Type: application/x-www-form-urlencoded",
    )
    status, answer, body = await ask(path, "POST", CLEAR, cookies, *fields)
    assert status == 200
    assert answer["Clear-Site-Data"] == '"cookies"'
    assert f'content="0;url={path.origin}/"' in body
    status, _, body = await ask(path, "GET", "/lab", 0)
    assert status == 200


async def test_programs_get_a_problem_and_the_way_out(path):
    status, answer, body = await ask(path, "GET", "/api", 40, accept="application/json")
    assert (status, answer["Content-Type"]) == (431, "application/problem+json")
    assert CLEAR in body
    # An app's own answer to a program is the app's.
    status, _, body = await ask(path, "GET", "/api", 3, accept="application/json")
    assert status == 431 and CLEAR not in body


async def test_on_a_connection_that_is_in_use(path):
    reader, writer = await asyncio.open_connection("127.0.0.1", path.port, limit=2**20)
    start = f"GET /a HTTP/1.1\r\nHost: {path.host}\r\nAccept: text/html\r\nCookie: {path.cookie}"
    writer.write(f"{start}\r\n\r\n".encode())
    async with asyncio.timeout(10):
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(1) == b"0", "our own cookie is not the app's"
        writer.write(f"{start}; big={'x' * 200_000}\r\n\r\n".encode())
        answer = await reader.read()
    assert b" 431 " in answer.split(b"\r\n")[0] and CLEAR.encode() in answer
    writer.close()


async def test_a_head_larger_than_any_browsers_is_refused(path):
    status, _, _ = await ask(path, "POST", CLEAR, 400)
    assert status == 431
