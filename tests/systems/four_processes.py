"""Portal, scheduler, router and node as four processes, each from its own TOML file."""

import asyncio
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
from prometheus_client.parser import text_string_to_metric_families
from systems.all_in_one import Api, dit4c, free_ports

KINDS = ("portal", "scheduler", "router", "node")
STOP_S = 10
# What each says when it serves.
UP = " is up"
# A first start makes a database, and looks whether the images have changed.
UP_S = 120
ENDS_S = 60


def bridge() -> str:
    """The engine's address on its bridge, by which pods reach this machine."""
    form = "{{(index .IPAM.Config 0).Gateway}}"
    done = subprocess.run(
        ["docker", "network", "inspect", "bridge", "-f", form],
        capture_output=True, text=True, check=True, timeout=30,
    )  # fmt: skip
    return done.stdout.strip() or "172.17.0.1"


class House:
    """An installation on loopback and the engine's bridge, in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.portal_port, self.router_port, self.ssh_port, *observed = free_ports(3 + len(KINDS))
        self._observed = dict(zip(KINDS, observed, strict=True))
        self.url = f"http://localhost:{self.portal_port}"
        self.token = ""
        self.portal_table = ""
        self.processes: dict[str, subprocess.Popen[bytes]] = {}

    # ---- files

    def file(self, kind: str) -> Path:
        return self.folder / f"{kind}.toml"

    def data(self, kind: str) -> Path:
        return self.folder / kind

    def write(self, kind: str, text: str) -> None:
        self.file(kind).write_text(
            f'kind = "{kind}"\ndata_folder = "{self.data(kind)}"\n'
            f'observe = {{listen = "127.0.0.1:{self._observed[kind]}"}}\n{text}',
            encoding="utf-8",
        )

    def write_portal(self, tools: str = "") -> None:
        here = bridge()
        self.write(
            "portal",
            f"""
url = "{self.url}"
listen = ["127.0.0.1:{self.portal_port}", "{here}:{self.portal_port}"]
connect = ["{here}:{self.portal_port}"]
user_url = "http://{{id}}.localhost:{self.router_port}/"
[[routers]]
id = "r1"
ssh = ["{here}:{self.ssh_port}"]
http = ["{here}:{self.router_port}"]
{tools}""",
        )

    def write_peers(self, key: str) -> None:
        self.portal_table = portal = f"""
[portal]
url = "{self.url}"
key = "{key}"
connect = ["127.0.0.1:{self.portal_port}"]
"""
        here = bridge()
        self.write("scheduler", f'nodes = ["home"]\n{portal}')
        self.write(
            "router",
            f"""
