"""The file page: browse, upload, download, rename, delete, at a file server by SFTP."""

import asyncio
import html
import io
import os
import zipfile
from pathlib import Path
from urllib.parse import quote

import aiohttp
import asyncssh
import pytest
from systems.portal import beside

from dit4c_p2p.portal.storage.file_servers import MAX_SESSIONS_PER_PERSON

ODD = "Zoë’s data & <b>50 %?#.txt"


async def put(site, to, data=b"hello", folder="private", **more):
    """An upload as the page's script makes it."""
    headers = {
        "Origin": site.work.url,
        "X-CSRF-Token": site.csrf,
        "Accept": "application/json",
        **more.pop("headers", {}),
    }
    query = f"?to={quote(quote(to))}" + ("&replace=1" if more.pop("replace", False) else "")
    return await site.browser.request(
        "PUT", f"/files/upload/{folder}{query}", data=data, headers=headers, **more
    )


async def submit(site, path="private", **fields):
    """One of a folder's forms."""
    return await site.browser.submit(f"/files/browse/{path}", csrf=site.csrf, **fields)


async def test_a_person_finds_their_places(site):
    async with site.work.api() as api:
        await api.post("groups", json={"title": "Soil <Physics>", "id": "soil"})
        await api.post("groups/soil/members", json={"person": "ada"})
    page = (await site.browser.get("/files")).text
    assert 'href="/files/browse/private"' in page
    assert "Soil &lt;Physics&gt;" in page
    assert "Read only" in page


async def test_a_folder_is_listed_folders_first_and_names_are_shown_as_they_are(site):
    (site.home / ODD).write_text("x" * 1536)
    (site.home / "b").mkdir()
    (site.home / "link").symlink_to("b")
    Path(os.fsdecode(os.fsencode(site.home) + b"/\xff")).mkdir()
    page = await site.browser.get("/files/browse/private")
    assert page.status == 200
    assert html.escape(ODD, quote=False).replace("’", "’") in page.text
    assert "1.5 KiB" in page.text
    assert page.text.index('data-name="b"') < page.text.index('data-kind="file"')
    assert "/files/browse/private/%FF" in page.text
    assert (await site.browser.get("/files/browse/private/%FF")).status == 200
    assert (await site.browser.get("/files/browse/private/b")).status == 200
    assert (await site.browser.get("/files/browse/private/none")).status == 404
    led = await site.browser.get("/files/browse/private/" + quote(ODD))
    assert led.location == "/files/download/private/" + quote(ODD, safe="")


async def test_a_file_is_downloaded_whole_and_as_nothing_that_is_run(site):
    data = os.urandom(3_000_000)
    (site.home / ODD).write_bytes(data)
    answer = await site.browser.get("/files/download/private/" + quote(ODD))
    assert answer.body == data
    headers = answer.headers
    assert headers["Content-Type"] == "application/octet-stream"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Content-Security-Policy"].startswith("sandbox;")
    assert headers["Content-Disposition"].startswith("attachment; ")
    assert f"filename*=UTF-8''{quote(ODD)}" in headers["Content-Disposition"]
    assert (await site.browser.get("/files/download/private/none")).status == 404
    (site.home / "empty").touch()
    assert (await site.browser.get("/files/download/private/empty")).body == b""


async def test_a_folder_is_downloaded_as_a_zip(site):
    tree = site.home / "data"
    (tree / "a" / "empty").mkdir(parents=True)
    (tree / "a" / "big").write_bytes(os.urandom(2_500_000))
    (tree / ODD).write_text("odd")
    (tree / "..\\up").touch()
    (tree / "link").symlink_to("a/big")
    answer = await site.browser.get("/files/download/private/data")
    assert 'filename="data.zip"' in answer.headers["Content-Disposition"]
    archive = zipfile.ZipFile(io.BytesIO(answer.body))
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == sorted(
        [
            "data/",
            "data/a/",
            "data/a/empty/",
            "data/a/big",
            f"data/{ODD}",
            "data/link",
            "data/.._up",
        ]
    )
    assert archive.read("data/a/big") == (tree / "a" / "big").read_bytes()
    assert archive.read("data/link") == b"a/big", "the link itself, and not its target"


async def test_uploads_make_folders_and_replace_only_if_asked(site):
    data = os.urandom(1_500_000)
    done = await put(site, f"photos/2026/{ODD}", data)
    assert (done.status, done.json) == (201, {"size": 1_500_000})
    file = site.home / "photos" / "2026" / ODD
    assert file.read_bytes() == data
    again = await put(site, f"photos/2026/{ODD}", b"new")
    assert (again.status, "already" in again.json["detail"]) == (409, True)
    assert file.read_bytes() == data
    assert (await put(site, f"photos/2026/{ODD}", b"new", replace=True)).status == 201
    assert file.read_bytes() == b"new"
    assert [one.name for one in file.parent.iterdir()] == [ODD], "nothing is left over"
    assert (await put(site, "empty", b"")).status == 201
    ask = await site.browser.get("/files/upload/private?to=empty")
    assert ask.status == 409
    assert (await site.browser.get("/files/upload/private?to=other")).status == 204


