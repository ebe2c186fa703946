"""An account is deleted with its data: what goes at once, what later, and what stays."""

import json

from systems.portal import beside, hidden_fields
from systems.portal_storage import new_line

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartInstance
from dit4c_p2p.portal.models import GroupMember, Instance, Passkey, Person, SshKey
from dit4c_p2p.portal.services.deletion import finish_account_deletions


def services_of(work):
    return work.portal._services


async def test_everything_of_a_person_goes_and_the_id_stays_taken(site):
    work = site.work
    (site.home / "folder").mkdir()
    (site.home / "folder" / "data.csv").write_text("1,2")
    token = await work.portal.create_api_token("ada", "test")
    async with work.api() as admin, work.api(token) as ada, work.scheduler() as scheduler:
        await admin.post("groups", json={"title": "Soil", "id": "soil"})
        await admin.post("groups/soil/members", json={"person": "ada"})
        await admin.post("people/ada/ssh-keys", json={"line": new_line()})
        made = (await ada.post("instances", json={"image": "jupyterlab"})).json["id"]
        await scheduler.message(StartInstance)
        await scheduler.report(made, State.RUNNING, node="node-main")
        async with work.file_server() as server:
            assert set(await server.folders("instance", made)) >= {"instance", "private"}

            refused = await admin.post("people/ada/delete", json={"confirm": "eve"})
            assert (refused.status, refused.json["field"]) == (400, "confirm")
            gone = await admin.post("people/ada/delete", json={"confirm": "ada"})
            assert gone.json == {"id": "ada", "instances": 1, "ssh_keys": 1}
            assert (await scheduler.message(DiscardInstance)).instance == made
            grants = await server.grants("instance", made)
            assert not grants.folders
            assert grants.delete_after is not None
            assert set(await server.folders("user", "ada")) == {"private"}

        assert (await site.browser.get("/")).status in (401, 403)
        assert (await ada.get("whoami")).status == 401
        for path in ("people/ada", "people/ada/limits"):
            assert (await admin.get(path)).status == 404
        assert [one["id"] for one in (await admin.get("people?q=ada")).json] == []
        again = await admin.post("people", json={"name": "Ada", "id": "ada"})
        assert again.status == 409
        assert (await admin.request("PATCH", "people/ada", json={"disabled": False})).status == 404
        assert not await GroupMember.exists(person_id="ada")
        assert not await SshKey.exists(name="user-ada", revoked_at=None)
        assert not await Passkey.exists(person_id="ada")
        row = await Person.get(id="ada")
        assert (row.name, row.files_removed_at) == ("Deleted account", None)

    await finish_account_deletions(services_of(work))
    assert list(site.home.iterdir()) == []
    assert (await Person.get(id="ada")).files_removed_at is not None
    async with work.file_server() as server:
        assert await server.folders("user", "ada") == {}
    log = [json.loads(line) for line in work.config.audit_path.read_text().splitlines()]
    acts = {line["what"]: line for line in log}
    assert acts["person.delete"]["who"] == "admin"
    assert "1 instances, 1 SSH keys" in acts["person.delete"]["about"]
    assert "person.files_removed" in acts


async def test_files_wait_for_a_file_server_that_is_away(site):
    work = site.work
    (site.home / "data.csv").write_text("1,2")
    await site.server.__aexit__()
    async with work.api() as admin:
        assert (await admin.post("people/ada/delete", json={"confirm": "ada"})).status == 200
    await finish_account_deletions(services_of(work))
    assert (await Person.get(id="ada")).files_removed_at is None
    assert (site.home / "data.csv").exists()
    async with site.make():
        await finish_account_deletions(services_of(work))
    assert not (site.home / "data.csv").exists()


async def test_deleting_by_the_page_is_asked_about(site):
    work = site.work
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        question = await admin.get("/admin/people/eve/delete")
        assert "Delete “<bdi>Eve</bdi>” with all data?" in question.text
        csrf = hidden_fields(question.text)["csrf"]
        wrong = await admin.submit("/admin/people/eve/delete", csrf=csrf, confirm="ada")
        assert wrong.status == 400
        assert "not the person’s id" in beside(wrong.text, "confirm")
        done = await admin.submit("/admin/people/eve/delete", csrf=csrf, confirm="eve")
        assert done.location == "/admin/people"
        assert 'data-person="eve"' not in (await admin.get("/admin/people")).text
        assert (await admin.get("/admin/people/eve")).status == 404
        assert await Instance.all().count() == 0
        theirs = await site.browser.submit("/admin/people/eve/delete", csrf=site.csrf)
        assert theirs.status == 404, "no page for who is no admin"
