"""A machine whose engine restarts, that loses its power, whose agent is upgraded; as users see it.

Portal, scheduler, router and node agent are processes, and the agent has an engine of its own. The
app is a small web server, and its files are read the way its user reads them.
"""

import asyncio
import itertools
from contextlib import asynccontextmanager

import pytest
from systems.all_in_one import browser_session, log_in
from systems.four_processes import KINDS, UP, House
from systems.pods import docker, make_image
from systems.second_engine import SecondEngine

from dit4c_p2p.imagebuild import default_cache_folder, ensure_images
from dit4c_p2p.node.agent import remove_everything_of_node

pytestmark = [pytest.mark.engine, pytest.mark.root]

# security.md section 5: found again in 15 s; what went down is started again, with its helpers.
BACK_S = 60
HELPERS = ("infra", "listener", "auth")


class Machine(House):
    """A house whose node has an engine of its own."""

    def __init__(self, folder, engine):
        super().__init__(folder)
        self.engine = engine

    def write_node(self, images):
        """The agent's file; ``images`` are its helpers'."""
        lines = [f'{role} = "{image}"' for role, image in images.items()]
        tables = "\n".join(["[images]", *lines, "[pods]", 'network_range = "10.216.0.0/16"'])
        top = f'id = "home"\nengine = "{self.engine.url}"\n'
        self.write("node", f"{top}{self.portal_table}{tables}\n")

    def containers(self, instance):
        """``{role: (id, image)}``."""
        form = '{{index .Config.Labels "dit4c.role"}} {{.Id}} {{.Image}}'
        label = f"label=dit4c.instance={instance}"
        ids = self.engine.docker("ps", "-aq", "--filter", label).split()
        lines = self.engine.docker("inspect", "-f", form, *ids).splitlines()
        return {role: (id, image) for role, id, image in map(str.split, lines)}

    def end(self):
        try:
            self.stop_all()
        finally:
            asyncio.run(remove_everything_of_node(self.data("node"), self.engine.url))
        assert self.engine.docker("ps", "-aq") == ""


@pytest.fixture
def machine(tmp_path_factory):
    """All four run and are enrolled; the catalogue has one tool, ``web``."""
    # An engine's sockets are below its folder, and their paths may have 107 characters.
    folder = tmp_path_factory.mktemp("reboot")
    web = make_image(
        {"index.html": b"a page of the app"},
        'CMD ["httpd","-f","-p","8080","-h","/"]',
        "EXPOSE 8080",
        "ENV PATH=/bin",
    )
    try:
        with SecondEngine(folder / "engine") as engine:
            machine = Machine(folder / "house", engine)
            machine.folder.mkdir()
            made = asyncio.run(ensure_images(lambda *said: None, default_cache_folder(), tools=()))
            local = {role: getattr(made, role) for role in HELPERS}
            engine.copy(web, *local.values())
            machine.write_portal(f'[[tools]]\nname = "web"\ntitle = "Web"\nimage = "{web}"\n')
            machine.write_peers(machine.run("portal", "key", "--config", machine.file("portal")))
            machine.write_node(local)
            machine.run("portal", "init", "--config", machine.file("portal"))
            try:
                for kind in KINDS:
                    machine.start(kind)
                machine.wait_said("portal", "portal-main is up")
                for kind, id in (("router", "r1"), ("scheduler", "main"), ("node", "home")):
                    machine.enrol(kind, id)
                for kind in KINDS:
                    machine.wait_said(kind, UP)
                yield machine
            finally:
                machine.end()
    finally:
        docker("rmi", "-f", web)


