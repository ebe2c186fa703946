"""An engine that says what no good one would, to the client."""

from contextlib import aclosing

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from dit4c_p2p.node.config import Limits
from dit4c_p2p.node.engine.client import _MAX_SAID_BYTES, Engine
from dit4c_p2p.node.engine.registry_auth import RegistryLogins
from dit4c_p2p.node.errors import NotFound, RegistryError
from dit4c_p2p.node.pods.image_pull import fetch

REFERENCE = "registry.example/tools/web@sha256:" + "5" * 64


def line(kind: str, size: int) -> bytes:
    """One of exactly so many bytes."""
    begin, end = f'{{"{kind}":"'.encode(), b'"}\r\n'
    return begin + b"x" * (size - len(begin) - len(end)) + end


@pytest.fixture
async def says():
    """An engine without images; what it says when it is to fetch one goes into the list."""
    said: list[bytes] = []

    async def version(request):
        return web.json_response({"ApiVersion": "1.41"})

    async def image(request):
        return web.json_response({"message": "No such image"}, status=404)

    async def create(request):
        response = web.StreamResponse()
        await response.prepare(request)
        for one in said:
            await response.write(one)
        return response

    app = web.Application()
    app.add_routes(
        [
            web.get("/version", version),
            web.get("/{version}/images/{name:.*}/json", image),
            web.post("/{version}/images/create", create),
        ]
    )
    async with TestServer(app) as server, Engine(f"tcp://127.0.0.1:{server.port}") as engine:
        with pytest.raises(NotFound):
            await engine.image(REFERENCE)
        yield engine, said


async def fetched(engine):
    async with aclosing(fetch(engine, REFERENCE, Limits(), RegistryLogins(None))) as progress:
        return [one async for one in progress]


async def test_an_endless_line_of_a_registry_is_reported_as_its_fault(says, caplog):
    engine, said = says
    said.append(b'{"status":"Pulling from tools/web"}\r\n')
    said.append(line("error", 4 * _MAX_SAID_BYTES))
    with pytest.raises(RegistryError) as failed:
        await fetched(engine)
    assert str(failed.value) == (
        "the registry registry.example does not serve the image: "
        "it answers otherwise than a registry should"
    )
    assert "more than 256 KiB of words in one line" in caplog.text


async def test_a_line_of_the_maximum_length_is_read(says):
    engine, said = says
    said.append(line("status", _MAX_SAID_BYTES))
    assert len(await fetched(engine)) == 1