id = "r1"
listen = ["127.0.0.1:{self.router_port}", "{here}:{self.router_port}"]
listen_ssh = ["127.0.0.1:{self.ssh_port}", "{here}:{self.ssh_port}"]
{portal}""",
        )
        self.write("node", f'id = "home"\n{portal}\n[policy]\nmemory = "1 GiB"\n')

    # ---- commands

    def run(self, *arguments: str | Path) -> str:
        """Run ``dit4c`` to its end; what it has printed."""
        done = dit4c(*arguments, timeout=900)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def enrol(self, kind: str, id: str) -> None:
        """As an admin and an owner do it who sit at two machines."""
        portal = ("--config", self.file("portal"))
        nonce = self.run("key", "challenge", kind, id, *portal)
        proof = self.run(kind, "prove", nonce, "--config", self.file(kind))
        said = self.run("key", "add", kind, id, "--proof", proof, *portal)
        assert f"for {kind}-{id}" in said

    def api(self) -> Api:
        """The HTTP API with an admin's token."""
        if not self.token:
            portal = ("--config", self.file("portal"))
            self.token = self.run("token", "create", "admin", "--admin", "--label", "t", *portal)
        return Api(self.url, self.token)

    # ---- processes

    def log(self, kind: str) -> Path:
        return self.folder / f"{kind}.log"

    def command(self, kind: str) -> list[str]:
        """What is run for one of the processes."""
        return [kind, "run", "--config", str(self.file(kind))]

    def start(self, kind: str) -> None:
        """Start it; does not wait."""
        with self.log(kind).open("ab") as log:
            self.processes[kind] = subprocess.Popen(
                [sys.executable, "-m", "dit4c_p2p", *self.command(kind)],
                stdout=log, stderr=log,
            )  # fmt: skip

    def wait_said(self, kind: str, words: str, *, times: int = 1) -> None:
        """Until its log has these words so many times."""
        deadline = time.monotonic() + UP_S
        while self.log(kind).read_text().count(words) < times:
            assert self.processes[kind].poll() is None, self.log(kind).read_text()
            assert time.monotonic() < deadline, self.log(kind).read_text()
            time.sleep(0.05)

    async def look(self, kind: str, page: str) -> tuple[int | None, str]:
        """The status of one of its pages for health and figures, and what it says.

        None while nothing listens there.
        """
        url = f"http://127.0.0.1:{self._observed[kind]}{page}"
        try:
            async with aiohttp.ClientSession() as session:
                async with session.get(url) as answer:
                    return answer.status, await answer.text()
        except aiohttp.ClientConnectorError:
            return None, ""

    async def wait_seen(self, kind: str, page: str, status: int) -> str:
        """Until a page has this status; what it says."""
        said = ""
        try:
            async with asyncio.timeout(UP_S):
                while True:
                    found, said = await self.look(kind, page)
                    if found == status:
                        return said
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise AssertionError(f"{kind}'s {page} is not {status}: {said}") from None

    async def checks(self, kind: str, status: int) -> dict[str, str]:
        """What its page of readiness says is wrong, by check, once it has this status."""
        said = json.loads(await self.wait_seen(kind, "/readyz", status))["components"][kind]
        return {name: check["text"] for name, check in said.items() if not check["ok"]}

    async def figures(self, kind: str) -> dict[tuple[str, ...], float]:
        """Its figures, by name and values of labels."""
        _, text = await self.look(kind, "/metrics")
        return {
            (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def kill(self, kind: str) -> None:
        """``kill -9``."""
        process = self.processes.pop(kind)
        process.kill()
        process.wait()

    def restart(self, kind: str) -> None:
        """Start it again and wait until it is up."""
        before = self.log(kind).read_text().count(UP)
        self.start(kind)
        self.wait_said(kind, UP, times=before + 1)

    def ended(self, kind: str) -> int:
        """Wait until it ends by itself; its exit status."""
        status = self.processes[kind].wait(timeout=ENDS_S)
        del self.processes[kind]
        return status

    def stop(self, kind: str) -> int:
        """SIGTERM; its exit status, -9 if it had to be killed for it did not end in time."""
        process = self.processes.pop(kind)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            return process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()

    def stop_all(self) -> None:
        """Stop what runs: none of them is left, and then each has to have ended as it should."""
        ended = {kind: self.stop(kind) for kind in list(self.processes)}
        for kind, status in ended.items():
            assert status == 0, f"{kind}: {status}\n{self.log(kind).read_text()}"

    def end(self) -> None:
        """Leave nothing behind, whatever has happened."""
        try:
            self.stop_all()
        finally:
            self.run("down", "--yes", "--data-dir", self.data("node"))
        assert self.at_engine() == []

    def at_engine(self) -> list[str]:
        """Names of the containers, networks and volumes of this installation."""
        found = []
        for what, name in (
            (["ps", "-a"], "{{.Names}}"),
            (["network", "ls"], "{{.Name}}"),
            (["volume", "ls"], "{{.Name}}"),
        ):
            label = f"label=dit4c.data-dir={self.data('node')}"
            done = subprocess.run(
                ["docker", *what, "--filter", label, "--format", name],
                capture_output=True, text=True, check=True, timeout=60,
            )  # fmt: skip
            found += done.stdout.split()
        return sorted(found)
