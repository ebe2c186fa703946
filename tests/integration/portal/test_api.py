"""The HTTP API: every form of the table in ``portal.api``, and every kind of error."""

import asyncio
import json

import pytest
from systems.portal import IMAGE, running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import (
    ClusterState,
    DiscardInstance,
    InstanceLogs,
    RequestLogs,
    StartInstance,
)
from dit4c_p2p.portal import Limits


def assert_problem(answer, status, code=None, field=None):
    assert answer.status == status, answer.text
    assert answer.headers["Content-Type"].startswith("application/problem+json")
    problem = answer.json
    assert problem["status"] == status
    assert problem["title"] and problem["detail"] and problem["type"]
    if code is not None:
        assert problem["code"] == code
    assert problem.get("field") == field
    return problem


@pytest.mark.both_databases
async def test_a_whole_life(work):
    async with work.api() as api, work.scheduler() as scheduler:
        images = (await api.get("images")).json
        assert [(image["name"], image["image"]) for image in images] == [("jupyterlab", IMAGE)]

        made = await api.post("instances", json={"image": "jupyterlab", "name": "Mine"})
        assert made.status == 201
        instance = made.json
        assert made.location == f"{work.url}/api/v1/instances/{instance['id']}"
        assert set(instance) == {
            "id",
            "name",
            "state",
            "info",
            "progress",
            "url",
            "image",
            "actions",
            "checkpoint",
            "kept_on",
            "memory",
            "created",
            "since",
            "unreachable",
        }
        assert instance["name"] == "Mine"
        assert instance["state"] == "created"
        assert instance["image"] == "jupyterlab"
        assert instance["url"] is None
        assert instance["actions"] == ["discard"]
        path = f"instances/{instance['id']}"

        start = await scheduler.message(StartInstance)
        assert (start.instance, start.image) == (instance["id"], IMAGE)
        await scheduler.report(
            instance["id"], State.WAITING_FOR_IMAGE, "Fetching the image.", progress=0.25
        )
        now = (await api.get(path)).json
        assert (now["state"], now["info"], now["progress"]) == (
            "waiting_for_image",
            "Fetching the image.",
            0.25,
        )

        await api.post(f"{path}/discard")
        assert (await scheduler.message(DiscardInstance)).instance == instance["id"]
        await scheduler.report(instance["id"], State.DISCARDING)
        await scheduler.report(instance["id"], State.DISCARDED)
        gone = (await api.get(path)).json
        assert (gone["state"], gone["actions"], gone["url"]) == ("discarded", [], None)
        assert (await api.get("instances")).json == []
        assert len((await api.get("instances?all=1")).json) == 1


