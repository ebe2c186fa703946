"""Machines that people lend: what an instance there sees before and after its person agrees."""

import json

import pytest
from systems.portal import hidden_fields
from systems.portal_storage import GrantStream

from dit4c_p2p.admin.keys import KeyAdminClient
from dit4c_p2p.identity.keys import generate, write_private
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.portal.models import Instance, Peer


async def owned_by(work, owner, node="main"):
    async with work.api() as api:
        changed = await api.request("PATCH", f"nodes/{node}", json={"owner": owner})
        assert changed.status == 200, changed.text


async def instance_of(work, person, node="node-main"):
    async with work.api(await work.person(person)) as api:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json
    await Instance.filter(id=made["id"]).update(node=node, state="running")
    return made["id"]


async def test_an_instance_on_somebody_elses_machine_sees_its_own_folder_alone(work):
    own, other = await instance_of(work, "lender"), await instance_of(work, "ada")
    await owned_by(work, "lender")
    everything = {"instance", "private"}
    async with work.file_server() as server:
        assert set(await server.folders("instance", own)) == everything
        assert set(await server.folders("instance", other)) == {"instance"}
        assert "private" in await server.folders("user", "ada"), "she is asked about machines only"
        async with work.api(await work.person("ada")) as api:
            async with GrantStream(server) as stream:
                given = await api.post("people/ada/consents", json={"owner": "lender"})
                assert [one["owner"] for one in given.json] == ["lender"]
                assert f"instance-{other}" in (await stream.event()).peers
                assert set(await server.folders("instance", other)) == everything
                taken = await api.post("people/ada/consents/lender/withdraw")
                assert taken.json == []
                assert f"instance-{other}" in (await stream.event()).peers
                assert set(await server.folders("instance", other)) == {"instance"}
                assert (await api.post("people/ada/consents/lender/withdraw")).status == 404
        await owned_by(work, None)
        assert set(await server.folders("instance", other)) == everything


async def test_only_oneself_agrees_and_only_to_who_lends_a_machine(work):
    ada, eve = await work.person("ada"), await work.person("eve")
    await work.person("lender")
    async with work.api(ada) as api:
        refused = await api.post("people/ada/consents", json={"owner": "lender"})
        assert refused.status == 404, "they lend nothing"
        await owned_by(work, "lender")
        assert (await api.post("people/ada/consents", json={"owner": "lender"})).status == 200
        assert (await api.request("PATCH", "nodes/main", json={"owner": "ada"})).status == 403
    async with work.api(eve) as api, work.api() as admin:
        assert (await api.get("people/ada/consents")).status == 404
        assert (await api.post("people/ada/consents/lender/withdraw")).status == 404
        for caller in (api, admin):
            answer = await caller.post("people/ada/consents", json={"owner": "lender"})
            assert answer.status == 404
        assert len((await admin.get("people/ada/consents")).json) == 1


async def test_a_node_is_owned_by_a_person_that_there_is(work):
    async with work.api() as api:
        unknown = await api.request("PATCH", "nodes/main", json={"owner": "nobody"})
        assert (unknown.status, unknown.json["field"]) == (400, "owner")
        for node in ("none", "NOT", "x" * 50):
            answer = await api.request("PATCH", f"nodes/{node}", json={"owner": "admin"})
            assert answer.status == 404


async def test_a_node_is_enrolled_with_its_owner(work, tmp_path):
    await work.person("lender")
    file = tmp_path / "key"
    write_private(file, generate())
    name = PeerName.parse("node-lent")
    async with KeyAdminClient(work.url, work.token, connect=work.config.connect) as admin:
        await admin.enrol(name, file, "main", "lender")
        assert (await Peer.get(name="node-lent")).owner == "lender"
        await admin.enrol(name, file, "main")
        assert (await Peer.get(name="node-lent")).owner == "lender", "it is not said anew"
    lines = [json.loads(line) for line in work.config.audit_path.read_text().splitlines()]
    (owned,) = [line for line in lines if line["what"] == "node.owner"]
    assert owned["about"] == "node-lent: lender"


@pytest.mark.parametrize("kind", ["router", "scheduler"])
async def test_nothing_but_a_node_has_an_owner(work, kind):
    from dit4c_p2p.admin.keys import EnrolRefused

    key = work.config.data_folder / f"{kind}.key"
    write_private(key, generate())
    async with KeyAdminClient(work.url, work.token, connect=work.config.connect) as admin:
        with pytest.raises(EnrolRefused, match="only a node has an owner"):
            await admin.enrol(PeerName.of(kind, "x"), key, None, "admin")


async def test_the_row_asks_and_the_page_says_what_it_means(work):
    await instance_of(work, "ada")
    await work.person("lender")
    await owned_by(work, "lender")
    async with work.browser() as browser:
        await browser.log_in(await work.login_link("ada"))
        home = (await browser.get("/")).text
        assert 'href="/consents/lender"' in home
        assert "sees only its own folder" in home
        page = (await browser.get("/consents/lender")).text
        assert "can read and change what is opened there" in page
        assert "node-main" in page
        csrf = hidden_fields(page)["csrf"]
        assert (await browser.submit("/consents/lender", csrf=csrf)).location == "/"
        assert 'href="/consents/lender"' not in (await browser.get("/")).text
        assert 'data-consent="lender"' in (await browser.get("/account")).text
        done = await browser.submit("/consents/lender/withdraw", csrf=csrf)
        assert done.location == "/account#consents"
        assert 'data-consent="lender"' not in (await browser.get("/account")).text
        for owner in ("ada", "admin", "nobody"):
            assert (await browser.get(f"/consents/{owner}")).status == 404
            assert (await browser.submit(f"/consents/{owner}", csrf=csrf)).status == 404
            gone = await browser.submit(f"/consents/{owner}/withdraw", csrf=csrf)
            assert gone.status == 404
