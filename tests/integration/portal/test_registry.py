"""The published keys over HTTP, as the real client sees them; enrolment; OpenSSH's file."""

import asyncio
import shutil
import subprocess
from contextlib import AsyncExitStack

import aiohttp
import pytest
from systems.portal import Limits

from dit4c_p2p.database import in_transaction
from dit4c_p2p.identity import key_documents, sshsig, tokens
from dit4c_p2p.identity.key_documents import LIFETIME_S
from dit4c_p2p.identity.keys import fingerprint, generate, parse_public, public_line
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.messages.enrol import ENROL_NAMESPACE, enrol_statement
from dit4c_p2p.messages.registry import SIGNATURE_HEADER
from dit4c_p2p.net.connection_limits import PerAddressLimiter
from dit4c_p2p.portal.keys.events import KeyEvents
from dit4c_p2p.portal.keys.registry import KeyRegistry
from dit4c_p2p.portal.models import KeyChange

NODE = PeerName.parse("node-main")


async def enrol(work, api, name, key, *, signer=None, nonce=None, namespace=ENROL_NAMESPACE):
    """The two calls of an enrolment."""
    if nonce is None:
        nonce = (await api.post("keys/challenge", json={})).json["nonce"]
    statement = enrol_statement(work.url, str(name), nonce)
    return await api.post(
        "keys",
        json={
            "kind": name.kind,
            "id": name.id,
            "public_key": public_line(key),
            "nonce": nonce,
            "signature": sshsig.sign(signer or key, statement, namespace),
            **({"scheduler": "main"} if name.kind == "node" else {}),
        },
    )


@pytest.mark.both_databases
async def test_the_client_sees_a_key_come_and_go(work):
    async with PortalClient(work.portal.info) as client, work.api() as api:
        registry = Registry(client, None, clock=work.clock)
        following = asyncio.create_task(registry.run())
        changed = asyncio.Queue()
        registry.watch(changed.put_nowait)
        try:
            async with asyncio.timeout(10):
                while not registry.live:
                    await changed.get()
                document = await registry.keys(NODE)
                assert document.scheduler == "main"
                assert document.fingerprints() == {fingerprint(work.keys["node-main"])}
                revoked = await api.post(f"keys/{fingerprint(work.keys['node-main'])}/revoke")
                assert revoked.json["in_force"] is False
                event = None
                while event is None or event.name != str(NODE):
                    event = await changed.get()
                assert event.what == "revoked"
                assert (await registry.keys(NODE)).keys == ()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def committed(registry, key):
    """A revocation whose caller ends between the commit and what is to be told of it."""
    async with in_transaction("portal"):
        (change,) = await registry.revoke(fingerprint(key), by="admin")
    return change


async def test_a_change_whose_caller_is_gone_is_told_all_the_same(work):
    """Its answer was lost, or it was cancelled, right after the commit."""
    registry, told = work.portal._services.registry, asyncio.Queue()
    registry.watch(told.put_nowait)
    async with work.browser() as web, asyncio.timeout(10):
        before = key_documents.parse(
            (await web.get("/nodes/main/ssh-keys")).body, NODE, work.clock()
        )
        assert before.keys
        lost = await committed(registry, work.keys["node-main"])
        assert await told.get() == lost
        after = key_documents.parse(
            (await web.get("/nodes/main/ssh-keys")).body, NODE, work.clock()
        )
        assert (after.keys, after.change) == ((), lost.change)
        registry.announce([lost])
        assert told.empty(), "once"


@pytest.mark.both_databases
async def test_changes_are_told_in_their_order_although_one_was_not_announced(work, monkeypatch):
    monkeypatch.setattr("dit4c_p2p.portal.keys.registry._LOOK_EVERY_S", 1e6)
    registry, told = KeyRegistry(generate(), {}, work.portal._services.audit), asyncio.Queue()
    await registry.start()
    registry.watch(told.put_nowait)
    one = await committed(registry, work.keys["node-main"])
    two = await committed(registry, work.keys["scheduler-main"])
    registry.announce([two])
    assert (told.empty(), registry.change) == (True, one.change - 1)
    looking = asyncio.create_task(registry.run())
    try:
        async with asyncio.timeout(10):
            assert [await told.get(), await told.get()] == [one, two]
            # It looks again as soon as one is announced before its turn.
            async with in_transaction("portal"):
                three = await registry.publish(NODE, generate(), by="admin", scheduler="main")
            async with in_transaction("portal"):
                four = await registry.publish(NODE, generate(), by="admin", scheduler="main")
            registry.announce(four)
            assert [await told.get(), await told.get()] == [*three, *four]
            assert registry.change == four[0].change
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)


