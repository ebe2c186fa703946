"""The app's port: found wherever it listens, connections kept only while they are good."""

import asyncio

import pytest

from dit4c_p2p.helpers.auth import upstream
from dit4c_p2p.helpers.auth.upstream import AppUnreachable, AppUpstream, _own_upstream_addresses


async def quiet(reader, writer):
    await reader.read()
    writer.close()


@pytest.mark.parametrize("where", ["127.0.0.1", "::1", "own"])
async def test_an_app_is_found_on_any_address_of_the_pod(where):
    host = where
    if where == "own":
        own = [address for address in _own_upstream_addresses() if not address.startswith("127.")]
        if not own:
            pytest.skip("this machine has no address but loopback")
        host = own[0]
    try:
        server = await asyncio.start_server(quiet, host, 0)
    except OSError:
        pytest.skip(f"{host} can't be listened on here")
    app = AppUpstream(server.sockets[0].getsockname()[1])
    async with asyncio.timeout(5):
        await app.wait_ready()
        assert await app.answers()
    wire = await app.connect()
    assert wire.transport.get_extra_info("peername")[0] == host
    wire.abort()
    server.close()


async def test_a_closed_port_is_told_at_once():
    server = await asyncio.start_server(quiet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    now = [0.0]
    app = AppUpstream(port, clock=lambda: now[0])
    assert not await app.answers()
    with pytest.raises(AppUnreachable) as caught:
        await app.connect()
    assert not caught.value.was_ready
    server = await asyncio.start_server(quiet, "127.0.0.1", port)
    assert not await app.answers()  # the same look serves for a second
    now[0] += 1
    assert await app.answers()
    server.close()


async def test_kept_connections_are_dropped_when_old_closed_or_too_many(monkeypatch):
    monkeypatch.setattr(upstream, "MAX_IDLE", 2)
    accepted = []

    async def hold(reader, writer):
        accepted.append(writer)
        await quiet(reader, writer)

    server = await asyncio.start_server(hold, "127.0.0.1", 0)
    now = [0.0]
    app = AppUpstream(server.sockets[0].getsockname()[1], clock=lambda: now[0])
    first, second, third = [await app.connect() for _ in range(3)]
    for wire in (first, second, third):
        app.give_back(wire)
    assert third.transport.is_closing()
    assert app.take() is second and app.take() is first and app.take() is None
    app.give_back(first)
    now[0] += upstream.IDLE_LIMIT_S
    assert app.take() is None and first.transport.is_closing()
    app.give_back(second)
    async with asyncio.timeout(5):
        while len(accepted) < 3:
            await asyncio.sleep(0.01)
        for writer in accepted:
            writer.close()
        while not second.transport.is_closing():
            await asyncio.sleep(0.01)
    assert app.take() is None
    server.close()
