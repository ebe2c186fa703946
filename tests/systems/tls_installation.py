"""An installation by HTTPS, with an authority of its own that only its peers and pods believe."""

import os
import socket
import subprocess
import uuid
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver
from lib.certificates import Authority
from systems.all_in_one import Api, free_ports
from systems.four_processes import House, bridge


class ToLoopback(AbstractResolver):
    """Every host of the test is on this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> Any:
        assert host.endswith(".test"), host
        return [
            {"hostname": host, "host": "127.0.0.1", "port": port, "family": socket.AF_INET,
             "proto": 0, "flags": 0}
        ]  # fmt: skip

    async def close(self) -> None:
        return


class TlsHouse(House):
    """Portal at ``portal_host``, instances below ``user_domain``."""

    def __init__(self, folder: Path, portal_host: str, user_domain: str) -> None:
        super().__init__(folder)
        self.authority = Authority(folder / "authority")
        self.portal_host, self.user_domain = portal_host, user_domain
        self.url = f"https://{portal_host}:{self.portal_port}"
        self.portal_redirect, self.router_redirect = free_ports(2)

    def user_url(self, instance: str) -> str:
        return f"https://{instance}.{self.user_domain}:{self.router_port}/"

    def run(self, *arguments: str | Path) -> str:
        """Commands have no file that names the authority; components have, and don't get this."""
        os.environ["SSL_CERT_FILE"] = str(self.authority.file)
        try:
            return super().run(*arguments)
        finally:
            del os.environ["SSL_CERT_FILE"]

    def write_portal(self, tools: str = "") -> None:
        here = bridge()
        files = self.authority.files("portal", self.portal_host)
        self.write(
            "portal",
            f"""
url = "{self.url}"
listen_tls = ["127.0.0.1:{self.portal_port}", "{here}:{self.portal_port}"]
redirect = ["127.0.0.1:{self.portal_redirect}"]
connect = ["{here}:{self.portal_port}"]
user_url = "{self.user_url("{id}")}"
tls = {{certificate = "{files.certificate}", key = "{files.key}"}}
[[routers]]
id = "r1"
ssh = ["{here}:{self.ssh_port}"]
http = ["{here}:{self.router_port}"]
{tools}""",
        )

    def write_peers(self, key: str) -> None:
        portal = f"""
[portal]
url = "{self.url}"
key = "{key}"
connect = ["127.0.0.1:{self.portal_port}"]
ca_file = "{self.authority.file}"
"""
        here = bridge()
        files = self.authority.files("router", f"*.{self.user_domain}")
        self.write("scheduler", f'nodes = ["home"]\n{portal}')
        self.write(
            "router",
            f"""
id = "r1"
listen_tls = ["127.0.0.1:{self.router_port}", "{here}:{self.router_port}"]
redirect = ["127.0.0.1:{self.router_redirect}"]
listen_ssh = ["127.0.0.1:{self.ssh_port}", "{here}:{self.ssh_port}"]
tls = {{certificate = "{files.certificate}", key = "{files.key}"}}
{portal}""",
        )
        self.write("node", f'id = "home"\n{portal}\n[policy]\nmemory = "1 GiB"\n')

    def begin(self) -> None:
        """Start all four and enrol the peers."""
        kinds = ("portal", "scheduler", "router", "node")
        for kind in kinds:
            self.start(kind)
        self.wait_said("portal", "portal-main is up")
        for kind, id in (("router", "r1"), ("scheduler", "main"), ("node", "home")):
            self.enrol(kind, id)
        for kind in kinds:
            self.wait_said(kind, " is up")

    def session(self, **more: Any) -> aiohttp.ClientSession:
        """A client that finds the test's hosts and believes its authority."""
        connector = aiohttp.TCPConnector(resolver=ToLoopback(), ssl=self.authority.client())
        return aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=30), **more
        )

    def api(self) -> Api:
        return _Api(self, super().api())

    def login_link(self) -> str:
        return self.run("login-link", "admin", "--config", self.file("portal"))


class _Api(Api):
    def __init__(self, house: TlsHouse, plain: Api) -> None:
        super().__init__(house.url, "")
        self._headers = plain._headers
        self._house = house

    async def __aenter__(self) -> "_Api":
        self._session = self._house.session(headers=self._headers)
        return self


class Image:
    """An image made of ours and a Python program, which listens on 8000; removed afterwards."""

    def __init__(self, program: str) -> None:
        self._tag = f"dit4c-test/app:{uuid.uuid4().hex[:12]}"
        self._program = program

    def __enter__(self) -> str:
        """Its digest."""
        lines = ["FROM dit4c/base:local", "EXPOSE 8000"]
        lines.append(f"RUN echo {self._program.encode().hex()} | python3 -c "
                     "'import sys; sys.stdout.buffer.write(bytes.fromhex(sys.stdin.read()))' "
                     "> /app.py")  # fmt: skip
        lines.append('CMD ["python3", "/app.py"]')
        built = subprocess.run(
            ["docker", "build", "--network=none", "-q", "-t", self._tag, "-"],
            input="\n".join(lines), capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert built.returncode == 0, built.stderr
        return built.stdout.strip()

    def __exit__(self, *error: object) -> None:
        subprocess.run(
            ["docker", "image", "rm", "-f", self._tag], capture_output=True, check=False, timeout=60
        )
