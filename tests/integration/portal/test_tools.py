"""Tools that admins add by reference: by the API and by the pages, on SQLite and PostgreSQL."""

import asyncio
import html
import json

import pytest
from systems.portal import IMAGE, Client, PortalAtWork, beside

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import CheckImage, ImageChecked, StartAgain, StartInstance
from dit4c_p2p.portal import CatalogueImage, Portal
from dit4c_p2p.portal.models import Tool
from dit4c_p2p.portal.services import tools as tool_services
from dit4c_p2p.portal.tools import MAX_TOOLS

REFERENCE = f"registry.example.org/lab/rstudio@sha256:{'7' * 64}"
RSTUDIO = {
    "name": "rstudio",
    "title": "RStudio",
    "description": "R, in a browser.",
    "icon": "R",
    "image": REFERENCE,
    "unchecked": True,
}
TYPED = {**RSTUDIO, "unchecked": "1"}
SHOWN = {name: value for name, value in RSTUDIO.items() if name != "unchecked"}


async def added(api, **more):
    """A new tool; the answer's JSON."""
    answer = await api.post("tools", json={**RSTUDIO, **more})
    assert answer.status == 201, answer.text
    return answer.json


def acts(work):
    lines = map(json.loads, work.config.audit_path.read_text().splitlines())
    return [
        (line["what"], line["who"], line["about"])
        for line in lines
        if line["what"].startswith("tool.")
    ]


@pytest.mark.both_databases
async def test_an_added_tool_is_offered_and_started(work):
    max_token = await work.person("max")
    async with work.api() as api, work.api(max_token) as other, work.scheduler() as scheduler:
        made = await api.post("tools", json=RSTUDIO)
        assert made.status == 201
        assert made.location == f"{work.url}/api/v1/tools/rstudio"
        assert made.json == {
            **SHOWN,
            "source": "added",
            "offered": True,
            "added": made.json["added"],
            "added_by": "admin",
            "groups": [],
        }
        assert (await api.get("tools/rstudio")).json == made.json
        listed = (await api.get("tools")).json
        assert [(tool["name"], tool["source"]) for tool in listed] == [
            ("jupyterlab", "configuration"),
            ("rstudio", "added"),
        ]
        assert (listed[0]["added"], listed[0]["added_by"]) == (None, None)
        assert (await other.get("images")).json[1] == SHOWN
        for image in ("rstudio", REFERENCE):
            instance = (await other.post("instances", json={"image": image})).json
            assert instance["image"] == "rstudio"
            assert instance["name"].startswith("RStudio")
            assert (await scheduler.message(StartInstance)).image == REFERENCE
    assert acts(work) == [("tool.create", "admin", f"rstudio {REFERENCE}")]


async def test_what_is_withdrawn_goes_on_and_is_not_started_any_more(work):
    async with (
        work.api() as api,
        work.scheduler() as scheduler,
        work.browser() as browser,
        Client(work.url) as router,
    ):
        await added(api)
        await browser.log_in(await work.login_link())
        made = (await api.post("instances", json={"image": "rstudio", "name": "Mine"})).json
        path = f"instances/{made['id']}"
        start = await scheduler.message(StartInstance)
        await scheduler.allocate(start)
        await scheduler.report(made["id"], State.RUNNING, node="node-main")

        gone = await api.request("PATCH", "tools/rstudio", json={"offered": False})
        assert (gone.status, gone.json["offered"]) == (200, False)
        again = await api.request("PATCH", "tools/rstudio", json={"offered": False})
        assert again.json == gone.json
        assert [image["name"] for image in (await api.get("images")).json] == ["jupyterlab"]
        for image in ("rstudio", REFERENCE):
            refused = await api.post("instances", json={"image": image})
            assert (refused.status, refused.json["field"]) == (400, "image")
        refused = await api.post("instances", json={"image": "rstudio"})
        assert "RStudio is not offered any more" in refused.json["detail"]
        page = await browser.get("/")
        assert 'data-image="rstudio"' not in page.text
        assert '<span class="tool" data-part="tool">RStudio</span>' in page.text
        assert '<span data-part="icon">R</span>' in page.text
        headers = {"Authorization": f"Bearer {work.jwt('router-main')}"}
        state = await router.get(f"/instances/{made['id']}/page-state", headers=headers)
        assert state.json == {"state": "running", "title": "RStudio"}
        assert (await api.get(path)).json["state"] == "running"
        await scheduler.report(made["id"], State.EXITED, node="node-main")
        assert (await api.post(f"{path}/start")).status == 202
        assert (await scheduler.message(StartAgain)).instance == made["id"]

        offered = await api.request("PATCH", "tools/rstudio", json={"offered": True})
        assert offered.json["offered"] is True
        assert (await api.post("instances", json={"image": "rstudio"})).status == 201
        only = [tool["name"] for tool in (await api.get("tools?offered=false")).json]
        assert only == []
    assert [about for _, _, about in acts(work)[1:]] == [
        "rstudio: withdrawn",
        "rstudio: withdrawn",
        "rstudio: offered",
    ]