async def test_url_appears_once_the_listener_has_seen_its_own_url_answer(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        found = (await api.get(f"instances/{instance}")).json
        assert found["url"] == f"http://{instance}.localhost:8081/"
        assert found["actions"] == ["open", "stop", "discard"]
        await scheduler.report(instance, State.STOPPING)
        assert (await api.get(f"instances/{instance}")).json["url"] is None


async def test_discard_asked_for_twice_is_one_order(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        for _ in range(2):
            asked = await api.post(f"instances/{instance}/discard")
            assert asked.status == 202
            assert (asked.json["url"], asked.json["actions"]) == (None, [])
        await scheduler.message(DiscardInstance)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3):
                await scheduler.message(DiscardInstance)


@pytest.mark.both_databases
async def test_two_starts_at_once_both_work(work):
    async with work.api() as api:
        both = await asyncio.gather(
            *(api.post("instances", json={"image": "jupyterlab"}) for _ in range(2))
        )
        assert [answer.status for answer in both] == [201, 201]
        assert {answer.json["name"] for answer in both} == {"JupyterLab", "JupyterLab 2"}


async def test_instances_at_once_and_starts_in_a_minute_are_limited(work):
    """One person can't fill a machine, nor keep it busy with starting and discarding."""
    await work.stop()
    work.with_config(limits=Limits(instances_at_once_per_person=2, starts_per_minute_per_person=4))
    await work.start()
    async with work.api() as api, work.scheduler() as scheduler:
        made = [(await api.post("instances", json={"image": IMAGE})).json["id"] for _ in range(2)]
        refused = await api.post("instances", json={"image": IMAGE})
        detail = assert_problem(refused, 409, "conflict")["detail"]
        assert "2 may at once" in detail
        assert "an admin can change this limit" in detail
        for instance in made:
            await scheduler.report(instance, State.EXITED, node="node-main")
        first, second = [await api.post(f"instances/{instance}/start") for instance in made]
        assert (first.status, second.status) == (202, 202)
        third = await api.post("instances", json={"image": IMAGE})
        assert_problem(third, 409, "conflict")
        for instance in made:
            await scheduler.report(instance, State.ERRORED, node="node-main")
            await api.post(f"instances/{instance}/discard")
            await scheduler.report(instance, State.DISCARDED)
        fast = await api.post("instances", json={"image": IMAGE})
        detail = assert_problem(fast, 429, "too_many")["detail"]
        assert "started 4 within a minute" in detail
        assert "an admin can change this limit" in detail
    async with work.api(await work.person("other")) as api:
        assert (await api.post("instances", json={"image": IMAGE})).status == 201


async def test_too_many_instances_says_what_to_do(work):
    await work.stop()
    work.with_config(limits=Limits(instances_per_person=2))
    await work.start()
    async with work.api() as api:
        answers = await asyncio.gather(
            *(api.post("instances", json={"image": IMAGE}) for _ in range(4))
        )
        assert sorted(answer.status for answer in answers) == [201, 201, 409, 409]
        refused = next(answer for answer in answers if answer.status == 409)
        assert "Discard one" in assert_problem(refused, 409, "conflict")["detail"]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"image": "nothing"}, 400, "image"),
        ({}, 400, "image"),
        ({"image": 7}, 400, "image"),
        ({"image": "jupyterlab", "name": "x" * 101}, 400, "name"),
        ({"image": "jupyterlab", "name": "a\u0000b"}, 400, "name"),
        ({"image": "jupyterlab", "colour": "red"}, 400, "colour"),
    ],
)
async def test_bad_bodies_name_the_field(work, body, status, field):
    async with work.api() as api:
        assert_problem(await api.post("instances", json=body), status, "bad_request", field)


async def test_every_error_is_a_problem_document(work):
    async with work.api() as api, work.api("wrong") as stranger:
        assert_problem(await api.get("nothing"), 404)
        assert_problem(await api.get("instances/abcdefghij"), 404, "not_found")
        refused = await api.request("DELETE", "instances")
        assert_problem(refused, 405)
        assert "POST" in refused.headers["Allow"]
        text = {"Content-Type": "text/plain"}
        assert_problem(await api.post("instances", data="x", headers=text), 415)
        kind = {"Content-Type": "application/json"}
        assert_problem(await api.post("instances", data="{", headers=kind), 400)
        large = json.dumps({"image": "x" * 70_000})
        assert_problem(await api.post("instances", data=large, headers=kind), 413)
        unknown = await stranger.get("instances")
        assert_problem(unknown, 401, "unauthorized")
        assert unknown.headers["WWW-Authenticate"].startswith("Bearer")
        for lines in ("0", "x", "99999999999999999999"):
            made = (await api.post("instances", json={"image": "jupyterlab"})).json
            bad = await api.get(f"instances/{made['id']}/logs?lines={lines}")
            assert_problem(bad, 400, "bad_request", "lines")


async def test_row_1_other_peoples_instances_look_like_none(work):
    other = await work.person("other")
    async with work.api() as api, work.api(other) as stranger:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        nothing = await stranger.get("instances/abcdefghij")
        for path in (f"instances/{made}", f"instances/{made}/logs", f"instances/{made}/events"):
            hidden = await stranger.get(path)
            assert (hidden.status, hidden.json) == (nothing.status, nothing.json)
            assert "Only whoever started" in hidden.json["detail"]
        assert (await stranger.post(f"instances/{made}/discard")).status == 404
        assert (await stranger.get("instances")).json == []
        assert (await api.get(f"instances/{made}")).json["actions"] == ["discard"]


async def test_keys_are_for_admins(work):
    other = await work.person("other")
    async with work.api(other) as stranger:
        for answer in (
            await stranger.get("keys"),
            await stranger.post("keys/challenge", json={}),
            await stranger.post("keys/abc/revoke"),
        ):
            assert_problem(answer, 403, "insufficient_scope")


