"""A registry of the test's own (Debian's docker-registry), and a line to it that can be slow."""

import asyncio
import base64
import json
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from pathlib import Path

from systems.pods import docker

_UP_S = 20
NAME, PASSWORD = "node", "only a test's"
# bcrypt, which is all that this registry takes.
_HASH = "$2b$04$abcdefghijklmnopqrstuu8YumtW3VcCiLYSWrpGuB6FEUQR1NzmC"


class RegistryProcess:
    """``with RegistryProcess(folder) as registry``: Debian's docker-registry, at ``address``.

    :param deletes: blobs and manifests can be deleted.
    :param more: further lines of its configuration.
    """

    def __init__(self, folder: Path, *, deletes: bool = False, more: str = "") -> None:
        self._folder, self._deletes, self._more = folder, deletes, more

    def __enter__(self) -> "RegistryProcess":
        program = shutil.which("docker-registry")
        assert program, "the tests need Debian's docker-registry"
        self.address = f"127.0.0.1:{_free_port()}"
        config = self._folder / "registry.yml"
        config.write_text(
            f"version: 0.1\n"
            f"storage: {{filesystem: {{rootdirectory: {self._folder}/blobs}}, "
            f"delete: {{enabled: {str(self._deletes).lower()}}}}}\n"
            f"http: {{addr: '{self.address}'}}\n" + self._more
        )
        self._process = subprocess.Popen(
            [program, "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        end = time.monotonic() + _UP_S
        while not self._answers():
            assert time.monotonic() < end, "docker-registry does not answer"
            time.sleep(0.1)
        return self

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.wait(10)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=2)
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return True


class ImageRegistry:
    """``async with ImageRegistry(folder)``: on loopback, where engines speak plain HTTP to it.

    ``behind`` is the registry itself, ``address`` the line to it. ``rate`` is in bytes a second,
    None for as fast as can be; ``open`` counts the connections.

    :param deletes: blobs and manifests can be deleted.
    :param closed: it serves only who logs in with :data:`NAME` and :data:`PASSWORD`; ``logins`` is
        a file that says them as docker login would.
    """

    def __init__(
        self,
        folder: Path,
        *,
        closed: bool = False,
        deletes: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        self.folder = folder
        self._deletes = deletes
        self.logins = folder / "docker" / "config.json"
        self._closed = closed
        self._host = host
        self.rate: int | None = None
        self.open = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> "ImageRegistry":
        self._process = RegistryProcess(self.folder, deletes=self._deletes, more=self._doorkeeper())
        await asyncio.to_thread(self._process.__enter__)
        self.behind = self._process.address
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        self.address = f"{self._host}:{self._server.sockets[0].getsockname()[1]}"
        self.log_in(NAME, PASSWORD)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()
        await asyncio.to_thread(self._process.__exit__)

    async def close(self) -> None:
        """Nobody reaches it any more."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def log_in(self, name: str, password: str) -> None:
        """Write ``logins``, as docker login does."""
        auth = base64.b64encode(f"{name}:{password}".encode()).decode()
        self.logins.parent.mkdir(exist_ok=True)
        self.logins.touch(0o600)
        self.logins.write_text(json.dumps({"auths": {self.address: {"auth": auth}}}))

    async def push(self, image: str, name: str) -> str:
        """Put an image of the machine's engine there, and its layers away from the engine.

        Returns its reference by digest.
        """
        tag = f"{self.address}/{name}:latest"
        await asyncio.to_thread(docker, "tag", image, tag)
        await asyncio.to_thread(docker, "--config", str(self.logins.parent), "push", tag)
        digests = await asyncio.to_thread(
            docker, "inspect", "-f", '{{join .RepoDigests " "}}', image
        )
        await asyncio.to_thread(docker, "rmi", "--no-prune", tag)
        (reference,) = (one for one in digests.split() if one.startswith(f"{self.address}/{name}@"))
        return reference

    def _doorkeeper(self) -> str:
        if not self._closed:
            return ""
        passwords = self.folder / "htpasswd"
        passwords.write_text(f"{NAME}:{_HASH}\n")
        return f"auth: {{htpasswd: {{realm: tests, path: '{passwords}'}}}}\n"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._join(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self.behind.split(":"))
        self.open += 1
        both = [
            asyncio.create_task(self._pump(reader, far_writer)),
            asyncio.create_task(self._pump(far_reader, writer)),
        ]
        try:
            # Whichever side ends, ends both: an engine that gives up closes its side.
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.open -= 1
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            far_writer.close()
            writer.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(16384):
            if self.rate is not None:
                await asyncio.sleep(len(data) / self.rate)
            writer.write(data)
            await writer.drain()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
