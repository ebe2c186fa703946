"""security.md section 4 on the agent's own SSH server, which listens in the overlay only."""

import asyncio
from contextlib import aclosing

import pytest
from systems.node import a_node
from systems.router import a_house

from dit4c_p2p.messages.node import NODE_SUBSYSTEM, Alive, Describe, FollowEvents, NodeReply
from dit4c_p2p.overlay.errors import OverlayError, Refused
from dit4c_p2p.overlay.rpc import call
from dit4c_p2p.overlay.ssh_options import CLIENT_OPTIONS, SERVER_OPTIONS
from dit4c_p2p.router import Limits


@pytest.fixture
async def house(tmp_path):
    async with a_house(tmp_path, Limits()) as house:
        yield house


@pytest.fixture
async def node(house):
    async with a_node(house) as node:
        yield node


def follow(line):
    """A call that goes on and on."""
    return call(line, NODE_SUBSYSTEM, FollowEvents(), NodeReply, silence_s=14)


async def test_section_4_four_connections_a_key(node):
    lines = [await node.line() for _ in range(4)]
    async with asyncio.timeout(10):
        await (await node.line()).wait_closed()
    assert not any(line.is_closed() for line in lines)
    lines[0].abort()
    await lines[0].wait_closed()
    async with asyncio.timeout(10):
        while (line := await node.line()).is_closed() or not await answers(line):
            await asyncio.sleep(0.05)


async def answers(line):
    """Whether a verb is answered."""
    try:
        async with aclosing(follow(line)) as events:
            return await anext(events) == Alive()
    except OverlayError:
        return False


async def test_section_4_256_channels_a_connection(node):
    line = await node.line()
    calls = [follow(line) for _ in range(256)]
    assert [await anext(each) for each in calls] == [Alive()] * 256
    with pytest.raises(Refused, match="256 channels open already"):
        await anext(follow(line))
    assert not line.is_closed()
    await calls.pop().aclose()
    async with asyncio.timeout(10):
        while not await answers(line):
            await asyncio.sleep(0.05)
    for each in calls:
        await each.aclose()


async def test_section_4_eight_before_login(node):
    beneath = await node.streams()
    streams = [await beneath.open_connection("node-main", 22, encoding=None) for _ in range(9)]
    async with asyncio.timeout(10):
        kept = [await reader.readline() for reader, _ in streams[:8]]
        assert all(line.startswith(b"SSH-2.0-") for line in kept)
        # A version line may have been on its way before it was turned away.
        await streams[8][0].read()
    for _, writer in streams:
        writer.close()


async def test_section_4_other_addresses_are_counted_separately(node, monkeypatch, caplog):
    """The router says where it has seen them: all its streams come over one connection."""
    caplog.set_level("INFO")
    beneath = await node.streams()
    streams = [await beneath.open_connection("node-main", 22, encoding=None) for _ in range(8)]
    async with asyncio.timeout(10):
        for reader, _ in streams:
            assert (await reader.readline()).startswith(b"SSH-2.0-")
        monkeypatch.setitem(CLIENT_OPTIONS, "local_addr", ("127.0.0.2", 0))
        assert await answers(await node.line())
    told = [record.getMessage() for record in caplog.records]
    assert told.count("scheduler-main logged in from 127.0.0.2") == 2, "the router, and the node"
    for _, writer in streams:
        writer.close()


@pytest.mark.parametrize("said", [b"", b"SSH-2.0-slow\r\n"])
async def test_section_4_a_login_has_its_time(house, monkeypatch, said):
    assert SERVER_OPTIONS["login_timeout"] == 20
    monkeypatch.setitem(SERVER_OPTIONS, "login_timeout", 0.5)
    async with a_node(house) as node:
        beneath = await node.streams()
        reader, writer = await beneath.open_connection("node-main", 22, encoding=None)
        writer.write(said)
        async with asyncio.timeout(10):
            assert (await reader.readline()).startswith(b"SSH-2.0-")
            await reader.read()
        monkeypatch.undo()
        line = await node.line()
        (failure,) = [
            reply async for reply in call(line, NODE_SUBSYSTEM, Describe(), NodeReply, silence_s=5)
        ]
        assert failure.code == "engine"