async def test_what_is_changed_counts_from_the_next_start(work):
    other = f"sha256:{'8' * 64}"
    async with work.api() as api, work.scheduler() as scheduler:
        await added(api)
        before = (await api.post("instances", json={"image": "rstudio"})).json["id"]
        changed = await api.request(
            "PATCH",
            "tools/rstudio",
            json={"title": " R  Studio ", "icon": "", "image": other, "unchecked": True},
        )
        assert changed.status == 200
        assert (changed.json["title"], changed.json["icon"]) == ("R Studio", "")
        assert changed.json["description"] == RSTUDIO["description"]
        await api.post("instances", json={"image": "rstudio"})
        orders = [await scheduler.message(StartInstance) for _ in range(2)]
        assert [order.image for order in orders] == [REFERENCE, other]
        assert orders[0].instance == before
        assert (await api.request("PATCH", "tools/nothing", json={"title": "x"})).status == 404
    assert acts(work)[-1][2] == f"rstudio: title, icon, image {other}"


async def test_the_configurations_are_not_changed_and_their_names_not_taken(work):
    async with work.api() as api:
        taken = await api.post("tools", json={**RSTUDIO, "name": "jupyterlab"})
        assert (taken.status, taken.json["code"]) == (409, "conflict")
        assert "the configuration has a tool called jupyterlab" in taken.json["detail"]
        changed = await api.request("PATCH", "tools/jupyterlab", json={"offered": False})
        assert changed.status == 409
        assert "portal's file" in changed.json["detail"]
        await added(api)
        twice = await api.post("tools", json=RSTUDIO)
        assert (twice.status, "already" in twice.json["detail"]) == (409, True)
        await api.request("PATCH", "tools/rstudio", json={"offered": False})
        withdrawn = await api.post("tools", json=RSTUDIO)
        assert "Offer it again" in withdrawn.json["detail"]
        # A file that is given the name later counts; without it, what was added is there again.
        await work.stop()
        before = work.config.catalogue
        work.with_config(catalogue=(CatalogueImage("rstudio", "File's", "", IMAGE),))
        await work.start()
        (tool,) = (await api.get("tools")).json
        assert (tool["title"], tool["source"]) == ("File's", "configuration")
        assert (await api.request("PATCH", "tools/rstudio", json={"title": "x"})).status == 409
        await work.stop()
        work.with_config(catalogue=before)
        await work.start()
        assert (await api.get("tools/rstudio")).json["title"] == "RStudio"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "R Studio"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 41}, "name"),
        ({"title": ""}, "title"),
        ({"title": "a\u202eb"}, "title"),
        ({"title": "x" * 101}, "title"),
        ({"description": "x" * 301}, "description"),
        ({"description": "a\u0000"}, "description"),
        ({"icon": "RST"}, "icon"),
        ({"icon": "\u200b"}, "icon"),
        ({"image": "registry.example.org/rstudio:latest"}, "image"),
        ({"image": f"registry.example.org/rstudio:1@sha256:{'7' * 64}"}, "image"),
        ({"image": f"https://registry.example.org/rstudio@sha256:{'7' * 64}"}, "image"),
        ({"image": "sha256:7"}, "image"),
        ({"image": ""}, "image"),
        ({"offered": True}, "offered"),
    ],
)
async def test_bad_tools_name_the_field(work, change, field):
    async with work.api() as api:
        refused = await api.post("tools", json={**RSTUDIO, **change})
        assert (refused.status, refused.json["field"]) == (400, field)
        if field not in ("name", "offered"):
            await added(api)
            change = {**change, "unchecked": True}
            refused = await api.request("PATCH", "tools/rstudio", json=change)
            assert (refused.status, refused.json["field"]) == (400, field)
            assert (await api.get("images")).json[1] == SHOWN


