"""Images and whole file systems in and out of the engine, as streams.

The same rules as for :mod:`dit4c_p2p.node.engine.client` hold; only a beginning has a time limit.
"""

import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from pathlib import PurePosixPath
from typing import Any

import aiodocker

from dit4c_p2p.engine_api import request
from dit4c_p2p.node.engine.client import Engine
from dit4c_p2p.node.errors import EngineError, EngineFull, EngineSaid, NotFound

_READ_BYTES = 1024**2
_MAX_SAID_CHARS = 1000
# The engine pauses the container and walks through all that it has written.
_COMMIT_S = 1800.0
# The engine unpacks what it was sent.
_LOAD_S = 3600.0


class ImageTransfer:
    """Moves images of one engine."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    async def container(self, id: str) -> dict[str, Any]:
        """A container as inspected, whole.

        :raises NotFound: it is not there.
        """
        return dict(await self._engine.request_json(f"containers/{id}/json"))

    async def images(self) -> list[dict[str, Any]]:
        """All images of the engine, as listed."""
        return list(await self._engine.request_json("images/json"))

    async def commit(self, id: str, name: str, tag: str, *, without: Sequence[str] = ()) -> str:
        """Make a stopped container's writable layer an image; returns its id.

        :param without: labels of the container's that are empty in the image: none can be left out.
        """
        params = {"container": id, "repo": name, "tag": tag, "pause": "false"}
        data = {"Labels": dict.fromkeys(without, "")} if without else {}
        made = await self._engine.request_json(
            "commit", method="POST", params=params, data=data, limit_s=_COMMIT_S
        )
        return str(made["Id"])

    async def remove(self, image: str) -> None:
        """Remove an image, or its name, if it exists.

        Its parents stay: an untagged one may be the image of a tool.
        """
        params = {"force": "1", "noprune": "1"}
        with contextlib.suppress(NotFound):
            await self._engine.request_json(f"images/{image}", method="DELETE", params=params)

    async def archive(self, image: str) -> AsyncGenerator[bytes, None]:
        """An image as ``docker save`` has it.

        :raises NotFound: it is not here.
        """
        async with self._engine.request_stream(f"images/{image}/get", {}) as response:
            async for data in response.content.iter_chunked(_READ_BYTES):
                yield data

    async def file_system(self, id: str) -> AsyncGenerator[bytes, None]:
        """A container's whole file system as a tar, without its volumes.

        :raises NotFound: it is not there.
        """
        async with self._engine.request_stream(f"containers/{id}/export", {}) as response:
            async for data in response.content.iter_chunked(_READ_BYTES):
                yield data

    async def copy_folder(self, source: str, target: str, path: str) -> None:
        """Copy a folder, owners and modes included, to its place in another container.

        Neither has to run. What the other has in that folder stays if the first has nothing there.

        :raises NotFound: there is no such folder.
        """
        where = {"path": path.rstrip("/")}
        async with self._engine.request_stream(f"containers/{source}/archive", where) as response:
            async with self._engine.limited(_LOAD_S):
                async with request(
                    self._engine.docker,
                    f"containers/{target}/archive",
                    "PUT",
                    params={"path": str(PurePosixPath(path).parent)},
                    data=response.content.iter_chunked(_READ_BYTES),
                    headers={"Content-Type": "application/x-tar"},
                ) as done:
                    await done.read()

    async def load(self, archive: AsyncIterator[bytes]) -> None:
        """Have the engine take an archive in.

        :raises EngineSaid: it refused, in its words.
        """
        async with self._engine.limited(_LOAD_S):
            async with request(
                self._engine.docker,
                "images/load",
                "POST",
                params={"quiet": "1"},
                data=archive,
                headers={"Content-Type": "application/x-tar"},
            ) as response:
                said = await response.text()
        for line in said.splitlines():
            with contextlib.suppress(ValueError):
                error = json.loads(line).get("error")
                if error and "no space left on device" in str(error).lower():
                    raise EngineFull(str(error)[:_MAX_SAID_CHARS])
                if error:
                    raise EngineSaid(str(error)[:_MAX_SAID_CHARS])

    async def feed(self, id: str, data: AsyncIterator[bytes]) -> None:
        """Write to the standard input of a container that runs, and close it.

        A container that ends before it has read everything is no error here.
        """
        container = aiodocker.containers.DockerContainer(self._engine.docker, id=id)
        async with self._engine.limited(None):
            stream = container.attach(stdin=True)
            try:
                async for block in data:
                    await stream.write_in(block)
            except (ConnectionError, AssertionError) as error:
                # What the container has said of it counts, and not the broken pipe.
                raise EngineError(f"a container stopped reading: {error}") from None
            finally:
                await stream.close()
