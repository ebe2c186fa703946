"""What those who run a router see of it."""

import pytest
from lib.waiting import until
from systems.router import House, hello

from dit4c_p2p.identity.keys import generate
from dit4c_p2p.overlay.errors import OverlayError
from dit4c_p2p.overlay.ssh_options import Identity


async def value(house: House, name: str, **labels: str) -> float | None:
    await house.router.measure()
    return house.router.metrics.registry.get_sample_value(name, labels)


async def results(house: House) -> dict[str, str]:
    return {name: await check() for name, check in house.router.checks.items()}


async def test_bytes_are_counted_when_a_stream_has_ended(house: House) -> None:
    await house.tunnel("instance-abc", hello)
    assert await value(house, "dit4c_tunnels") == 1
    reader, writer = await house.visit()
    request = b"GET /one HTTP/1.1\r\nHost: abc.localhost:8081\r\n\r\n"
    writer.write(request)
    head = await reader.readuntil(b"\r\n\r\n")
    body = await reader.readexactly(4)
    writer.write(request)
    head += await reader.readuntil(b"\r\n\r\n")
    body += await reader.readexactly(4)
    assert await value(house, "dit4c_channels") == 1
    assert await value(house, "dit4c_connections") == 1
    assert await value(house, "dit4c_bytes_total", direction="to_visitor") == 0
    writer.close()
    await until(
        lambda: house.router.door.visitors == 0 and house.router.door.windows.leased_bytes == 0
    )
    moved = {
        direction: await value(house, "dit4c_bytes_total", direction=direction)
        for direction in ("from_visitor", "to_visitor")
    }
    assert moved == {"from_visitor": 2 * len(request), "to_visitor": len(head + body)}


async def test_pages_and_refusals_are_counted_by_few_words(house: House) -> None:
    answer = await house.get("nobody.localhost")
    assert answer.status >= 400
    assert await value(house, "dit4c_router_pages_total", status=str(answer.status)) == 1
    name, _ = house.portal.new_peer("instance-abc")
    with pytest.raises((OverlayError, OSError)):
        await house.connect(Identity(name, generate()))
    assert await value(house, "dit4c_ssh_refused_total", reason="key_not_in_force") == 1


async def test_ready_is_when_changes_of_keys_are_heard(house: House) -> None:
    await until(lambda: house.router._registry.live)
    assert await results(house) == {"key events": "", "ssh": ""}
    assert await value(house, "dit4c_key_events_heard") == 1
    house.router._registry._heard = float("-inf")
    assert "not heard" in (await results(house))["key events"]
    assert await value(house, "dit4c_key_events_heard") == 0
    for acceptor in house.router._ssh._servers:
        acceptor.close()
    assert (await results(house))["ssh"]