async def test_row_1_tools_are_for_admins(work):
    token = await work.person("max")
    async with work.api() as api, work.api(token) as other, work.api("wrong") as stranger:
        await added(api)
        for client, status in ((other, 403), (stranger, 401)):
            for method, path, body in (
                ("GET", "tools", None),
                ("GET", "tools/rstudio", None),
                ("GET", "tools/nothing", None),
                ("POST", "tools", RSTUDIO),
                ("PATCH", "tools/rstudio", {"offered": False}),
                ("PATCH", "tools/nothing", {"offered": False}),
            ):
                assert (await client.request(method, path, json=body)).status == status
        assert (await other.get("images")).status == 200
        assert (await api.get("tools/rstudio")).json["offered"] is True


async def test_the_lists_are_paged(work):
    async with work.api() as api:
        for number in range(3):
            work.clock.ahead = number
            await added(api, name=f"r{number}")
        await api.request("PATCH", "tools/r1", json={"offered": False})
        for whole, names in (
            ("tools", ["jupyterlab", "r0", "r1", "r2"]),
            ("tools?offered=true", ["jupyterlab", "r0", "r2"]),
            ("images", ["jupyterlab", "r0", "r2"]),
        ):
            seen, path = [], f"{whole}{'&' if '?' in whole else '?'}limit=1"
            while path:
                answer = await api.get(path)
                seen += [tool["name"] for tool in answer.json]
                path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
            assert seen == names


async def test_there_is_an_end_to_how_many(work):
    await Tool.bulk_create(
        Tool(
            name=f"t{number}", title="T", description="", icon="", image=IMAGE,
            added_at=float(number), added_by="admin", withdrawn_at=1.0,
        )
        for number in range(MAX_TOOLS)
    )  # fmt: skip
    async with work.api() as api:
        refused = await api.post("tools", json=RSTUDIO)
        assert (refused.status, "withdrawn" in refused.json["detail"]) == (409, True)


@pytest.mark.both_databases
async def test_of_eight_who_add_the_same_one_does(work):
    async with work.api() as api:
        answers = await asyncio.gather(*(api.post("tools", json=RSTUDIO) for _ in range(8)))
        assert sorted(answer.status for answer in answers) == [201] + [409] * 7


@pytest.mark.both_databases
async def test_another_process_on_the_database_knows_at_once(work, tmp_path):
    """Each reads what there is from the database: nothing has to be told to the others."""
    second = PortalAtWork(tmp_path / "second")
    second.with_config(data_folder=tmp_path / "second")
    second.portal = Portal(second.config, clock=second.clock)
    await second.portal.start()
    try:
        async with work.api() as api, second.api(work.token) as elsewhere:
            await added(api)
            assert len((await elsewhere.get("images")).json) == 2
            await elsewhere.request("PATCH", "tools/rstudio", json={"offered": False})
            assert (await api.post("instances", json={"image": "rstudio"})).status == 400
    finally:
        await second.portal.stop()


