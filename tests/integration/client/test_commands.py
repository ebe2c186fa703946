"""The command line against a real portal: logged in by a code, instances, exit codes."""

import asyncio
import json
import os
import re
import sys

import pytest
from systems.portal import answers_on, hidden_fields, running_instance

from dit4c_p2p.messages.instances import State
from dit4c_p2p.messages.link import DiscardInstance, StartAgain, StartInstance, StopInstance

# What is tested is the command line; the database makes no difference.
pytestmark = pytest.mark.parametrize("engine", ["sqlite"], indirect=True)
LIMIT_S = 30


class Done:
    """How a command has ended."""

    def __init__(self, status: int, out: str, notes: str) -> None:
        self.status = status
        self.out = out
        self.notes = notes

    @property
    def json(self):
        return json.loads(self.out)


class Terminal:
    """Somebody's terminal, with a home of its own."""

    def __init__(self, work, home) -> None:
        self.work = work
        self.home = home
        self.file = home / "dit4c" / "credentials.json"

    async def begin(self, *arguments, **environ):
        """A command that runs."""
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "dit4c_p2p", *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={"PATH": os.environ["PATH"], "HOME": str(self.home),
                 "XDG_CONFIG_HOME": str(self.home), **environ},
        )  # fmt: skip

    async def run(self, *arguments, **environ) -> Done:
        """A command to its end."""
        process = await self.begin(*arguments, **environ)
        async with asyncio.timeout(LIMIT_S):
            out, notes = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), notes.decode())

    async def log_in(self, answer="approve", person="admin") -> Done:
        """``dit4c login``, and the person's answer in a browser."""
        process = await self.begin("login", self.work.url)
        assert process.stderr is not None
        notes = ""
        async with asyncio.timeout(LIMIT_S):
            while not (found := re.search(r"\b([A-Z]{4}-[A-Z]{4})\b", notes)):
                line = (await process.stderr.readline()).decode()
                assert line, notes
                notes += line
            async with self.work.browser() as browser:
                await browser.log_in(await self.work.login_link(person))
                csrf = hidden_fields((await browser.get("/account")).text)["csrf"]
                await browser.submit("/device/decide", csrf=csrf, user_code=found[1], answer=answer)
            out, rest = await process.communicate()
        assert process.returncode is not None
        return Done(process.returncode, out.decode(), notes + rest.decode())


@pytest.fixture
def terminal(work, tmp_path):
    return Terminal(work, tmp_path / "home")


async def test_logged_in_by_a_code_and_out_again(work, terminal):
    assert (await terminal.run("whoami")).status == 3
    done = await terminal.log_in()
    assert done.status == 0, done.notes
    assert f"Logged in to {work.url} as admin." in done.notes
    assert done.out == ""
    assert terminal.file.stat().st_mode & 0o777 == 0o600
    token = json.loads(terminal.file.read_text())["portals"][work.url]["token"]
    assert token not in done.notes
    who = await terminal.run("whoami", "-o", "json")
    assert who.json == {
        "kind": "user", "id": "admin", "name": "Admin", "admin": False, "portal": work.url,
    }  # fmt: skip
    out = await terminal.run("logout")
    assert (out.status, "could not be told" in out.notes) == (0, False)
    assert (await terminal.run("whoami")).status == 3
    async with work.api(token) as api:
        assert (await api.get("whoami")).status == 401


async def test_refused_in_the_browser(work, terminal):
    done = await terminal.log_in(answer="deny")
    assert (done.status, "refused in the browser" in done.notes) == (3, True)
    assert not terminal.file.exists()


async def test_from_start_to_discard(work, terminal):
    environ = {"DIT4C_PORTAL": work.url, "DIT4C_TOKEN": work.token}
    listed = await terminal.run("tools", **environ)
    assert "jupyterlab  JupyterLab  Notebooks, in a browser." in listed.out
    async with work.scheduler() as scheduler:
        starting = asyncio.create_task(
            terminal.run("start", "jupyterlab", "--name", "Zoë’s 工作", **environ)
        )
        start = await scheduler.message(StartInstance)
        key = await scheduler.allocate(start)
        await scheduler.report(start.instance, State.RUNNING, node="node-main")
        await answers_on(work, start.instance, key)
        done = await starting
        assert (done.status, done.out) == (0, f"http://{start.instance}.localhost:8081/\n")
        assert "running: Ready to use." in done.notes

        one = (await terminal.run("list", "-o", "json", **environ)).json
        assert [(it["id"], it["state"]) for it in one] == [(start.instance, "running")]
        shown = await terminal.run("show", "Zoë’s 工作", **environ)
        assert f"Id       {start.instance}" in shown.out
        opened = await terminal.run("open", start.instance, "--no-browser", **environ)
        assert opened.out == done.out
        renamed = await terminal.run("rename", "Zoë’s 工作", "Mine", **environ)
        assert (renamed.status, "is called Mine now" in renamed.notes) == (0, True)

        stopped = await terminal.run("stop", "Mine", **environ)
        assert (stopped.status, f"Stopping Mine ({start.instance})." in stopped.notes) == (0, True)
        await scheduler.message(StopInstance)
        await scheduler.report(start.instance, State.EXITED)
        assert (await terminal.run("open", "Mine", **environ)).status == 5
        again = asyncio.create_task(terminal.run("start", "Mine", "-o", "json", **environ))
        await scheduler.message(StartAgain)
        await scheduler.report(start.instance, State.RUNNING, node="node-main")
        await answers_on(work, start.instance, key)
        assert (await again).json["state"] == "running"

        asked = await terminal.run("discard", "Mine", **environ)
        assert (asked.status, "nobody is there to be asked" in asked.notes) == (1, True)
        gone = await terminal.run("discard", "Mine", "--yes", **environ)
        assert gone.status == 0
        await scheduler.message(DiscardInstance)
        await scheduler.report(start.instance, State.DISCARDED)
    empty = await terminal.run("list", **environ)
    assert (empty.status, empty.out, "no instances" in empty.notes) == (0, "", True)


