"""security.md section 4, audit log: append-only, each line carries the hash of the one before:
who, key, from where, what, outcome."""

import asyncio
import base64
import json

import pytest
from systems.portal import Client, running_instance

from dit4c_p2p.audit import AuditLog, verify
from dit4c_p2p.cli import main
from dit4c_p2p.errors import ConfigError
from dit4c_p2p.identity.keys import fingerprint, generate, public_line
from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartInstance
from dit4c_p2p.observe.metrics import metrics_exposition


def lines(work):
    """The log so far, each line as it was written."""
    return [json.loads(line) for line in work.config.audit_path.read_text().splitlines()]


def acts(work, what):
    return [line for line in lines(work) if line["what"] == what]


class FullDisk(AuditLog):
    """What a log does on a full disk."""

    full = True

    def write(self, what, **more):
        if self.full:
            raise OSError(28, "No space left on device")
        super().write(what, **more)


@pytest.fixture
def full(work):
    """The portal's log on a disk that is full, until ``full.full`` is False."""
    audit = work.portal._services.audit
    audit.close()
    audit._file = FullDisk(work.config.audit_path)
    return audit._file


async def test_a_login_a_revocation_and_a_discard_are_in_it(work):
    """The whole of an afternoon, and nothing that could let anybody in."""
    link = await work.login_link()
    async with work.browser() as browser, work.scheduler() as scheduler:
        assert (await browser.log_in(link)).status == 303
        cookie = next(iter(browser.cookies.values()))
        instance, key = await running_instance(work, scheduler)
        authorize = (
            f"/oauth/authorize?response_type=code&client_id=instance-{instance}&state=s"
            f"&code_challenge_method=S256&code_challenge={'a' * 43}"
            f"&redirect_uri=http://{instance}.localhost:8081/.dit4c/callback"
        )
        code = (await browser.get(authorize)).location
        assert "code=" in code
        csrf = await browser.csrf()
        node_key = fingerprint(work.keys["node-main"])
        revoked = await browser.submit(f"/admin/keys/{node_key}/revoke", csrf=csrf)
        assert revoked.status == 303
        await browser.submit(f"/instances/{instance}/discard", csrf=csrf)
        await scheduler.message(DiscardInstance)
        await scheduler.report(instance, State.DISCARDING)
        await browser.submit("/logout", csrf=csrf)

    assert verify(work.config.audit_path).lines == len(lines(work))
    (login,) = acts(work, "login")
    assert (login["who"], login["from"], login["outcome"]) == ("admin", "127.0.0.1", "done")
    assert login["key"].startswith("session:")
    for what, about in {
        "key.revoke": f"node-main {node_key}",
        "instance.discard": f"instance-{instance}",
        "authorize": f"instance-{instance}",
    }.items():
        act = acts(work, what)[0]
        assert (act["who"], act["about"], act["from"]) == ("admin", about, "127.0.0.1"), what
        assert act["key"] == login["key"], what
    published = acts(work, "key.publish")[-1]
    assert published["about"] == f"instance-{instance} {fingerprint(key)}"
    assert published["key"] == fingerprint(work.keys["scheduler-main"])
    gone = acts(work, "key.revoke")[-1]
    assert gone["about"] == f"instance-{instance} {fingerprint(key)}"
    assert gone["who"] == "admin", "with the node's key goes what it has vouched for"
    assert acts(work, "link.open")[0]["who"] == "scheduler-main"
    assert len(acts(work, "logout")) == 1
    (created,) = acts(work, "instance.create")
    assert created["key"].startswith("token:")

    text = work.config.audit_path.read_text()
    secrets = [link.rsplit("/", 1)[1], cookie, csrf, work.token, code.split("code=")[1][:20]]
    for secret in secrets:
        assert secret and secret not in text
    for private in work.keys.values():
        assert base64.b64encode(private.public_data).decode()[20:] not in text
        assert "PRIVATE" not in text