async def test_documents_are_signed_stable_and_reissued(work):
    portal_key = parse_public(work.portal.info.key)
    async with work.browser() as web:
        one = await web.get("/nodes/main/ssh-keys")
        assert one.headers["Content-Type"].startswith("text/plain")
        again = await web.get("/nodes/main/ssh-keys")
        assert one.body == again.body
        document = key_documents.parse(one.body, NODE, work.clock())
        path = f"/nodes/main/ssh-keys.sig?serial={document.serial}"
        signature = (await web.get(path)).text
        assert sshsig.with_armor(one.headers[SIGNATURE_HEADER]) == signature
        sshsig.verify(one.body, signature, sshsig.KEYS_NAMESPACE, [portal_key])

        work.clock.ahead = LIFETIME_S / 2 + 1
        later = key_documents.parse(
            (await web.get("/nodes/main/ssh-keys")).body, NODE, work.clock()
        )
        assert later.serial > document.serial
        assert later.expires > document.expires
        assert (await web.get(path)).text == signature, "the older body can still be checked"
        assert (await web.get("/nodes/main/ssh-keys.sig?serial=999999")).status == 404
        assert (await web.get("/nodes/main/ssh-keys.sig")).status == 400


async def test_a_revoked_peers_empty_document_is_not_pushed_out_by_made_up_names(work, monkeypatch):
    monkeypatch.setattr("dit4c_p2p.portal.keys.registry._MAX_EMPTY_DOCUMENTS", 4)
    async with work.browser() as web, work.api() as api:
        await api.post(f"keys/{fingerprint(work.keys['node-main'])}/revoke")
        empty = await web.get("/nodes/main/ssh-keys")
        document = key_documents.parse(empty.body, NODE, work.clock())
        assert document.keys == ()
        for number in range(8):
            made_up = await web.get(f"/nodes/stranger-{number}/ssh-keys")
        path = "/nodes/main/ssh-keys"
        assert (await web.get(f"{path}.sig?serial={document.serial}")).status == 200
        assert (await web.get(path)).body == empty.body
        last = key_documents.parse(made_up.body, PeerName.parse("node-stranger-7"), work.clock())
        assert (await web.get(f"/nodes/stranger-7/ssh-keys.sig?serial={last.serial}")).status == 200


async def test_section_4_key_events_are_shared_out_by_address(work, monkeypatch):
    monkeypatch.setattr(KeyEvents, "_place", lambda self, address: self._strangers)
    stranger = PerAddressLimiter(3, 2)
    monkeypatch.setattr(work.portal._services.key_events, "_strangers", stranger)
    async with AsyncExitStack() as stack:

        async def follow():
            session = await stack.enter_async_context(aiohttp.ClientSession())
            return await stack.enter_async_context(session.get(f"{work.url}/keys/events"))

        one, two, three = [await follow() for _ in range(3)]
        assert [one.status, two.status, three.status] == [200, 200, 429]
        assert stranger.taken == 2
        one.close()
        async with asyncio.timeout(15):
            while stranger.taken == 2:  # seen at the next heartbeat
                await asyncio.sleep(0.05)
        assert (await follow()).status == 200


async def test_section_4_where_a_peer_proved_its_key_there_is_room_left(work):
    events, known = work.portal._services.key_events, work.portal._services.known
    assert not known.knows("127.0.0.1")
    assert events._place("127.0.0.1") is events._strangers
    async with work.scheduler():
        assert known.knows("127.0.0.1")
    assert events._place("127.0.0.1") is events._shares
    assert events._place("192.0.2.1") is events._strangers


@pytest.mark.both_databases
async def test_serials_go_on_after_a_restart(work):
    async with work.browser() as web:
        before = key_documents.parse(
            (await web.get("/nodes/main/ssh-keys")).body, NODE, work.clock()
        )
        await work.stop()
        await work.start()
        after = key_documents.parse(
            (await web.get("/nodes/main/ssh-keys")).body, NODE, work.clock()
        )
        assert after.serial > before.serial
        assert after.change == before.change
        assert after.keys == before.keys


async def test_none_can_not_be_forged(work):
    portal_key = parse_public(work.portal.info.key)
    nobody = PeerName.parse("node-nobody")
    async with work.browser() as web:
        empty = await web.get("/nodes/nobody/ssh-keys")
        document = key_documents.parse(empty.body, nobody, work.clock())
        assert document.keys == ()
        signature = (await web.get(f"/nodes/nobody/ssh-keys.sig?serial={document.serial}")).text
        sshsig.verify(empty.body, signature, sshsig.KEYS_NAMESPACE, [portal_key])
        for path in ("/things/main/ssh-keys", "/nodes/UPPER/ssh-keys", "/nodes/-x/ssh-keys"):
            assert (await web.get(path)).status == 404


async def test_jwks_and_holder(work):
    key = work.keys["router-main"]
    async with work.browser() as web, work.api() as api:
        (jwk,) = (await web.get("/routers/main/jwks.json")).json["keys"]
        assert jwk == tokens.public_jwk(key)
        assert "d" not in jwk
        holder = (await web.get(f"/ssh-keys/{fingerprint(key)}")).json
        assert (holder["name"], holder["revoked"]) == ("router-main", False)
        await api.post(f"keys/{fingerprint(key)}/revoke")
        assert (await web.get(f"/ssh-keys/{fingerprint(key)}")).json["revoked"] is True
        assert (await web.get("/ssh-keys/unknown")).status == 404