async def test_events_show_each_change_until_the_end(work):
    async with work.api() as api, work.scheduler() as scheduler:
        made = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        await scheduler.message(StartInstance)
        states = []
        seen = asyncio.Event()

        async def follow():
            url = f"{api.url}instances/{made}/events"
            async with api.session.get(url, headers=api.headers) as response:
                assert response.headers["Content-Type"].startswith("text/event-stream")
                async for line in response.content:
                    if line.startswith(b"data:"):
                        states.append(json.loads(line[5:])["state"])
                        seen.set()

        following = asyncio.create_task(follow())
        async with asyncio.timeout(10):
            for state in (State.STARTING, State.RUNNING, State.DISCARDING, State.DISCARDED):
                await seen.wait()
                seen.clear()
                await scheduler.report(made, state)
            await following
        assert states == ["created", "starting", "running", "discarding", "discarded"]


async def test_logs_are_asked_of_the_scheduler(work):
    async with work.api() as api, work.scheduler() as scheduler:
        instance, _ = await running_instance(work, scheduler)
        asking = asyncio.create_task(api.get(f"instances/{instance}/logs?lines=7"))
        request = await scheduler.message(RequestLogs)
        assert (request.instance, request.lines) == (instance, 7)
        await scheduler.tell(
            InstanceLogs(request=request.request, instance=instance, text="one\ntwo\n")
        )
        answer = await asking
        assert (answer.status, answer.text) == (200, "one\ntwo\n")


async def test_logs_that_do_not_arrive(work):
    await work.stop()
    work.with_config(limits=Limits(logs_s=0.2))
    await work.start()
    async with work.api() as api:
        async with work.scheduler() as scheduler:
            instance, _ = await running_instance(work, scheduler)
            assert_problem(await api.get(f"instances/{instance}/logs"), 504, "took_too_long")
        async with work.scheduler() as scheduler:
            scheduler.sequence[instance] = 0
            await scheduler.report(instance, State.ERRORED, "It ended.", log_tail="last words")
        assert (await api.get(f"instances/{instance}/logs")).text == "last words"


async def test_whoami(work):
    async with work.api() as api:
        assert (await api.get("whoami")).json == {
            "kind": "user",
            "id": "admin",
            "name": "Admin",
            "admin": True,
        }
    async with work.api(work.jwt("node-main")) as node:
        assert (await node.get("whoami")).json["name"] == "node-main"


async def test_bodies_that_are_cut_off_or_no_text(work, caplog):
    async with work.api() as api:
        kind = {"Content-Type": "application/json"}
        for body in (
            b"",
            b"\xff\xfe",
            b'{"image": "\\ud800"}',
            b"[]",
            b"null",
            b'"x"',
            b"{" * 50_000,
        ):
            assert_problem(await api.post("instances", data=body, headers=kind), 400)
    for length in (100, 100_000):
        reader, writer = await asyncio.open_connection("127.0.0.1", work.port)
        head = (
            f"POST /api/v1/instances HTTP/1.1\r\nHost: localhost:{work.port}\r\n"
            f"Authorization: Bearer {work.token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {length}\r\n\r\n"
        )
        writer.write(head.encode() + b'{"image": "jupyter')
        await writer.drain()
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
    async with work.api() as api:
        assert (await api.get("instances")).json == []
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


@pytest.mark.both_databases
async def test_lists_are_filtered_and_paged(work):
    async with work.api() as api, work.scheduler() as scheduler:
        for name in ("Zoë’s", "Plan B", "100%", "plan c"):
            work.clock.ahead += 1
            await api.post("instances", json={"image": "jupyterlab", "name": name})
        last = await scheduler.message(StartInstance)
        await scheduler.report(last.instance, State.STARTING)

        async def names(query):
            return [one["name"] for one in (await api.get(f"instances?{query}")).json]

        assert await names("q=plan") == ["plan c", "Plan B"]
        assert await names("q=%25") == ["100%"]
        assert await names("q=Zoe%CC%88") == ["Zoë’s"], "composed, as the name is kept"
        assert await names("q=_") == []
        assert await names("state=starting") == ["Zoë’s"]
        assert await names("image=nothing") == []
        assert len(await names("image=jupyterlab&state=created")) == 3
        first = await api.get("instances?limit=3&image=jupyterlab")
        assert len(first.json) == 3
        link = first.headers["Link"]
        assert "image=jupyterlab" in link
        assert link.endswith('>; rel="next"')
        rest = await api.get(link[1:].split(">")[0])
        assert [one["name"] for one in rest.json] == ["Zoë’s"]
        assert "Link" not in rest.headers


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("cursor=x", "cursor"),
        ("cursor=WzEsMl0", "cursor"),
        ("cursor=WzFlOTk5LCJhIl0", "cursor"),
        ("state=happy", "state"),
        ("all=maybe", "all"),
        ("q=" + "x" * 101, "q"),
        ("colour=red", "colour"),
        ("limit=1&limit=2", "limit"),
        ("cursor=WzEsIlx1MDAwMCJd", "cursor"),
        ("q=%00", None),
    ],
)
async def test_bad_queries_name_the_parameter(work, query, field):
    async with work.api() as api:
        assert_problem(await api.get(f"instances?{query}"), 400, "bad_request", field)