async def test_people_and_tokens_are_in_it(work):
    async with work.api() as api:
        made = (await api.post("people", json={"name": "Grace Hopper"})).json
        id = made["id"]
        await api.request("PATCH", f"people/{id}", json={"disabled": True})
        await api.request("PATCH", f"people/{id}", json={"disabled": False})
        token = (await api.post(f"people/{id}/tokens", json={"label": "cron", "days": 2})).json
        await api.post(f"people/{id}/tokens/{token['id']}/revoke")
        await api.post(f"people/{id}/login-links", json={})
    changed = [line["about"] for line in acts(work, "person.change")]
    assert changed == [f"{id}: disabled", f"{id}: enabled"]
    assert acts(work, "person.create")[0]["about"] == id
    assert acts(work, "login_link.create")[-1]["about"] == id
    scopes = "instances:read instances:write"
    assert acts(work, "token.create")[-1]["about"] == f"{id} token:{token['id']} scopes {scopes}"
    assert acts(work, "token.revoke")[0]["about"] == f"{id} {token['id']}"
    for line in lines(work):
        assert token["token"] not in json.dumps(line)
        assert made["login"]["url"].rsplit("/", 1)[1] not in json.dumps(line)


async def test_who_is_turned_away_is_in_it(work):
    user = await work.person("grace")
    async with work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
    async with work.browser() as browser:
        await browser.submit(f"/login/{'x' * 43}", origin=None)
        await browser.log_in(await work.login_link("grace"))
        stranger = f"/oauth/authorize?client_id=instance-{instance}"
        assert (await browser.get(stranger)).status == 404
    async with work.api("nonsense") as api, work.api(user) as other:
        assert (await api.get("instances")).status == 401
        assert (await other.get("keys")).status == 403
    async with work.api() as api:
        nonce = (await api.post("keys/challenge", json={})).json["nonce"]
        body = {"kind": "node", "id": "home", "public_key": public_line(generate()),
                "nonce": nonce, "signature": "none", "scheduler": "main"}  # fmt: skip
        assert (await api.post("keys", json=body)).status == 400
    async with Client(work.url) as client:
        jwt = work.jwt("router-main", key=generate())
        headers = {"Authorization": f"Bearer {jwt}"}
        state = await client.get(f"/instances/{instance}/page-state", headers=headers)
        assert state.status == 401
    work.keys["scheduler-main"] = generate()
    with pytest.raises(ConnectionError):
        async with work.scheduler():
            pass
    refused = {
        line["what"]: line for line in lines(work) if line["outcome"].startswith("refused: ")
    }
    assert refused.keys() == {
        *("login", "authorize", "api.login", "api.scope", "key.publish", "peer.login", "link.open")
    }
    assert refused["authorize"]["who"] == "grace"
    assert refused["authorize"]["about"] == f"instance-{instance}"
    assert refused["peer.login"]["about"] == "router-main"
    assert refused["key.publish"]["who"] == "admin"
    assert refused["link.open"]["about"] == "scheduler-main"
    assert jwt not in work.config.audit_path.read_text()
    verify(work.config.audit_path)


async def test_a_flood_of_wrong_tokens_does_not_fill_the_disk(work):
    before = len(lines(work))
    async with work.api("nonsense") as api:
        for _ in range(5):
            await asyncio.gather(*(api.get("instances") for _ in range(20)))
        assert len(lines(work)) - before == 3
        work.clock.ahead += 61
        await work.portal._services.audit.finish()
    last = lines(work)[-1]
    assert last["outcome"] == "refused: 97 more, from 127.0.0.1"
    assert (last["what"], last["from"]) == ("api.login", "127.0.0.1")
    assert verify(work.config.audit_path).lines == before + 4


