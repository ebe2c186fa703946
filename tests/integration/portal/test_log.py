"""What the portal's log says is what has happened: one line for each, once it is committed."""

import pytest
from lib.database_engines import commit_fails
from systems.portal import IMAGE, running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.portal.instances import instances, scheduler_link
from dit4c_p2p.portal.oauth import server
from dit4c_p2p.portal.services import accounts, people, tools

ABOUT = {
    f"dit4c_p2p.portal.{module}"
    for module in (
        "instances.instances",
        "accounts.people",
        "accounts.api_tokens",
        "tools",
        "oauth.server",
    )
}
TOOL = {"name": "rstudio", "title": "RStudio", "image": IMAGE, "unchecked": True}


@pytest.fixture
def said(caplog):
    """Ends what was said so far, and returns it."""
    caplog.set_level("INFO")

    def said():
        told = [record.getMessage() for record in caplog.records if record.name in ABOUT]
        caplog.clear()
        return told

    return said


async def test_what_people_do_is_in_the_log_once_it_is_done(work, said, monkeypatch):
    async with work.api() as api, work.scheduler() as scheduler, work.browser() as browser:
        await browser.log_in(await work.login_link())
        instance, _ = await running_instance(work, scheduler)
        await api.post("people", json={"name": "Max"})
        await api.request("PATCH", "people/max", json={"disabled": True})

        async def act():
            authorize = (
                f"/oauth/authorize?response_type=code&client_id=instance-{instance}&state=s"
                f"&code_challenge_method=S256&code_challenge={'a' * 43}"
                f"&redirect_uri=http://{instance}.localhost:8081/.dit4c/callback"
            )
            yield await browser.get(authorize)
            for method, path, body in (
                ("POST", f"instances/{instance}/stop", None),
                ("POST", f"instances/{instance}/discard", None),
                ("POST", "people", {"name": "Grace", "admin": True}),
                ("PATCH", "people/max", {"disabled": False}),
                ("PATCH", "people/grace", {"disabled": True}),
                ("POST", "people/admin/tokens", {"label": "Lab"}),
                ("POST", "tools", TOOL),
                ("PATCH", "tools/rstudio", {"offered": False}),
            ):
                yield await api.request(method, path, json=body)

        said()
        with monkeypatch.context() as patched:
            for module in (instances, people, tools, accounts, server):
                patched.setattr(module, "in_transaction", commit_fails)
            # Of Grace and of the tool there is nothing that could be changed.
            assert [answer.status async for answer in act()] == [503] * 5 + [404] + [503] * 2 + [
                404
            ]
        assert said() == []
        assert all([answer.status < 400 async for answer in act()])
        told = said()
        assert told.pop(6).startswith("token ")
        assert told == [
            f"instance-{instance}: code issued to admin",
            f"instance {instance}: asked to be stopped by admin",
            f"instance {instance}: discard asked for by admin",
            "person grace: invited by admin as an admin",
            "person max: enabled by admin",
            "person grace: disabled by admin",
            "tool rstudio: added by admin",
            "tool rstudio: changed by admin",
        ]


async def test_who_can_not_be_disabled_is_not_said_to_be(work, said):
    async with work.api() as api:
        said()
        refused = await api.request("PATCH", "people/admin", json={"disabled": True, "own": True})
        assert refused.status == 409
        assert said() == []


async def test_what_a_scheduler_says_is_in_the_log_once_it_is_written_down(work, said, monkeypatch):
    async with work.scheduler() as first:
        instance, _ = await running_instance(work, first)
        said()
        with monkeypatch.context() as patched, pytest.raises((ConnectionError, TimeoutError)):
            patched.setattr(scheduler_link, "in_transaction", commit_fails)
            await first.report(instance, State.STOPPING)
    assert said() == []
    async with work.scheduler() as again:
        again.sequence = {instance: first.sequence[instance]}
        await again.report(instance, State.STOPPING)
        await again.report(instance, State.STOPPING, "half way", progress=0.5)
        await again.report(instance, State.EXITED)
    assert said() == [f"instance {instance}: stopping", f"instance {instance}: exited"]