async def test_the_upload_form_works_without_javascript(site):
    def form(**more):
        data = aiohttp.FormData(quote_fields=False)  # as browsers do it
        data.add_field("csrf", more.get("csrf", site.csrf))
        for name in more["names"]:
            data.add_field("files", b"content of " + name.encode(), filename=name)
        return data

    origin = {"Origin": site.work.url}
    path = "/files/upload/private"
    done = await site.browser.post(path, data=form(names=["a.txt", "b.txt"]), headers=origin)
    assert done.location == "/files/browse/private"
    assert (site.home / "b.txt").read_bytes() == b"content of b.txt"
    twice = await site.browser.post(path, data=form(names=["a.txt"]), headers=origin)
    assert (twice.status, "something called a.txt already" in twice.text) == (409, True)
    for data, headers in (
        (form(names=["c"], csrf="wrong"), origin),
        (form(names=["c"]), {"Origin": "https://evil.example"}),
        (form(names=["c"]), {}),
    ):
        assert (await site.browser.post(path, data=data, headers=headers)).status == 403
    outside = await site.browser.post(path, data=form(names=["../../d"]), headers=origin)
    assert outside.status == 303
    assert sorted(one.name for one in site.home.iterdir()) == ["a.txt", "b.txt", "d"]


async def test_folders_are_made_renamed_and_deleted(site):
    assert (await submit(site, do="mkdir", name="new")).location == "/files/browse/private"
    assert (site.home / "new").is_dir()
    twice = await submit(site, do="mkdir", name="new")
    assert "something called new already" in beside(twice.text, "name")
    (site.home / "new" / "deep").mkdir()
    (site.home / "new" / "deep" / "file").touch()
    (site.home / "new" / "link").symlink_to(site.home)
    (site.home / "kept").touch()
    ask = (await site.browser.get("/files/ask/private/new?what=rename")).text
    assert 'name="old" value="new"' in ask
    taken = await submit(site, do="rename", old="new", name="kept")
    assert taken.status == 409
    assert (await submit(site, do="rename", old="new", name=ODD)).status == 303
    assert (site.home / ODD).is_dir()
    ask = (await site.browser.get(f"/files/ask/private/{quote(ODD)}?what=delete")).text
    assert "everything in it is deleted" in ask
    assert (await submit(site, do="delete", old=quote(ODD, safe=""))).status == 303
    assert [one.name for one in site.home.iterdir()] == ["kept"], "links are not followed"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 256])
async def test_what_can_be_no_name_is_refused(site, name):
    refused = await submit(site, do="mkdir", name=name)
    assert refused.status == 400
    assert (await submit(site, do="delete", old=quote(name, safe=""))).status == 400
    assert list(site.home.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    ["private/../../etc", "private/%2e%2e/x", "private/a%2Fb", "shared/none", "other", "instances"],
)
async def test_there_is_no_way_out_of_ones_own_folders(site, path):
    for verb in ("browse", "download", "ask"):
        url = f"{site.work.url}/files/{verb}/{path}"
        raw = aiohttp.client.URL(url, encoded=True)
        async with site.browser.session.get(
            raw, headers={"Cookie": cookies(site.browser)}, allow_redirects=False
        ) as answer:
            assert answer.status in (400, 404), (verb, await answer.text())


def cookies(browser):
    return "; ".join(f"{name}={value}" for name, value in browser.cookies.items())


async def test_a_read_only_folder_can_be_looked_at_and_no_more(site):
    async with site.work.api() as api:
        await api.post("groups", json={"title": "Soil", "id": "soil"})
        await api.post("groups/soil/members", json={"person": "ada"})
    shared = site.server.root("ada") / "shared" / "soil"
    shared.mkdir(parents=True)
    (shared / "a").write_text("a")
    page = (await site.browser.get("/files/browse/shared/soil")).text
    assert "Read only" in page
    assert "Upload" not in page
    assert (await site.browser.get("/files/download/shared/soil/a")).body == b"a"
    assert (await put(site, "b", folder="shared/soil")).status == 403
    for fields in ({"do": "mkdir", "name": "b"}, {"do": "delete", "old": "a"}):
        assert (await submit(site, "shared/soil", **fields)).status == 403
    assert (await site.browser.get("/files/ask/shared/soil/a?what=delete")).status == 403
    assert [one.name for one in shared.iterdir()] == ["a"]


