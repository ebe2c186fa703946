"""Earlier versions on the file page, and restoring from them."""

import os
import shutil
from pathlib import Path
from urllib.parse import quote

import pytest

OLD, NEW = "2026-11-28T09-00-00Z", "2026-11-29T10-00-00Z"
ODD = "Zoë’s <data> 50 %?#.txt"


@pytest.fixture
def snapshots(site):
    """Two snapshots of Ada's folder; the newer has a file, a folder and a link in ``work``."""
    folder = site.home / ".snapshots"
    (folder / OLD).mkdir(parents=True)
    inner = folder / NEW / "work"
    (inner / "album" / "deep").mkdir(parents=True)
    (inner / ODD).write_bytes(os.urandom(300_000))
    (inner / ODD).chmod(0o640)
    os.utime(inner / ODD, (1_700_000_000, 1_700_000_000))
    (inner / "empty").touch()
    for number in range(40):
        (inner / "album" / "deep" / f"{number}.txt").write_text(str(number))
    (inner / "album" / "link").symlink_to("deep/1.txt")
    (inner / "album").chmod(0o750)
    return folder


async def restore(site, path, **fields):
    return await site.browser.submit(
        f"/files/restore/private/.snapshots/{path}", csrf=site.csrf, **fields
    )


def same(one: Path, other: Path) -> bool:
    """Whether two trees have the same names, contents, links, modes and times."""

    def shown(top):
        return sorted(
            (
                str(path.relative_to(top)),
                path.lstat().st_mode,
                path.readlink() if path.is_symlink() else int(path.stat().st_mtime),
                path.read_bytes() if path.is_file() else b"",
            )
            for path in (top, *top.rglob("*"))
        )

    return shown(one) == shown(other)


async def test_the_versions_of_a_folder_are_listed_and_read_only(site, snapshots):
    assert "Earlier versions" in (await site.browser.get("/files/browse/private")).text
    top = (await site.browser.get("/files/earlier/private")).text
    assert top.index("29 Nov 2026, 10:00") < top.index("28 Nov 2026, 09:00")
    assert f'href="/files/browse/private/.snapshots/{NEW}"' in top
    (site.home / "work").mkdir()
    inner = (await site.browser.get("/files/earlier/private/work")).text
    assert f"/files/browse/private/.snapshots/{NEW}/work" in inner
    assert OLD not in inner, "there was no such folder then"
    assert "no earlier version" in (await site.browser.get("/files/earlier/private/none")).text
    path = f"/files/browse/private/.snapshots/{NEW}/work"
    page = (await site.browser.get(path)).text
    assert "As it was on 29 Nov 2026, 10:00 UTC" in page
    assert "Restore" in page and "Upload" not in page and "Rename" not in page
    led = await site.browser.get("/files/browse/private/.snapshots")
    assert led.location == "/files/earlier/private"
    for fields in ({"do": "mkdir", "name": "x"}, {"do": "delete", "old": "empty"}):
        refused = await site.browser.submit(path, csrf=site.csrf, **fields)
        assert (refused.status, "estore what you need" in refused.text) == (403, True)
    assert (await site.browser.get(path.replace("browse", "download") + "/empty")).status == 200


async def test_a_file_that_is_gone_comes_back_where_it_was(site, snapshots):
    path = f"{NEW}/work/{quote(ODD, safe='')}"
    ask = await site.browser.get(f"/files/restore/private/.snapshots/{path}")
    assert "Restore “" in ask.text and 'name="replace"' not in ask.text
    done = await restore(site, path)
    assert done.location == "/files/browse/private/work"
    assert same(site.home / "work" / ODD, snapshots / NEW / "work" / ODD)
    assert (await restore(site, f"{NEW}/work/empty")).status == 303
    assert (site.home / "work" / "empty").read_bytes() == b""


async def test_what_is_there_is_replaced_only_after_a_question(site, snapshots):
    (site.home / "work").mkdir()
    for name, now in (("empty", "file"), ("album", "folder"), ("album", "file")):
        there = site.home / "work" / name
        if there.is_dir():
            shutil.rmtree(there)
        if now == "folder":
            (there / "added").mkdir(parents=True)
        else:
            there.write_text("now")
        path = f"{NEW}/work/{name}"
        ask = (await site.browser.get(f"/files/restore/private/.snapshots/{path}")).text
        assert "Replace “" in ask and 'name="replace"' in ask
        refused = await restore(site, path)
        assert (refused.status, "already" in refused.text) == (409, True)
        assert (there / "added").exists() if now == "folder" else there.read_text() == "now"
        assert (await restore(site, path, replace="1")).status == 303
        assert same(there, snapshots / NEW / "work" / name)
    left = sorted(one.name for one in (site.home / "work").iterdir())
    assert left == ["album", "empty"], "nothing is left over"


async def test_a_restore_that_fails_leaves_what_was_there(site, snapshots):
    there = site.home / "work" / "album"
    there.mkdir(parents=True)
    (there / "mine").write_text("now")
    site.server.full = True
    failed = await restore(site, f"{NEW}/work/album", replace="1")
    assert (failed.status, "quota" in failed.text) == (409, True)
    assert [one.name for one in there.parent.rglob("*")] == ["album", "mine"]


async def test_only_what_is_in_a_snapshot_can_be_restored_and_by_who_may_write(site, snapshots):
    for path in ("", f"{NEW}", "elsewhere/work", f"{NEW}/none", "2026-99-29T10-00-00Z/work"):
        answer = await site.browser.get(f"/files/restore/private/.snapshots/{path}")
        assert answer.status == 404, path
    assert (await site.browser.get("/files/restore/private/work")).status == 404
    assert (
        await site.browser.submit(f"/files/restore/private/.snapshots/{NEW}/work", csrf="x")
    ).status == 403
    async with site.work.api() as api:
        await api.post("groups", json={"title": "Soil", "id": "soil"})
        await api.post("groups/soil/members", json={"person": "ada"})
    kept = site.home.parent / "shared" / "soil" / ".snapshots" / NEW
    kept.mkdir(parents=True)
    (kept / "file").touch()
    path = f"shared/soil/.snapshots/{NEW}"
    assert "Restore" not in (await site.browser.get(f"/files/browse/{path}")).text
    refused = await site.browser.submit(f"/files/restore/{path}/file", csrf=site.csrf)
    assert refused.status == 403
    async with site.work.browser() as eve:
        await eve.log_in(await site.work.login_link("eve"))
        other = await eve.get(f"/files/restore/private/.snapshots/{NEW}/work/empty")
        assert other.status == 404, "Eve sees her own files alone"
