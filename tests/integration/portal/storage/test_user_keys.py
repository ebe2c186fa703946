"""People's SSH keys: pending, proved by a first login, removed; by the pages and by the API."""

import asyncio
import html

from systems.portal import Client, beside
from systems.portal_storage import new_line

from dit4c_p2p.identity import key_documents
from dit4c_p2p.identity.key_documents import LIFETIME_S
from dit4c_p2p.identity.keys import fingerprint, parse_public
from dit4c_p2p.identity.names import PeerName
from dit4c_p2p.identity.portal_client import PortalClient
from dit4c_p2p.identity.registry_client import Registry
from dit4c_p2p.portal.keys.user_keys import MAX_ADDED_PER_HOUR, MAX_KEYS, PENDING_S
from dit4c_p2p.portal.schemas import time_text

SK = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAICFo/k5LU8863u66YC9eUO2"
    "170QduohPURkQnbLa/dczAAAABHNzaDo= token"
)


async def add(api, person, line, **more):
    answer = await api.post(f"people/{person}/ssh-keys", json={"line": line, **more})
    assert answer.status == 201, answer.text
    return answer.json["fingerprint"]


async def published(work, person):
    """The fingerprints that every server accepts for a person."""
    async with Client(work.url) as client:
        answer = await client.get(f"/users/{person}/ssh-keys")
    document = key_documents.parse(answer.body, PeerName.parse(f"user-{person}"), work.clock())
    return document.fingerprints()


async def states(api, person):
    answer = await api.get(f"people/{person}/ssh-keys")
    assert answer.status == 200, answer.text
    return {key["fingerprint"]: key["state"] for key in answer.json}


async def test_a_key_is_pending_until_a_login_has_proved_it(work):
    await work.person("ada")
    async with work.api() as api, work.file_server() as server:
        key = await add(api, "ada", new_line())
        assert await states(api, "ada") == {key: "pending"}
        assert await published(work, "ada") == {key}
        async with Client(work.url) as web:
            assert (await web.get(f"/ssh-keys/{key}")).status == 404, "nobody holds it yet"
        assert (await server.prove("ada", key)).status == 204
        assert (await server.prove("ada", key)).status == 204, "again is fine"
        assert await states(api, "ada") == {key: "proved"}
        assert await published(work, "ada") == {key}
        async with Client(work.url) as web:
            assert (await web.get(f"/ssh-keys/{key}")).json["name"] == "user-ada"


async def test_a_pending_key_reserves_nothing_and_whoever_proves_it_first_holds_it(work):
    await work.person("ada")
    await work.person("eve")
    line = new_line()
    async with work.api() as api, work.file_server() as server:
        key = await add(api, "eve", line)
        assert await add(api, "ada", line) == key
        assert await published(work, "ada") == await published(work, "eve") == {key}
        assert (await server.prove("ada", key)).status == 204
        assert await published(work, "ada") == {key}
        assert await published(work, "eve") == set()
        assert await states(api, "eve") == {}
        assert (await server.prove("eve", key)).status == 409
        again = await api.post("people/eve/ssh-keys", json={"line": line})
        assert again.status == 409
        assert "belongs to user-ada" in again.json["detail"]


async def test_a_pending_key_ends_after_a_day_and_may_be_added_again(work):
    await work.person("ada")
    line = new_line()
    async with work.api() as api, work.file_server() as server:
        key = await add(api, "ada", line)
        work.clock.ahead = PENDING_S + 1
        assert await states(api, "ada") == {}
        assert (await server.prove("ada", key)).status == 404
        work.clock.ahead = PENDING_S + LIFETIME_S
        assert await published(work, "ada") == set()
        assert await add(api, "ada", line) == key


async def test_a_removed_key_ends_everywhere_and_only_a_proved_one_for_ever(work):
    await work.person("ada")
    async with work.api() as api, work.file_server() as server:
        for proved in (False, True):
            line = new_line()
            key = await add(api, "ada", line)
            if proved:
                assert (await server.prove("ada", key)).status == 204
            left = await api.post(f"people/ada/ssh-keys/{key}/remove")
            assert left.json == []
            assert await published(work, "ada") == set()
            gone = await api.post(f"people/ada/ssh-keys/{key}/remove")
            assert gone.status == 404
            again = await api.post("people/ada/ssh-keys", json={"line": line})
            assert again.status == (409 if proved else 201)
            if not proved:
                await api.post(f"people/ada/ssh-keys/{key}/remove")


async def test_servers_hear_of_each_change_at_once(work):
    await work.person("ada")
    name = PeerName.parse("user-ada")
    async with PortalClient(work.portal.info) as client, work.api() as api:
        registry = Registry(client, None, clock=work.clock)
        following = asyncio.create_task(registry.run())
        changed = asyncio.Queue()
        registry.watch(changed.put_nowait)

        async def until(expected):
            async with asyncio.timeout(10):
                while (await registry.keys(name)).fingerprints() != expected:
                    await changed.get()

        try:
            await until(set())
            key = await add(api, "ada", new_line())
            await until({key})
            await api.post(f"people/ada/ssh-keys/{key}/remove")
            await until(set())
            key = await add(api, "ada", SK)
            await until({key})
            await api.request("PATCH", "people/ada", json={"disabled": True})
            await until(set())
            await api.request("PATCH", "people/ada", json={"disabled": False})
            await until({key})
        finally:
            following.cancel()


