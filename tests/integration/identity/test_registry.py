"""The registry's client against a portal that signs as the real one does."""

import asyncio
import json
import time

import pytest
from fakes.registry import RegistryPortal
from systems.small_disk import ONLY_ROOT, SmallDisk

from dit4c_p2p.identity import sshsig
from dit4c_p2p.identity.errors import InvalidDocument, PortalUnreachable
from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.public import PortalInfo

NODE = PeerName.parse("node-home")


@pytest.fixture
async def portal():
    async with RegistryPortal() as portal:
        yield portal


@pytest.fixture
async def client(portal):
    async with PortalClient(portal.info) as client:
        yield client


@pytest.fixture
async def live(client, tmp_path):
    """A registry that hears the portal's events."""
    registry = Registry(client, tmp_path / "copies")
    heard = asyncio.Event()
    unwatch = registry.watch(lambda name: heard.set())
    running = asyncio.create_task(registry.run())
    await asyncio.wait_for(heard.wait(), 5)
    unwatch()
    yield registry
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def next_change(registry):
    changed = asyncio.get_running_loop().create_future()
    unwatch = registry.watch(lambda event: changed.done() or changed.set_result(event))
    try:
        event = await asyncio.wait_for(changed, 10)
        return None if event is None else PeerName.parse(event.name)
    finally:
        unwatch()


@pytest.mark.parametrize("ends", [b"", b"\n\n"])
@pytest.mark.parametrize("size", [20_000, 1_000_000])
async def test_an_event_that_is_too_large_ends_the_stream_and_no_more(portal, client, ends, size):
    """Whoever is in between could say so: it carries no signature yet."""
    portal.first_words = b"data: " + b"x" * size + ends
    registry = Registry(client, None)
    running = asyncio.create_task(registry.run())
    async with asyncio.timeout(10):
        while registry.trouble != "an event is too large":
            assert not running.done(), running.exception()
            await asyncio.sleep(0.01)
        portal.first_words = b""
        while not registry.live:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


@pytest.mark.parametrize("signs_in_header", [True, False])
async def test_keys_are_found_and_none_is_an_answer_too(portal, client, signs_in_header):
    portal.signs_in_header = signs_in_header
    _, key = portal.new_peer("node-home", scheduler="main")
    registry = Registry(client, None)
    document = await registry.keys(NODE)
    assert document.fingerprints() == {fingerprint(key)}
    assert document.scheduler == "main"
    assert (await registry.keys(PeerName.parse("node-nobody"))).keys == ()


async def test_a_document_is_cached_until_a_change_of_its_name_is_told(portal, live):
    first = portal.new_peer("node-home")[1]
    portal.new_peer("node-other")
    await live.keys(NODE)
    while not live.live:
        await next_change(live)
    asked = portal.lookups[NODE]
    await asyncio.gather(*(live.keys(NODE) for _ in range(20)))
    assert portal.lookups[NODE] <= asked + 1

    waiting = asyncio.create_task(next_change(live))
    await asyncio.sleep(0)
    portal.revoke(NODE, first)
    assert await waiting == NODE
    assert (await live.keys(NODE)).keys == ()


async def test_many_who_ask_at_once_make_one_request(portal, client):
    portal.new_peer("node-home")
    registry = Registry(client, None)
    await asyncio.gather(*(registry.keys(NODE) for _ in range(50)))
    assert portal.lookups[NODE] == 1


async def test_portal_down_signed_copies_serve_until_they_expire(portal, client, tmp_path):
    _, key = portal.new_peer("node-home")
    await Registry(client, tmp_path).keys(NODE)
    await portal.stop()
    now = [0.0]
    later = Registry(client, tmp_path, clock=lambda: time.time() + now[0])
    assert (await later.keys(NODE)).fingerprints() == {fingerprint(key)}
    with pytest.raises(PortalUnreachable):
        await later.keys(PeerName.parse("node-never-seen"))
    now[0] = 3601
    with pytest.raises(PortalUnreachable):
        await later.keys(NODE)


async def test_a_copy_that_was_tampered_with_does_not_serve(portal, client, tmp_path):
    portal.new_peer("node-home")
    await Registry(client, tmp_path).keys(NODE)
    await portal.stop()
    copy = tmp_path / "node-home.keys"
    copy.write_text(copy.read_text() + public_line(generate()) + "\n")
    with pytest.raises(PortalUnreachable):
        await Registry(client, tmp_path).keys(NODE)


async def test_a_copy_does_not_outlive_what_it_says(portal, client, tmp_path):
    portal.new_peer("node-home")
    await Registry(client, tmp_path).keys(NODE)
    portal.revoke(NODE)
    assert (await Registry(client, tmp_path).keys(NODE)).keys == ()
    assert list(tmp_path.iterdir()) == []