async def test_another_persons_folders_look_like_none(site):
    async with site.work.api(await site.work.person("eve")) as api:
        id = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
    async with site.work.api() as api:
        await api.post("groups", json={"title": "Soil", "id": "soil"})
        await api.post("groups/soil/members", json={"person": "eve", "write": True})
    for path in (f"instances/{id}", "shared/soil"):
        for verb in ("browse", "download"):
            assert (await site.browser.get(f"/files/{verb}/{path}")).status == 404
        assert (await put(site, "x", folder=path)).status == 404
        assert (await submit(site, path, do="mkdir", name="x")).status == 404
    assert site.server.sessions == []


async def test_nobody_comes_in_without_a_session_or_from_another_site(site):
    async with site.work.browser() as stranger:
        for path in ("/files", "/files/browse/private", "/files/download/private/a"):
            assert (await stranger.get(path)).status == 401
    for headers in (
        {"Origin": "https://evil.example"},
        {"X-CSRF-Token": "wrong"},
        {"X-CSRF-Token": ""},
    ):
        assert (await put(site, "x", headers=headers)).status == 403
    assert list(site.home.iterdir()) == []


async def test_an_upload_that_breaks_off_or_does_not_fit_leaves_nothing(site):
    site.server.full = True
    full = await put(site, "big", os.urandom(200_000))
    assert (full.status, "quota of 50 GiB is used up" in full.json["detail"]) == (409, True)
    assert list(site.home.iterdir()) == []
    site.server.full = False

    begun = asyncio.Event()

    async def breaks_off():
        yield b"x" * 100_000
        async with asyncio.timeout(10):
            while not list(site.home.iterdir()):
                await asyncio.sleep(0.01)
        begun.set()
        raise ConnectionResetError("gone")

    with pytest.raises((aiohttp.ClientError, ConnectionError)):
        await put(site, "half", breaks_off())
    assert begun.is_set()
    async with asyncio.timeout(10):
        while list(site.home.iterdir()):
            await asyncio.sleep(0.01)


async def test_a_person_has_a_limited_number_of_transfers(site):
    site.server.hold.clear()
    uploads = [
        asyncio.create_task(put(site, f"f{number}", b"x"))
        for number in range(MAX_SESSIONS_PER_PERSON)
    ]
    async with asyncio.timeout(10):
        while len(list(site.home.iterdir())) < MAX_SESSIONS_PER_PERSON:
            await asyncio.sleep(0.01)
    refused = await put(site, "more", b"x")
    assert refused.status == 429
    site.server.hold.set()
    assert {answer.status for answer in await asyncio.gather(*uploads)} == {201}
    assert site.server.connections == 1, "one connection carries all sessions"


async def test_a_file_server_that_is_away_or_not_itself_is_said_to_be(site):
    await site.browser.get("/files/browse/private")
    await site.server.__aexit__()
    async with asyncio.timeout(10):
        while (await site.browser.get("/files/browse/private")).status != 503:
            pass
    page = await site.browser.get("/files/browse/private")
    assert "file server is not reached" in page.text
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with site.make(other):
        assert (await site.browser.get("/files/browse/private")).status == 503
    async with site.make():
        assert (await site.browser.get("/files/browse/private")).status == 200
    await site.server.__aenter__()


async def test_a_revoked_file_server_is_cut_off(site):
    assert (await site.browser.get("/files/browse/private")).status == 200
    async with site.work.api() as api:
        keys = (await api.get("keys?kind=fileserver")).json
        (mine,) = [key for key in keys if key["id"] == "first"]
        await api.post(f"keys/{mine['fingerprint']}/revoke")
    page = await site.browser.get("/files/browse/private")
    assert page.status == 503


async def test_each_act_is_in_the_audit_log(site):
    await put(site, "a", b"x")
    await submit(site, do="mkdir", name="m")
    await submit(site, do="rename", old="m", name="n")
    await site.browser.get("/files/download/private/a")
    await submit(site, do="delete", old="n")
    lines = site.work.config.audit_path.read_text().splitlines()
    told = [line for line in lines if '"files.' in line]
    assert len(told) == 5
    for word in ("files.upload", "files.mkdir", "files.rename", "files.download", "files.delete"):
        assert sum(word in line and '"ada"' in line for line in told) == 1, word
    assert "/private/m to /private/n" in "".join(told)


async def test_pages_do_not_wait_for_a_file_server_that_is_away(site):
    await site.server.__aexit__()
    said = await site.browser.get("/files/usage", headers={"Accept": "application/json"})
    assert (said.status, said.body) == (204, b"")
    assert (await site.browser.get("/files")).status == 200
    await site.server.__aenter__()