async def test_a_start_that_fails_says_why(work, terminal):
    environ = {"DIT4C_PORTAL": work.url, "DIT4C_TOKEN": work.token}
    async with work.scheduler() as scheduler:
        starting = asyncio.create_task(terminal.run("start", "jupyterlab", **environ))
        start = await scheduler.message(StartInstance)
        await scheduler.report(start.instance, State.ERRORED, "The image is damaged.")
        done = await starting
    assert (done.status, done.out) == (5, "")
    assert "JupyterLab did not start: The image is damaged" in done.notes


async def test_the_log_until_the_instance_ends(work, terminal):
    environ = {"DIT4C_PORTAL": work.url, "DIT4C_TOKEN": work.token}
    async with work.scheduler() as scheduler:
        id, _ = await running_instance(work, scheduler)
        tail = "one\ntwo\nthree\n"
        await scheduler.report(id, State.ERRORED, "It ended.", log_tail=tail)
        shown = await terminal.run("logs", id, **environ)
        assert shown.out == tail
        followed = await terminal.run("logs", "-f", id, **environ)
        assert (followed.status, followed.out) == (0, tail)
        assert "has ended" in followed.notes
        as_json = await terminal.run("logs", id, "-o", "json", **environ)
        assert as_json.json == {"text": tail}


async def test_errors_have_their_exit_codes_and_no_traceback(work, terminal):
    environ = {"DIT4C_PORTAL": work.url, "DIT4C_TOKEN": work.token}
    async with work.api() as api:
        for _ in range(2):
            await api.post("instances", json={"image": "jupyterlab", "name": "Twice"})
        for number in range(50):
            made = await api.post("instances", json={"image": "jupyterlab", "name": f"I{number}"})
            if made.status != 201:
                break
        assert made.status in (409, 429), "a limit is reached"
    wrong = {**environ, "DIT4C_TOKEN": "wrong"}
    for arguments, more, status, words in (
        ((), environ, 2, "COMMAND"),
        (("logs", "x", "-n", "0"), environ, 2, "1 to 2000"),
        (("list",), {}, 3, "Run: dit4c login"),
        (("list",), wrong, 3, "not in force"),
        (("show", "nothing"), environ, 4, "no instance 'nothing'"),
        (("show", "../people"), environ, 4, "no instance"),
        (("stop", "I0", "nothing"), environ, 4, "no instance 'nothing'"),
        (("show", "Twice"), environ, 4, "give an id"),
        (("start", "nothing"), environ, 4, "tools are: jupyterlab"),
        (("start", "jupyterlab", "--no-wait"), environ, 5, "may"),
        (("stop", "I0"), environ, 5, "can't be stopped now"),
        (("rename", "I0", ""), environ, 1, "at least one letter"),
        (("list", "--portal", "http://portal.example.org"), environ, 1, "unprotected"),
        (("list", "--portal", "https://user:pw@x"), environ, 1, "is not a portal's URL"),
        (("list", "--portal", "http://127.0.0.1:9"), environ, 6, "does not answer"),
    ):
        done = await terminal.run(*arguments, **more)
        assert done.status == status, (arguments, done.notes)
        assert words.lower() in done.notes.lower(), (arguments, done.notes)
        assert "Traceback" not in done.notes
        assert done.out == ""


async def test_credentials_that_others_may_read_are_not_used(work, terminal):
    terminal.file.parent.mkdir(parents=True)
    for content, mode, words in (
        ("{}", 0o644, "others may read"),
        ("{", 0o600, "is not what this program has written"),
        ('{"portals": []}', 0o600, "is not what this program has written"),
    ):
        terminal.file.write_text(content)
        terminal.file.chmod(mode)
        done = await terminal.run("list")
        assert (done.status, words in done.notes) == (1, True), done.notes


@pytest.mark.parametrize("shell", ["bash", "zsh"])
async def test_completion_for_a_shell(work, terminal, shell):
    done = await terminal.run("completion", shell)
    assert done.status == 0
    for word in ("discard", "--no-wait", "whoami"):
        assert word in done.out
    if shell == "bash":
        check = "source /dev/stdin; COMP_WORDS=(dit4c disc); COMP_CWORD=1; "
        check += "_shtab_dit4c; echo ${COMPREPLY[@]}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", check,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, _ = await process.communicate(done.out.encode())
        assert out.decode().split() == ["discard"]
