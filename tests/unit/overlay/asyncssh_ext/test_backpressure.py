"""What is written waits while a connection is held up, and goes on in turn."""

import asyncio
from typing import Any

import pytest
from lib.waiting import until
from systems.ssh_pair import Collect, Far, Pair, Server, connected, pair

from dit4c_p2p.overlay.asyncssh_ext import backpressure as guards
from dit4c_p2p.overlay.asyncssh_ext import fastpath

KIB = 1024


@pytest.mark.parametrize("near", [True, False])
async def test_writers_are_told_to_stop_and_to_go_on(near: bool) -> None:
    async with pair(near=near, far=True) as ends:
        session: Any = ends.near_channel._session
        ends.near.pause_writing()
        assert not session.writable.is_set()
        fastpath.fast_writer(ends.near_channel)(b"waits")
        assert ends.near_channel.get_write_buffer_size() == 5
        ends.near.resume_writing()
        assert session.writable.is_set()
        await ends.arrived(5)


@pytest.mark.parametrize("near", [True, False])
async def test_writers_wait_for_new_keys(near: bool) -> None:
    async with pair(near=near, far=True) as ends:
        session: Any = ends.near_channel._session
        ends.near._rekey_bytes = ends.near._rekey_bytes_sent
        fastpath.fast_writer(ends.near_channel)(b"due ")
        ends.near._rekey_bytes = 1 << 30
        assert not session.writable.is_set()
        assert ends.near_channel.guard._timer is not None
        fastpath.fast_writer(ends.near_channel)(b"waits")
        assert ends.near_channel.get_write_buffer_size() == 5
        await ends.arrived(9)
        assert session.writable.is_set()


async def test_a_stream_that_opens_meanwhile_waits_as_well() -> None:
    async with connected() as connection:
        conn: Any = connection
        conn.pause_writing()
        channel, session = await connection.create_connection(Collect, "node-a", 22)
        channel.write(b"waits")
        assert channel.get_write_buffer_size() == 5
        assert not session.writable.is_set()
        conn.resume_writing()
        assert session.writable.is_set()
        await until(lambda: bytes(session.received) == b"waits")


async def test_a_window_that_is_given_meanwhile_lets_nothing_out() -> None:
    async with pair(near=True, far=False, window=64 * KIB) as ends:
        fastpath.fast_writer(ends.near_channel)(bytes(70 * KIB))
        ends.near.pause_writing()
        await until(lambda: ends.near_channel._send_window > 0)
        assert ends.near_channel.get_write_buffer_size() == 6 * KIB
        ends.near.resume_writing()
        await ends.arrived(70 * KIB)


async def test_the_end_of_a_stream_waits_for_what_comes_before() -> None:
    async with pair(near=True, far=True) as ends:
        ends.near.pause_writing()
        ends.near_channel.write(b"last words")
        ends.near_channel.close()
        await asyncio.sleep(0.02)
        assert ends.session.received == b""
        ends.near.resume_writing()
        await ends.arrived(10)
        await until(lambda: not ends.far._channels)


async def test_a_stream_that_is_given_up_meanwhile_is_forgotten() -> None:
    async with pair(near=True, far=True) as ends:
        ends.near.pause_writing()
        ends.near_channel.write(b"never mind")
        ends.near_channel.abort()
        await until(lambda: not ends.near._channels)
        assert not ends.near_channel.guard._waiting
        ends.near.resume_writing()
        assert ends.session.received == b""


async def test_streams_go_on_in_turn() -> None:
    """A greedy one does not keep the others waiting for ever."""
    order: list[int] = []

    class Noting(Server):
        def connection_requested(self, host: str, port: int, *origin: Any) -> Any:
            session = Far()
            session.on_data = lambda data: order.append(port)
            return self.conn.create_tcp_channel(), session

    async with connected(Noting, keepalive_interval=0) as connection:
        conn: Any = connection
        opened = [await conn.create_connection(Greedy, "node-a", port) for port in (1, 2, 3)]
        conn.pause_writing()
        for channel, session in opened:
            session.more = lambda channel=channel: channel.write(b"x")
            channel.write(b"x")
        for _ in range(9):
            # The socket is full again after each packet.
            send = conn._send

            def full(data: bytes, send: Any = send) -> None:
                send(data)
                conn._send = send
                conn.pause_writing()

            conn._send = full
            conn.resume_writing()
            conn._send = send
        await until(lambda: len(order) >= 9)
        assert order[:9] == [1, 2, 3] * 3
        conn.abort()


class Greedy(Collect):
    """Writes again whenever it may."""

    more: Any = None

    def resume_writing(self) -> None:
        if self.more is not None:
            self.more()


async def test_a_session_that_raises_when_it_goes_on_ends_its_connection() -> None:
    async with pair(near=True, far=True) as ends:

        def fail() -> None:
            raise ValueError("a bug")

        ends.near.pause_writing()
        ends.near_channel._session.resume_writing = fail
        ends.near.resume_writing()
        async with asyncio.timeout(5):
            await ends.near.wait_closed()


async def held_for(ends: Pair, monkeypatch: pytest.MonkeyPatch, stalled_s: float) -> float:
    """How long the near end lasts when it is held up from now on."""
    monkeypatch.setattr(guards, "_LOOK_S", 0.05)
    ends.near_channel.guard._stalled_s = stalled_s
    loop = asyncio.get_running_loop()
    since = loop.time()
    ends.near.pause_writing()
    async with asyncio.timeout(5):
        await ends.near.wait_closed()
    return loop.time() - since


async def test_a_connection_that_is_paused_for_too_long_is_cut(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with pair(near=True, far=True) as ends:
        assert 0.3 <= await held_for(ends, monkeypatch, 0.3) < 2


async def test_the_time_begins_anew_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    async with pair(near=True, far=True) as ends:
        monkeypatch.setattr(guards, "_LOOK_S", 0.01)
        ends.near_channel.guard._stalled_s = 0.2
        for _ in range(6):
            ends.near.pause_writing()
            await asyncio.sleep(0.08)
            ends.near.resume_writing()
        assert not ends.near.is_closed()
        assert ends.near_channel.guard._timer is None


async def test_kept_packets_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that ends no key exchange, and asks and asks."""
    monkeypatch.setattr(guards, "_MOST_DEFERRED_PACKETS", 10)
    async with pair(near=True, far=True) as ends:
        ends.near._kex_complete = False
        ends.near._deferred_packets = [(1, ())] * 11
        assert await held_for(ends, monkeypatch, 60) < 2


async def test_a_rogue_packet_size_is_named() -> None:
    async with pair(near=True, far=True) as ends:
        with pytest.raises(Exception, match="is below 4096"):
            ends.near_channel.process_open_confirmation(1, 1, guards.LEAST_PACKET_BYTES - 1, None)
