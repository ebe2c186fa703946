"""``dit4c up`` as a process of its own, and clients that know nothing but its ready file."""

import asyncio
import html
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Self

import aiohttp
from aiohttp.abc import AbstractResolver
from yarl import URL

UP_S = 600  # the images may have to be built first
STOP_S = 10


def free_ports(count: int) -> list[int]:
    """Ports that nothing listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def dit4c(
    *arguments: str | Path, token: str = "", timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run the command line to its end; ``token`` goes into DIT4C_TOKEN."""
    command = [sys.executable, "-m", "dit4c_p2p", *map(str, arguments)]
    environment = {**os.environ, "DIT4C_TOKEN": token}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


class System:
    """One ``dit4c up`` with its own folder and ports; survives being killed and started again.

    As ``with`` it is started, and leaves nothing behind. ``options`` are passed on to it.
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self.options = options
        self.data = folder / "data"
        self.ready_file = folder / "ready.json"
        self.output = folder / "output.txt"
        self.ports = free_ports(5)
        self.process: subprocess.Popen[bytes] | None = None
        self.access: dict[str, str] = {}

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.end()

    def start(self) -> None:
        """Start it and wait for the ready file."""
        portal, router, router_ssh, images, files = map(str, self.ports)
        command = [
            *(sys.executable, "-m", "dit4c_p2p", "up"),
            *("--data-dir", str(self.data), "--ready-file", str(self.ready_file)),
            *("--portal-port", portal, "--router-port", router, "--router-ssh-port", router_ssh),
            *("--images-port", images, "--files-port", files),
            *self.options,
        ]
        self.ready_file.unlink(missing_ok=True)
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=output)
        deadline = time.monotonic() + UP_S
        while not self.ready_file.exists():
            if self.process.poll() is not None:
                raise AssertionError(f"dit4c up ended:\n{self.text()}")
            if time.monotonic() > deadline:
                raise AssertionError(f"dit4c up is not ready:\n{self.text()}")
            time.sleep(0.05)
        self.access = json.loads(self.ready_file.read_text())

    def kill(self) -> None:
        """``kill -9``."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> float:
        """SIGTERM; returns how many seconds it took."""
        assert self.process is not None
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=STOP_S + 20)
        return time.monotonic() - began

    def end(self) -> None:
        """Leave nothing behind, whatever has happened."""
        if self.process is not None and self.process.poll() is None:
            self.stop()
        down = dit4c("down", "--yes", "--data-dir", self.data)
        assert down.returncode == 0, down.stderr
        assert self.at_engine() == []

    def text(self) -> str:
        """What it said on the terminal, and the end of its log."""
        log = self.data / "dit4c.log"
        tail = log.read_text()[-6000:] if log.exists() else ""
        return f"{self.output.read_text()}\n{tail}"

    def at_engine(self, instance: str | None = None) -> list[str]:
        """Names of the containers, networks and volumes of this system, or of one instance."""
        label = f"label=dit4c.data-dir={self.data}"
        also = [] if instance is None else ["--filter", f"label=dit4c.instance={instance}"]
        found = []
        for what, name in (
            (["ps", "-a"], "{{.Names}}"),
            (["network", "ls"], "{{.Name}}"),
            (["volume", "ls"], "{{.Name}}"),
        ):
            command = ["docker", *what, "--filter", label, *also, "--format", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
            found += done.stdout.split()
        return sorted(found)

    def api(self) -> "Api":
        """A client of the HTTP API."""
        return Api(self.access["portal"], self.access["api_token"])


class Api:
    """The HTTP API with a token; use as ``async with``."""

    def __init__(self, portal: str, token: str) -> None:
        self._portal = portal
        self._headers = {"Authorization": f"Bearer {token}"}

    async def __aenter__(self) -> "Api":
        self._session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=30)
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def call(self, method: str, path: str, body: Any = None, *, expect: int = 200) -> Any:
        """One call; the decoded answer."""
        url = f"{self._portal}/api/v1/{path}"
        async with self._session.request(method, url, json=body) as response:
            text = await response.text()
            assert response.status == expect, f"{method} {path}: {response.status} {text}"
            return json.loads(text) if text else None

    async def logs(self, instance: str) -> str:
        """The end of the app's log."""
        url = f"{self._portal}/api/v1/instances/{instance}/logs"
        async with self._session.get(url) as response:
            assert response.status == 200
            return await response.text()

    async def start(self, image: str = "jupyterlab", name: str | None = None) -> str:
        """Start an instance; its id."""
        body = {"image": image} if name is None else {"image": image, "name": name}
        return str((await self.call("POST", "instances", body, expect=201))["id"])

    async def wait_for(
        self, instance: str, *states: str, url: bool = False, timeout: float = 90
    ) -> dict[str, Any]:
        """Poll until the instance is in one of ``states`` (and has its URL)."""
        seen: list[Any] = []
        async with asyncio.timeout(timeout):
            while True:
                found: dict[str, Any] = await self.call("GET", f"instances/{instance}")
                if not seen or seen[-1] != (found["state"], found["info"]):
                    seen.append((found["state"], found["info"]))
                if found["state"] in states and (found["url"] or not url):
                    return found
                assert found["state"] != "errored" or "errored" in states, seen
                await asyncio.sleep(0.05)

    async def discard(self, instance: str, timeout: float = 60) -> None:
        """Discard and wait until it is gone."""
        await self.call("POST", f"instances/{instance}/discard", expect=202)
        async with asyncio.timeout(timeout):
            while (await self.call("GET", f"instances/{instance}"))["state"] != "discarded":
                await asyncio.sleep(0.05)


class _ToLoopback(AbstractResolver):
    """Browsers resolve ``*.localhost`` by themselves; Python may not."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> Any:
        assert host == "localhost" or host.endswith(".localhost"), host
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET,
             "proto": 0, "flags": 0}
        ]  # fmt: skip

    async def close(self) -> None:
        return


def browser_session(*origins: str) -> aiohttp.ClientSession:
    """A session with a cookie jar that behaves as a browser's on ``http://*.localhost``."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(resolver=_ToLoopback()),
        cookie_jar=aiohttp.CookieJar(treat_as_secure_origin=[URL(origin) for origin in origins]),
        headers={"Accept": "text/html,application/xhtml+xml"},
        timeout=aiohttp.ClientTimeout(total=30),
    )


async def log_in(session: aiohttp.ClientSession, login_url: str) -> None:
    """Press the button of a one-time link."""
    async with session.get(login_url) as page:
        assert page.status == 200
        text = await page.text()
    fields = {}
    for tag in re.findall(r"<input[^>]+>", text):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if "name" in attributes:
            fields[attributes["name"]] = html.unescape(attributes.get("value", ""))
    action = re.search(r'<form[^>]+method="post"[^>]*action="([^"]*)"', text) or re.search(
        r'<form[^>]+action="([^"]*)"', text
    )
    target = URL(login_url).join(URL(html.unescape(action[1]))) if action else URL(login_url)
    origin = str(URL(login_url).origin())
    async with session.post(target, data=fields, headers={"Origin": origin}) as done:
        assert done.status == 200, await done.text()