class Row:
    """What a user sees of an instance: each state with its sentence, in their order."""

    def __init__(self, api, instance):
        self._api, self._instance = api, instance
        self.seen = []

    @asynccontextmanager
    async def watched(self):
        """All that happens meanwhile is in :attr:`seen`."""
        task = asyncio.create_task(self._watch())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _watch(self):
        while True:
            now = await self._api.call("GET", f"instances/{self._instance}")
            if (said := (now["state"], now["info"])) not in self.seen[-1:]:
                self.seen.append(said)
            await asyncio.sleep(0.02)

    async def back(self):
        """Until it runs again, and says so; what its user was told until then."""
        async with asyncio.timeout(BACK_S):
            while len(self.seen) < 2 or "started again" not in self.seen[-1][1]:
                await asyncio.sleep(0.05)
        assert self.seen[-1][0] == "running"
        return self.seen


def says_down(state, info):
    """Whether a row tells its user that the app can't be used, because of its machine."""
    return (state == "starting" and "went down" in info) or info.startswith("Not reachable since")


@asynccontextmanager
async def user(machine, url):
    """Somebody with a browser who is logged in at the portal and looks at that address."""
    link = machine.run("login-link", "admin", "--config", machine.file("portal"))
    async with browser_session(machine.url, url) as browser:
        await log_in(browser, link)
        yield browser


async def page(browser, url):
    """What a page of the app has, to the browser that had logged in.

    The listener may be a moment late: the router's page says so then, and tries again by itself.
    """
    async with asyncio.timeout(BACK_S):
        while True:
            async with browser.get(url) as answer:
                text = await answer.text()
                if answer.status != 503 or "Retry-After" not in answer.headers:
                    assert answer.status == 200, text
                    return text
            await asyncio.sleep(0.2)


async def engine_restart(machine):
    await asyncio.to_thread(machine.engine.stop)
    await asyncio.to_thread(machine.engine.start)


async def power_cut(machine):
    machine.kill("node")
    await asyncio.to_thread(machine.engine.cut_power)
    await asyncio.to_thread(machine.engine.start)
    machine.start("node")


async def upgrade(machine, images):
    machine.kill("node")
    machine.write_node(images)
    await asyncio.to_thread(machine.restart, "node")


async def test_engine_restart_power_cut_and_upgrade_as_their_user_sees_them(machine):
    async with machine.api() as api:
        instance = await api.start("web")
        url = (await api.wait_for(instance, "running", url=True))["url"]
        async with user(machine, url) as browser:
            app = f"dit4c-{instance}-app"
            machine.engine.docker("exec", app, "sh", "-c", "echo kept > /work")
            assert await page(browser, f"{url}work") == "kept\n"

            for goes_down in (engine_restart, power_cut):
                async with Row(api, instance).watched() as row:
                    await goes_down(machine)
                    seen = await row.back()
                assert any(says_down(*one) for one in seen), seen
                # An agent that was cut off itself may have started the app before it is heard of.
                if goes_down is engine_restart:
                    states = [state for state, _ in itertools.groupby(seen, lambda one: one[0])]
                    assert states == ["running", "starting", "running"], seen
                again = await api.wait_for(instance, "running", url=True)
                assert again["url"] == url
                assert await page(browser, f"{url}work") == "kept\n"

            before = machine.containers(instance)
            newer = {role: machine.engine.another(before[role][1]) for role in HELPERS}
            await upgrade(machine, newer)
            assert await page(browser, f"{url}work") == "kept\n"
            other = await api.start("web")
            await api.wait_for(other, "running", url=True)
            assert {role: machine.containers(other)[role][1] for role in HELPERS} == newer
            assert machine.containers(instance) == before, "what runs is left alone"

            await api.call("POST", f"instances/{instance}/stop", expect=202)
            await api.wait_for(instance, "exited")
            await api.call("POST", f"instances/{instance}/start", expect=202)
            await api.wait_for(instance, "running", url=True)
            after = machine.containers(instance)
            assert [after[role][1] for role in ("listener", "auth")] == [
                newer["listener"],
                newer["auth"],
            ]
            assert (after["app"], after["infra"]) == (before["app"], before["infra"])
            assert await page(browser, f"{url}work") == "kept\n"
        for one in (instance, other):
            await api.discard(one)