@pytest.mark.skipif(shutil.which("ssh-keygen") is None, reason="needs OpenSSH")
async def test_known_hosts_is_what_stock_openssh_reads(work, tmp_path):
    async with work.browser() as web, work.api() as api:
        old = await work.enrol("node-old")
        await api.post(f"keys/{fingerprint(old)}/revoke")
        body = await web.get("/known_hosts")
        serial = body.text.split("serial=")[1].split()[0]
        signature = (await web.get(f"/known_hosts.sig?serial={serial}")).text
        portal_key = parse_public(work.portal.info.key)
        sshsig.verify(body.body, signature, sshsig.KEYS_NAMESPACE, [portal_key])
        file = tmp_path / "known_hosts"
        file.write_bytes(body.body)

    def found(host):
        command = ["ssh-keygen", "-F", host, "-f", str(file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        return [line for line in done.stdout.splitlines() if not line.startswith("#")]

    router = public_line(work.keys["router-main"])
    for host in ("router-main", "[localhost]:8022", "[127.0.0.1]:8022"):
        assert any(line.endswith(router) and not line.startswith("@") for line in found(host))
    assert any(public_line(work.keys["node-main"]) in line for line in found("node-main"))
    assert f"@revoked * {public_line(old)}" in body.text
    assert "scheduler-main" not in body.text


async def test_enrolment_needs_possession(work):
    key, other = generate(), generate()
    name = PeerName.parse("node-home")
    async with work.api() as api:
        assert (await enrol(work, api, name, key, signer=other)).status == 400
        assert (await enrol(work, api, name, key, namespace="file")).status == 400
        assert (await enrol(work, api, name, key, nonce="made-up")).status == 400
        done = await enrol(work, api, name, key)
        assert (done.status, done.json["fingerprint"]) == (201, fingerprint(key))
        assert (await enrol(work, api, name, key)).status == 201, "again is fine"
        assert await KeyChange.filter(name="node-home").count() == 1


async def test_a_nonce_is_used_once_and_for_minutes(work):
    async with work.api() as api:
        nonce = (await api.post("keys/challenge", json={})).json["nonce"]
        name = PeerName.parse("node-home")
        at_once = await asyncio.gather(
            *(enrol(work, api, name, generate(), nonce=nonce) for _ in range(4))
        )
        assert sorted(answer.status for answer in at_once) == [201, 400, 400, 400]
        nonce = (await api.post("keys/challenge", json={})).json["nonce"]
        work.clock.ahead = Limits().enrol_nonce_s + 1
        assert (await enrol(work, api, name, generate(), nonce=nonce)).status == 400


@pytest.mark.both_databases
async def test_row_3_one_holder_per_key_for_ever(work):
    key = work.keys["node-main"]
    async with work.api() as api:
        taken = await enrol(work, api, PeerName.parse("router-mine"), key)
        assert (taken.status, taken.json["code"]) == (409, "conflict")
        assert "node-main" in taken.json["detail"]
        await api.post(f"keys/{fingerprint(key)}/revoke")
        assert (await enrol(work, api, NODE, key)).status == 409, "a revoked key stays away"


@pytest.mark.parametrize("kind", ["portal", "instance", "user", "thing"])
async def test_some_kinds_are_not_enrolled_by_hand(work, kind):
    async with work.api() as api:
        nonce = (await api.post("keys/challenge", json={})).json["nonce"]
        body = {
            "kind": kind,
            "id": "x",
            "public_key": public_line(generate()),
            "nonce": nonce,
            "signature": "",
        }
        answer = await api.post("keys", json=body)
        assert (answer.status, answer.json["field"]) == (400, "kind")


async def test_the_portals_own_key_can_not_be_revoked(work):
    own = fingerprint(parse_public(work.portal.info.key))
    async with work.api() as api:
        assert (await api.post(f"keys/{own}/revoke")).status == 400
        assert (await api.post("keys/unknown/revoke")).status == 404


async def test_last_seen(work):
    async with work.api() as api:
        keys = {key["name"]: key["last_seen"] for key in (await api.get("keys")).json}
        assert keys["scheduler-main"] is None
        async with work.scheduler():
            keys = {key["name"]: key["last_seen"] for key in (await api.get("keys")).json}
        assert keys["scheduler-main"] is not None
        assert keys["portal-main"] is not None


async def test_peers_token(work):
    async def whoami(token):
        async with work.api(token) as api:
            return await api.get("whoami")

    assert (await whoami(work.jwt("node-main"))).status == 200
    assert (await whoami(work.jwt("node-main", key=generate()))).status == 401
    assert (await whoami(work.jwt("node-main", audience="http://else"))).status == 401
    late = await whoami(work.jwt("node-main", now=work.clock() - 600))
    assert (late.status, "clock" in late.json["detail"]) == (401, True)
    async with work.api() as api:
        await api.post(f"keys/{fingerprint(work.keys['node-main'])}/revoke")
    assert (await whoami(work.jwt("node-main"))).status == 401