async def test_keys_end_with_the_account(work):
    await work.person("ada")
    async with work.api() as api:
        key = await add(api, "ada", new_line())
        end = work.clock() + 600
        changed = await api.request("PATCH", "people/ada", json={"ends": time_text(end)})
        assert changed.status == 200, changed.text
        async with Client(work.url) as web:
            body = (await web.get("/users/ada/ssh-keys")).body
        document = key_documents.parse(body, PeerName.parse("user-ada"), work.clock())
        assert document.fingerprints() == {key}
        assert document.expires <= end
        work.clock.ahead = 601
        assert await published(work, "ada") == set()


async def test_a_bad_line_is_refused_beside_its_field_and_stays_there(work):
    async with work.browser() as browser:
        await browser.log_in(await work.login_link())
        csrf = await browser.csrf()
        page = await browser.submit("/account/ssh-keys", csrf=csrf, line="ssh-ed25519 <AAAA>")
        assert page.status == 400
        assert "Not an SSH public key" in html.unescape(beside(page.text, "line"))
        assert "ssh-ed25519 &lt;AAAA&gt;</textarea>" in page.text
        assert await published(work, "admin") == set()


async def test_the_account_page_adds_shows_and_removes_keys(work):
    await work.person("ada")
    line = new_line("ada@laptop")
    key = fingerprint(parse_public(line))
    async with work.browser() as browser, work.file_server() as server:
        await browser.log_in(await work.login_link("ada"))
        page = (await browser.get("/account")).text
        assert "sftp -P 8023 user-ada@localhost" in page
        assert "user-ada@files.example.org" not in page, "nothing of hers is there"
        csrf = await browser.csrf()
        assert (await browser.submit("/account/ssh-keys", csrf=csrf, line=line)).status == 303
        page = (await browser.get("/account")).text
        assert "ada@laptop" in page
        assert "Pending</span>" in page
        twice = await browser.submit("/account/ssh-keys", csrf=csrf, line=line)
        assert (twice.status, "already" in twice.text) == (409, True)
        assert (await server.prove("ada", key)).status == 204
        page = (await browser.get("/account")).text
        assert "Pending</span>" not in page
        assert "last used" in page
        question = await browser.get(f"/account/ssh-keys/{key}/remove")
        assert "can’t be undone" in question.text
        done = await browser.submit(f"/account/ssh-keys/{key}/remove", csrf=csrf)
        assert done.status == 303
        assert f'data-key="{key}"' not in (await browser.get("/account")).text


async def test_another_persons_key_looks_like_none(work):
    ada, eve = await work.person("ada"), await work.person("eve")
    async with work.api() as admin, work.api(eve) as api, work.browser() as browser:
        key = await add(admin, "ada", new_line())
        assert (await api.get("people/ada/ssh-keys")).status == 404
        assert (await api.post(f"people/ada/ssh-keys/{key}/remove")).status == 404
        assert (await api.post(f"people/eve/ssh-keys/{key}/remove")).status == 404
        refused = await api.post("people/ada/ssh-keys", json={"line": new_line()})
        assert refused.status == 403
        await browser.log_in(await work.login_link("eve"))
        csrf = await browser.csrf()
        assert (await browser.get(f"/account/ssh-keys/{key}/remove")).status == 404
        assert (await browser.submit(f"/account/ssh-keys/{key}/remove", csrf=csrf)).status == 404
        assert await published(work, "ada") == {key}
    async with work.api(ada) as own:
        assert (await own.post(f"people/ada/ssh-keys/{key}/remove")).status == 200


async def test_only_a_file_server_says_that_a_key_was_used_and_each_token_once(work):
    await work.person("ada")
    async with work.api() as api, Client(work.url) as web:
        key = await add(api, "ada", new_line())
        path = f"/users/ada/ssh-keys/{key}/proved"
        assert (await web.post(path)).status == 401
        for name in ("router-main", "scheduler-main", "node-main"):
            headers = {"Authorization": f"Bearer {work.jwt(name)}"}
            assert (await web.post(path, headers=headers)).status == 403
        headers = {"Authorization": f"Bearer {work.jwt('fileserver-first')}"}
        assert (await web.post(path, headers=headers)).status == 204
        assert (await web.post(path, headers=headers)).status == 401
        unknown = f"/users/nobody/ssh-keys/{'A' * 43}/proved"
        headers = {"Authorization": f"Bearer {work.jwt('fileserver-first')}"}
        assert (await web.post(unknown, headers=headers)).status == 404


async def test_a_person_has_a_limited_number_of_keys(work):
    await work.person("ada")
    async with work.api() as api:
        for _ in range(MAX_KEYS):
            await add(api, "ada", new_line())
        more = await api.post("people/ada/ssh-keys", json={"line": new_line()})
        assert (more.status, "remove one first" in more.json["detail"].lower()) == (409, True)


async def test_keys_are_not_added_and_removed_without_end(work):
    await work.person("ada")
    line = new_line()
    async with work.api() as api:
        for _ in range(MAX_ADDED_PER_HOUR):
            key = await add(api, "ada", line)
            await api.post(f"people/ada/ssh-keys/{key}/remove")
        refused = await api.post("people/ada/ssh-keys", json={"line": line})
        assert (refused.status, refused.json["code"]) == (429, "too_many")
        work.clock.ahead = 3601
        await add(api, "ada", line)