async def test_a_tool_that_must_go_goes_on_a_full_disk(work, monkeypatch):
    """What gives somebody something is written down first; what takes it away is done anyway."""
    async with work.api() as api:
        await added(api)

        def full(*line, **more):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("dit4c_p2p.audit.AuditLog.write", full)
        for method, path, body in (
            ("POST", "tools", {**RSTUDIO, "name": "other"}),
            ("PATCH", "tools/rstudio", {"image": IMAGE, "unchecked": True}),
        ):
            refused = await api.request(method, path, json=body)
            assert (refused.status, refused.json["code"]) == (503, "not_audited")
        gone = await api.request("PATCH", "tools/rstudio", json={"offered": False})
        assert gone.status == 200
        assert (await api.get("tools/rstudio")).json["image"] == REFERENCE
        assert (await api.get("tools/other")).status == 404
        back = await api.request("PATCH", "tools/rstudio", json={"offered": True})
        assert back.status == 503


# ---- pages


async def test_adding_changing_and_withdrawing_by_the_page(work):
    async with work.api() as api, work.browser() as admin, work.browser() as other:
        await work.person("max")
        await admin.log_in(await work.login_link())
        await other.log_in(await work.login_link("max"))
        assert 'href="/admin/tools"' in (await admin.get("/")).text
        before = await admin.get("/admin/tools")
        assert 'data-tool="jupyterlab" data-source="configuration"' in before.text
        assert "from the configuration" in before.text
        assert '/admin/tools/jupyterlab"' not in before.text
        csrf = await admin.csrf()
        typed = {**TYPED, "title": "<b>R</b>Studio", "csrf": csrf}
        done = await admin.submit("/admin/tools", **typed)
        assert (done.status, done.location) == (303, "/admin/tools")
        page = await admin.get("/admin/tools")
        assert "&lt;b&gt;R&lt;/b&gt;Studio" in page.text
        assert "<b>R" not in page.text
        assert 'data-tool="rstudio" data-source="added" data-offered="yes"' in page.text
        assert 'data-image="rstudio"' in (await other.get("/")).text, "at the next load"

        one = await admin.get("/admin/tools/rstudio")
        assert f'value="{REFERENCE}"' in one.text
        changed = {**typed, "title": "RStudio", "icon": ""}
        done = await admin.submit("/admin/tools/rstudio", **changed)
        assert (done.status, done.location) == (303, "/admin/tools/rstudio")
        assert (await api.get("tools/rstudio")).json["title"] == "RStudio"
        await admin.submit("/admin/tools/rstudio/withdraw", csrf=csrf)
        assert "Offer again" in (await admin.get("/admin/tools/rstudio")).text
        assert 'data-image="rstudio"' not in (await other.get("/")).text
        await admin.submit("/admin/tools/rstudio/offer", csrf=csrf)
        assert 'data-image="rstudio"' in (await other.get("/")).text


@pytest.mark.parametrize(
    ("change", "status", "field", "says"),
    [
        ({"title": ""}, 400, "title", "needs at least one letter"),
        ({"icon": "RSt"}, 400, "icon", "2 characters at most"),
        ({"image": "rstudio:latest"}, 400, "image", "not an image by digest"),
        ({"name": "R Studio"}, 400, "name", "not the name of a tool"),
        ({"name": "jupyterlab"}, 409, "name", "The configuration has a tool called"),
    ],
)
async def test_what_is_wrong_is_said_beside_its_field_and_nothing_is_lost(
    work, change, status, field, says
):
    async with work.api() as api, work.browser() as admin:
        await admin.log_in(await work.login_link())
        csrf = await admin.csrf()
        typed = {**TYPED, "csrf": csrf, **change}
        refused = await admin.submit("/admin/tools", **typed)
        assert refused.status == status
        assert says in beside(refused.text, field)
        for name in RSTUDIO.keys() - {"unchecked"}:
            assert f'name="{name}" value="{typed[name]}"' in refused.text
        if field != "name":
            await added(api)
            refused = await admin.submit("/admin/tools/rstudio", **typed)
            assert refused.status == status
            assert says in beside(refused.text, field)
            assert f'name="{field}" value="{typed[field]}"' in refused.text