async def test_clusters_show_which_nodes_are_up(work):
    token = await work.person("max")
    async with work.api(token) as api:
        (alone,) = (await api.get("clusters")).json
        assert (alone["id"], alone["name"], alone["connected"]) == (
            "main",
            "scheduler-main",
            False,
        )
        assert alone["nodes"] == [{"id": "main", "name": "node-main", "state": "unknown"}]
        async with work.scheduler() as scheduler:
            for up, down, state in (
                (["node-main", "node-strange"], [], "up"),
                ([], ["node-main"], "down"),
            ):
                await scheduler.tell(ClusterState(nodes_up=up, nodes_down=down))
                (cluster,) = (await api.get("clusters")).json
                assert cluster["connected"] is True
                assert [node["state"] for node in cluster["nodes"]] == [state]
    async with work.api() as admin:
        (key,) = [key for key in (await admin.get("keys")).json if key["name"] == "node-main"]
        await admin.post(f"keys/{key['fingerprint']}/revoke")
        assert (await admin.get("clusters")).json[0]["nodes"] == []


@pytest.mark.both_databases
async def test_clusters_are_paged(work):
    for name in ("scheduler-b", "scheduler-a"):
        await work.enrol(name)
    async with work.api() as api:
        first = await api.get("clusters?limit=2")
        assert [cluster["id"] for cluster in first.json] == ["a", "b"]
        rest = await api.get(first.headers["Link"].partition(">")[0].removeprefix("<"))
        assert [cluster["id"] for cluster in rest.json] == ["main"]
        assert "Link" not in rest.headers


@pytest.mark.both_databases
async def test_keys_of_a_kind_and_in_force(work):
    await work.enrol("node-other")
    async with work.api() as api:
        whole = (await api.get("keys")).json
        (one,) = [key for key in whole if key["name"] == "node-other"]
        await api.post(f"keys/{one['fingerprint']}/revoke")

        async def names(query):
            return {key["name"] for key in (await api.get(f"keys?{query}")).json}

        assert await names("kind=node") == {"node-main", "node-other"}
        assert await names("kind=node&in_force=true") == {"node-main"}
        assert await names("in_force=false") == {"node-other"}
        assert await names("in_force=true") == {key["name"] for key in whole} - {"node-other"}
        for query, field in (("kind=nothing", "kind"), ("in_force=maybe", "in_force")):
            assert_problem(await api.get(f"keys?{query}"), 400, "bad_request", field)


@pytest.mark.both_databases
async def test_zero_bytes_are_no_reason_to_fail(work):
    """PostgreSQL stores none; an app may well write some."""
    async with work.api() as api, work.scheduler() as scheduler:
        token = "people/admin/tokens/%00/revoke"
        for path in ("instances/%00", "people/a%00b", "people?q=%00", token):
            method = "POST" if path.endswith("revoke") else "GET"
            assert_problem(await api.request(method, path), 400)
        assert_problem(
            await api.post("instances", json={"image": "a\0"}), 400, "bad_request", "image"
        )
        made = (await api.post("instances", json={"image": "jupyterlab"})).json["id"]
        await scheduler.report(made, State.ERRORED, "It \0 ended.", log_tail="last\0words")
        found = (await api.get(f"instances/{made}")).json
        assert (found["state"], found["info"]) == ("errored", "It \ufffd ended.")
        assert (await api.get(f"instances/{made}/logs")).text == "last\ufffdwords"
