"""The admins' tables: keys with their owners, instances, machines and audit lines are found."""

import html
import re

import pytest
from systems.portal import hidden_fields, running_instance

from dit4c_p2p.identity.keys import fingerprint
from dit4c_p2p.portal.keys.user_keys import openssh_fingerprint


def found(page, attribute):
    """The values of a data attribute, in the order of the page."""
    return re.findall(rf'{attribute}="([^"]*)"', page)


@pytest.mark.both_databases
async def test_a_key_is_found_and_shown_whole_with_its_owner_and_history(work):
    async with work.browser() as admin, work.scheduler() as scheduler:
        await admin.log_in(await work.login_link())
        instance, key = await running_instance(work, scheduler)
        whole = openssh_fingerprint(fingerprint(key))
        page = (await admin.get("/admin/keys")).text
        assert html.escape(whole) in page
        assert "JupyterLab" in page
        assert 'href="/admin/people/admin"' in page
        holder = f"instance-{instance}"
        for wanted in (instance, "jupyter", whole, whole[:10], "admin"):
            listed = await admin.get("/admin/keys", params={"q": wanted})
            assert found(listed.text, "data-holder") == [holder], wanted
        assert found((await admin.get("/admin/keys?q=none")).text, "data-holder") == []
        by_holder = found((await admin.get("/admin/keys?sort=holder")).text, "data-holder")
        assert by_holder == sorted(by_holder)

        one = f"/admin/keys/{fingerprint(key)}"
        assert html.escape(whole) in (await admin.get(one)).text
        csrf = hidden_fields((await admin.get(f"{one}/revoke")).text)["csrf"]
        await admin.submit(f"{one}/revoke", csrf=csrf)
        assert "The key is revoked everywhere." in (await admin.get("/admin/keys")).text
        revoked = await admin.get("/admin/keys?state=revoked")
        assert found(revoked.text, "data-holder") == [holder]
        history = (await admin.get(one)).text
        assert history.index("Revoked</th>") < history.index("Published</th>")
        assert (await admin.get("/admin/keys/nothing")).status == 404


@pytest.mark.both_databases
async def test_instances_machines_and_lines_are_searched_and_sorted(work):
    async with work.browser() as admin, work.api() as api:
        await admin.log_in(await work.login_link())
        for name in ("Zebra", "Ant"):
            await api.post("instances", json={"image": "jupyterlab", "name": name})
        page = (await admin.get("/admin/instances?sort=name")).text
        assert page.index("Ant</bdi>") < page.index("Zebra</bdi>")
        assert "2 in all" in page
        only = (await admin.get("/admin/instances?q=zebra")).text
        assert "Zebra</bdi>" in only
        assert "Ant</bdi>" not in only
        long = await admin.get(f"/admin/instances?q={'x' * 100}")
        assert (long.status, "There is none" in long.text) == (200, True)
        assert found((await admin.get("/admin/machines")).text, "data-machine") == ["node-main"]
        assert found((await admin.get("/admin/machines?q=x9")).text, "data-machine") == []
        lines = (await admin.get("/admin/audit?q=instance.create&sort=at")).text
        assert lines.count("<code>instance.create</code>") == 2
        assert "<code>login</code>" not in lines
        assert "No line is like that" in (await admin.get("/admin/audit?q=never-done")).text


async def test_ones_own_tokens_are_searched_sorted_and_shown_in_parts(work):
    await work.person("max")
    async with work.browser() as browser, work.api() as api:
        await browser.log_in(await work.login_link("max"))
        for number in range(21):
            token = {"label": f"Token {number:02}", "days": 300 - number}
            assert (await api.post("people/max/tokens", json=token)).status == 201
        by_label = (await browser.get("/account?sort=label")).text
        labels = re.findall(r"<bdi>(Token \d\d)</bdi>", by_label)
        assert labels == [f"Token {number:02}" for number in range(19)], "and one named test"
        assert "1 to 20 of 22 in all" in by_label
        rest = (await browser.get("/account?sort=label&part=2")).text
        assert re.findall(r"<bdi>(Token \d\d)</bdi>", rest) == ["Token 19", "Token 20"]
        first_to_end = (await browser.get("/account?sort=ends&q=token")).text
        assert re.findall(r"<bdi>(Token \d\d)</bdi>", first_to_end)[0] == "Token 20"
        assert "No token is like that" in (await browser.get("/account?q=none")).text