async def test_a_tag_is_offered_as_the_digest_that_a_machine_has_fetched(work):
    wanted = {**RSTUDIO, "unchecked": False, "image": "registry.example.org/lab/rstudio:4"}
    async with work.api() as api, work.scheduler() as scheduler:

        async def answered(call, **said):
            asking = asyncio.create_task(call)
            asked = await scheduler.message(CheckImage)
            await scheduler.tell(ImageChecked(request="another", image=REFERENCE))
            await scheduler.tell(ImageChecked(request=asked.request, **said))
            return asked.reference, await asking

        why = "node-main: The registry has no image of this name"
        reference, refused = await answered(api.post("tools", json=wanted), error=why)
        assert (refused.status, refused.json["field"]) == (400, "image")
        assert why in refused.json["detail"]
        assert (await api.get("tools/rstudio")).status == 404, "it is not offered"
        reference, made = await answered(api.post("tools", json=wanted), image=REFERENCE)
        assert reference == wanted["image"]
        assert (made.status, made.json["image"]) == (201, REFERENCE)

        same = await api.request("PATCH", "tools/rstudio", json={"image": REFERENCE, "title": "R"})
        assert same.status == 200, "the same image is not fetched again"
        other = REFERENCE.replace("7", "8")
        change = api.request("PATCH", "tools/rstudio", json={"image": "registry.example.org/r:5"})
        _, changed = await answered(change, image=other)
        assert (changed.status, changed.json["image"]) == (200, other)


@pytest.mark.parametrize(
    ("image", "status", "says"),
    [
        ("https://registry.example.org/r:1", 400, "not the name of an image"),
        (REFERENCE, 503, "scheduler is not connected"),
    ],
)
async def test_what_nobody_can_look_at_is_not_offered_and_stays_in_the_form(
    work, image, status, says
):
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        typed = {**TYPED, "unchecked": "", "image": image, "csrf": await admin.csrf()}
        refused = await admin.submit("/admin/tools", **typed)
        assert refused.status == status
        assert says in refused.text
        assert f'name="image" value="{image}"' in refused.text
        assert await Tool.all().count() == 0


async def test_a_machine_that_takes_its_time_is_not_waited_for(work, monkeypatch):
    monkeypatch.setattr(tool_services, "CHECK_S", 0.2)
    async with work.api() as api, work.scheduler():
        late = await api.post("tools", json={**RSTUDIO, "unchecked": False})
        assert late.status == 504
        assert "in a few minutes" in late.json["detail"]


async def test_the_list_of_the_page_goes_on(work):
    async with work.browser() as admin:
        await admin.log_in(await work.login_link())
        for number in range(60):
            fields = {"description": "", "icon": "", "image": IMAGE, "added_by": "admin"}
            await Tool.create(name=f"t{number}", title="T", added_at=float(number), **fields)
        first = await admin.get("/admin/tools")
        assert first.text.count("data-tool=") == 50
        link = html.unescape(first.text.split('rel="next" href="', 1)[1].split('"', 1)[0])
        rest = await admin.get(link)
        assert rest.text.count("data-tool=") == 11
        assert 'rel="prev"' in rest.text
        assert "51 to 61 of 61 in all" in rest.text
        newest = await admin.get("/admin/tools?sort=-added")
        assert newest.text.index('data-tool="t59"') < newest.text.index('data-tool="t58"')
        only = await admin.get("/admin/tools?q=T31")
        assert only.text.count("data-tool=") == 1
        assert "No tool is like that" in (await admin.get("/admin/tools?q=none")).text