@pytest.mark.both_databases
async def test_on_a_full_disk_nobody_gets_in_and_a_key_can_be_revoked(work, full):
    """security.md section 5, disk full: a clear error, nothing corrupt, goes on when there is
    room."""
    link = await work_link(work, full)
    node_key = fingerprint(work.keys["node-main"])
    async with work.browser() as browser, work.api() as api:
        answer = await browser.log_in(link)
        assert answer.status == 503
        assert "audit log" in answer.text
        assert (await browser.get("/")).status == 401
        started = await api.post("instances", json={"image": "jupyterlab"})
        assert started.status == 503
        assert started.json["code"] == "not_audited"
        assert (await api.get("instances")).json == []
        assert (await api.post("people", json={"name": "Grace"})).status == 503
        assert len((await api.get("people")).json) == 1
        revoked = await api.post(f"keys/{node_key}/revoke")
        assert revoked.json["in_force"] is False

        full.full = False
        assert (await browser.log_in(link)).status == 303
    lost, login = lines(work)[-2:]
    assert (lost["what"], lost["outcome"]) == ("audit.lost", "1 lines are missing here")
    assert login["what"] == "login"
    verify(work.config.audit_path)


async def work_link(work, full):
    full.full = False
    link = await work.login_link()
    full.full = True
    return link


@pytest.mark.both_databases
async def test_an_instances_key_waits_until_there_is_room(work, full):
    """What a scheduler says is not lost because it could not be written down."""
    full.full = False
    with pytest.raises((ConnectionError, TimeoutError)):
        async with work.scheduler() as scheduler:
            async with work.api() as api:
                await api.post("instances", json={"image": "jupyterlab"})
            start = await scheduler.message(StartInstance)
            full.full = True
            await scheduler.allocate(start)
    full.full = False
    async with work.scheduler() as scheduler:
        key = await scheduler.allocate(start)
    assert acts(work, "key.publish")[-1]["about"].endswith(fingerprint(key))


async def test_it_goes_on_after_a_restart_and_commands_beside_it_are_in_it(work, capsys):
    await work.stop()
    await work.start()
    assert [line["what"] for line in lines(work)][-2:] == ["portal.stop", "portal.start"]
    beside = AuditLog(work.config.audit_path)
    beside.write("token.create", who="local:root")
    beside.close()
    await work.login_link()
    assert main(["audit", "verify", str(work.config.audit_path)]) == 0
    assert "unbroken" in capsys.readouterr().out


async def test_it_is_put_aside_while_the_portal_goes_on(work, capsys):
    newest = work.config.audit_path
    before = verify(newest).lines
    assert main(["audit", "rotate", str(newest)]) == 0
    aside = capsys.readouterr().out.strip()
    await work.login_link()
    assert [line["what"] for line in lines(work)] == ["audit.rotate", "login_link.create"]
    assert main(["audit", "verify", aside, str(newest)]) == 0
    assert f"{before + 2} lines, unbroken" in capsys.readouterr().out


async def test_a_portal_does_not_start_without_its_log(work):
    await work.stop()
    work.config.audit_path.unlink()
    work.config.audit_path.mkdir()
    with pytest.raises(ConfigError, match="audit log"):
        await work.start()
    work.config.audit_path.rmdir()
    await work.start()


async def test_the_newest_hash_is_on_a_page_and_among_the_figures(work):
    """So that it can be kept elsewhere; and lines that go missing are said there."""
    audit = work.portal._services.audit
    link = await work.login_link()
    async with work.browser() as browser:
        await browser.log_in(link)
        page = (await browser.get("/admin/audit")).text
        newest = verify(work.config.audit_path).newest
        assert f'data-newest="{newest}"' in page
        assert "<code>login</code>" in page
        assert "are missing from the log" not in page
        await work.portal.measure()
        figures = metrics_exposition([work.portal.metrics]).decode()
        assert f'hash="{newest}"' in figures
        kept = work.config.audit_path.read_bytes().splitlines(keepends=True)
        with work.config.audit_path.open("r+b") as file:
            file.truncate(len(kept[0]))
        await audit.finish()
        assert "are missing from the log" in (await browser.get("/admin/audit")).text
        await work.portal.measure()
        figures = metrics_exposition([work.portal.metrics]).decode()
        assert 'dit4c_audit_shortened{component="portal"} 1.0' in figures