class TestOnAFullDisk:
    """security.md section 5, disk full: a clear error, nothing corrupt, on when there is room."""

    pytestmark = ONLY_ROOT

    async def test_keys_are_looked_up_and_no_old_copy_stays(self, portal, client, tmp_path, caplog):
        _, key = portal.new_peer("node-home")
        with SmallDisk(tmp_path / "small", size="64k") as disk:
            copies = disk.folder / "copies"
            await Registry(client, copies).keys(NODE)
            disk.fill()
            more = generate()
            portal.publish(NODE, more)
            both = {fingerprint(key), fingerprint(more)}
            assert (await Registry(client, copies).keys(NODE)).fingerprints() == both
            assert "node-home.keys can't be written: No space left on device" in caplog.text
            assert list(copies.iterdir()) == [], "it would let in a key that was revoked since"
            disk.make_room()
            await Registry(client, copies).keys(NODE)
            await portal.stop()
            assert (await Registry(client, copies).keys(NODE)).fingerprints() == both


async def test_a_wrong_answer_is_not_silence_and_no_copy_serves(portal, client, tmp_path):
    portal.new_peer("node-home")
    await Registry(client, tmp_path).keys(NODE)
    portal.revoke(NODE)
    portal.key = generate()  # as if somebody else answered in the portal's place
    with pytest.raises(InvalidDocument):
        await Registry(client, tmp_path).keys(NODE)


async def test_a_portal_that_is_not_the_pinned_one_is_not_believed(portal):
    portal.new_peer("node-home")
    wrong = PortalInfo(name="portal-main", url=portal.url, key=public_line(generate()))
    async with PortalClient(wrong) as client:
        with pytest.raises(InvalidDocument) as caught:
            await Registry(client, None).keys(NODE)
    assert "not signed by the portal" in str(caught.value)


async def test_events_silenced_to_hide_a_revocation_count_as_portal_unreachable(portal, live):
    _, key = portal.new_peer("node-home")
    assert fingerprint(key) in (await live.keys(NODE)).fingerprints()
    portal.heartbeats = False
    portal.revoke(NODE, key)
    while live.live:
        assert await next_change(live) is None
    async with asyncio.timeout(5):  # refused everywhere within 5 s of being asked
        while (await live.keys(NODE)).keys:
            await asyncio.sleep(0.1)


async def test_events_that_are_held_back_count_as_silence(portal, live):
    """Whoever delays the stream, without cutting it, can't keep it alive."""
    while not live.live:
        await next_change(live)
    portal.clock_offset_s = -20  # from now on each heartbeat is 20 s old when it comes
    assert await next_change(live) is None
    assert not live.live


async def test_missed_events_empty_the_cache(portal, live):
    _, key = portal.new_peer("node-home")
    assert (await live.keys(NODE)).keys
    await portal.stop()
    portal.revoke(NODE, key)
    await portal.start()
    async with asyncio.timeout(10):
        while (await live.keys(NODE)).keys:
            await next_change(live)


class NextPortal(RegistryPortal):
    """A portal of the next release: its events have more in them, and some are of a new kind."""

    def _signed(self, event):
        said = event if isinstance(event, dict) else json.loads(encode(event))
        body = json.dumps(said | {"zone": {"type": "campus", "id": 3}})
        signature = sshsig.sign(self.key, body.encode(), sshsig.EVENTS_NAMESPACE)
        return {"body": body, "signature": signature, "keys": ["another"]}

    def say(self, event):
        """Send an event as it is."""
        for queue in self._streams:
            queue.put_nowait(self._signed(event))


async def test_a_portal_of_the_next_release_is_heard():
    async with NextPortal() as portal, PortalClient(portal.info) as client:
        registry = Registry(client, None)
        _, key = portal.new_peer("node-home")
        running = asyncio.create_task(registry.run())
        while not registry.live:
            await next_change(registry)
        assert (await registry.keys(NODE)).fingerprints() == {fingerprint(key)}
        streams = set(portal._streams)

        waiting = asyncio.create_task(next_change(registry))
        await asyncio.sleep(0)
        portal.revoke(NODE, key)
        assert await waiting == NODE
        portal.publish(NODE, key)
        while not (await registry.keys(NODE)).keys:
            await next_change(registry)

        # A change of a kind that is not known here: it can't be acted on, but it isn't missed.
        for new in ({"type": "suspended", "name": 7}, {"type": "key", "what": "suspended"}):
            portal._keys[NODE].clear()
            portal._change += 1
            waiting = asyncio.create_task(next_change(registry))
            await asyncio.sleep(0)
            portal.say({"change": portal._change, "name": "node-home", **new})
            assert await waiting is None
            assert (await registry.keys(NODE)).keys == ()
            portal.publish(NODE, key)
            while not (await registry.keys(NODE)).keys:
                await next_change(registry)
        assert registry.live
        assert portal._streams == streams, "on the same stream"
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