async def test_the_pages_of_tools_do_not_exist_for_others(work):
    await work.person("max")
    forms = ("/admin/tools", "/admin/tools/r", "/admin/tools/r/withdraw", "/admin/tools/r/offer")
    async with work.api() as api, work.browser() as browser, work.browser() as admin:
        await added(api, name="r")
        await browser.log_in(await work.login_link("max"))
        await admin.log_in(await work.login_link())
        csrf, admins = await browser.csrf(), await admin.csrf()
        assert "/admin/tools" not in (await browser.get("/")).text
        for path in ("/admin/tools", "/admin/tools/r", "/admin/tools/none"):
            assert (await browser.get(path)).status == 404
        for path in forms:
            assert (await browser.submit(path, csrf=csrf, **RSTUDIO)).status == 404
            assert (await admin.submit(path, csrf="guess", **RSTUDIO)).status == 403
            elsewhere = await admin.submit(
                path, origin="http://evil.example", csrf=admins, **RSTUDIO
            )
            assert elsewhere.status == 403
        assert (await admin.get("/admin/tools/none")).status == 404
        configured = await admin.get("/admin/tools/jupyterlab")
        assert (configured.status, "from the configuration" in configured.text) == (409, True)
        submitted = await admin.submit("/admin/tools/jupyterlab/withdraw", csrf=admins)
        assert submitted.status == 409
        assert (await api.get("tools?offered=false")).json == []
        assert len((await api.get("tools")).json) == 2
    async with work.browser() as stranger:
        for path in forms:
            assert (await stranger.submit(path, csrf="x", **RSTUDIO)).status == 401


# ---- to whom


async def group_of(api, id, *people):
    await api.post("groups", json={"title": id.title(), "id": id})
    for person in people:
        await api.post(f"groups/{id}/members", json={"person": person})


async def names_for(api):
    return [image["name"] for image in (await api.get("images")).json]


async def test_a_tool_for_a_group_looks_like_none_to_others(work):
    ada, eve = await work.person("ada"), await work.person("eve")
    async with work.api() as admin, work.api(ada) as inside, work.api(eve) as outside:
        await group_of(admin, "soil", "ada")
        made = await added(admin, groups=["soil", "soil"])
        assert made["groups"] == ["soil"]
        assert await names_for(inside) == ["jupyterlab", "rstudio"]
        assert await names_for(outside) == ["jupyterlab"]
        assert await names_for(admin) == ["jupyterlab", "rstudio"], "admins may try everything"
        refused = await outside.post("instances", json={"image": "rstudio"})
        nothing = await outside.post("instances", json={"image": "nothing"})
        assert refused.status == nothing.status == 400
        assert refused.json["detail"] == nothing.json["detail"].replace("nothing", "rstudio")
        assert (await outside.post("instances", json={"image": REFERENCE})).status == 400
        assert (await inside.post("instances", json={"image": "rstudio"})).status == 201

        await admin.request("PATCH", "groups/soil", json={"closed": True})
        assert await names_for(inside) == ["jupyterlab"], "a closed group shares nothing"
        changed = await admin.request("PATCH", "tools/rstudio", json={"groups": []})
        assert changed.json["groups"] == []
        assert await names_for(outside) == ["jupyterlab", "rstudio"]
    assert ("tool.groups", "admin", "rstudio: to everyone") in acts(work)


async def test_a_tool_of_the_configuration_is_offered_to_a_group_by_the_page(work):
    await work.person("eve")
    async with work.api() as api, work.browser() as admin, work.browser() as eve:
        await group_of(api, "soil")
        await admin.log_in(await work.login_link())
        await eve.log_in(await work.login_link("eve"))
        assert 'data-image="jupyterlab"' in (await eve.get("/")).text
        csrf = await admin.csrf()
        path = "/admin/tools/jupyterlab/groups"
        assert "Everyone can start it now" in (await admin.get(path)).text
        wrong = await admin.submit(path, csrf=csrf, groups="soil, air")
        assert wrong.status == 400
        assert "no group called &#39;air&#39;" in beside(wrong.text, "groups")
        done = await admin.submit(path, csrf=csrf, groups="soil")
        assert done.location == "/admin/tools"
        assert ">soil<" in (await admin.get("/admin/tools")).text
        assert 'data-image="jupyterlab"' not in (await eve.get("/")).text
        assert (await eve.get(path)).status == 404
        assert (await admin.get("/admin/tools/none/groups")).status == 404
        assert (await api.request("PATCH", "tools/none", json={"groups": []})).status == 404
