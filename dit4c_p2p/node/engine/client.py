"""Client of the container engine; the only module that talks to it.

Each call has a time limit and raises only :class:`EngineError` with its subclasses
:class:`NotFound`, :class:`Conflict` and :class:`EngineFull`. Removing an object that does not exist
succeeds. Calls may run concurrently.
"""

import asyncio
import contextlib
import io
import json
import logging
import tarfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from types import TracebackType
from typing import Any, Self

import aiodocker
import aiohttp
from aiohttp.http_exceptions import HttpProcessingError, LineTooLong

from dit4c_p2p.engine_api import request
from dit4c_p2p.node.errors import Conflict, EngineError, EngineFull, EngineSaid, NotFound
from dit4c_p2p.node.pods.spec import Definition, filters
from dit4c_p2p.node.pods.status import ContainerState, clean_log, read_container

_log = logging.getLogger(__name__)

# An engine under load takes seconds for what is done in 50 ms otherwise; past this it is stuck.
_CALL_S = 60.0
_CONNECT_S = 5.0
_INFO_S = 20.0
# All files are walked through, and there may be millions.
_MEASURE_S = 900.0
_REMOVE_TRIES = 3
MAX_LOG_BYTES = _MAX_LINE_BYTES = 64 * 1024
_MAX_SAID_CHARS = 2000
# An event names a container and carries its labels, which are of its image's making.
_MAX_EVENT_BYTES = 256 * 1024
# While it fetches an image, the engine passes on what a registry has said.
_MAX_SAID_BYTES = 256 * 1024
# Of each frame of the engine's log stream: its kind, three zeros, its length (big-endian).
_FRAME_HEADER_BYTES = 8

Called = Callable[[str, str, float], None]


class Engine:
    """A client of the engine at ``url`` (``unix:///…`` or ``tcp://…``), used as ``async with``.

    :param called: told of each call that has ended, and how long it took.
    :ivar docker: the session beneath, for what :mod:`~dit4c_p2p.node.engine.image_transfer` sends.
    """

    def __init__(self, url: str, *, called: Called = lambda method, path, seconds: None) -> None:
        self._url = url
        self._called = called
        self.docker: aiodocker.Docker

    async def __aenter__(self) -> Self:
        # Without aiohttp's cap on connections: each starting pod holds a few streams open.
        if self._url.startswith("unix://"):
            url = "unix://localhost"
            path = self._url.removeprefix("unix://")
            self._connector: aiohttp.BaseConnector = aiohttp.UnixConnector(path, limit=0)
        else:
            url = self._url.replace("tcp://", "http://", 1)
            self._connector = aiohttp.TCPConnector(limit=0)
        self.docker = aiodocker.Docker(
            url=url,
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.docker.close()
        await self._connector.close()

    # ---- the engine itself

    async def info(self) -> dict[str, Any]:
        """``NCPU``, ``MemTotal`` and more."""
        return dict(await self.request_json("info", limit_s=_INFO_S))

    async def image(self, image: str) -> dict[str, Any]:
        """Inspect an image.

        :raises NotFound: the engine does not have it.
        """
        return dict(await self.request_json(f"images/{image}/json"))

    async def pull(
        self, repository: str, digest: str, login: str | None = None
    ) -> AsyncGenerator[dict[str, Any], None]:
        """Have an image fetched from its registry; what the engine says of it, until it is here.

        Given up, the engine gives up as well, unless somebody else waits for the same image.

        :param login: for the header ``X-Registry-Auth``.
        :raises NotFound: the registry has no such image.
        :raises EngineSaid: in the engine's words, the registry's among them.
        """
        params = {"fromImage": repository, "tag": digest}
        headers = {} if login is None else {"X-Registry-Auth": login}
        async with self.request_stream("images/create", params, "POST", headers) as response:
            try:
                while line := await response.content.readline(max_line_length=_MAX_SAID_BYTES):
                    said = json.loads(line)
                    if "error" in said:
                        raise EngineSaid(str(said["error"]))
                    yield said
            except LineTooLong:
                raise EngineSaid(
                    f"more than {_MAX_SAID_BYTES // 1024} KiB of words in one line"
                ) from None

    async def events(self, data_folder: str) -> AsyncGenerator[dict[str, Any], None]:
        """Events of containers that carry our label, as they happen, until the engine goes away.

        An empty item says that nothing is missed from then on, but may have been before: the first
        one is empty, and so is one in the place of an event that is too long.
        """
        wanted = json.loads(filters(data_folder))
        wanted |= {"type": ["container"], "event": ["start", "die", "oom", "destroy"]}
        async with self.request_stream("events", {"filters": json.dumps(wanted)}) as response:
            yield {}
            async for line in _stream_lines(response.content):
                yield json.loads(line) if line else {}

    # ---- containers

    async def containers(
        self, data_folder: str, instance: str | None = None, *, sizes: bool = False
    ) -> list[Definition]:
        """List all containers with our label, running or not (``Id``, ``Labels``, ``State``).

        :param sizes: with ``SizeRw``, what each has written; it may take minutes.
        """
        params = {"all": "1", "filters": filters(data_folder, instance)}
        if sizes:
            params["size"] = "1"
        limit_s = _MEASURE_S if sizes else _CALL_S
        return list(await self.request_json("containers/json", params=params, limit_s=limit_s))

    async def filtered(self, filters: str) -> list[Definition]:
        """List the containers that the filters match, running or not.

        :param filters: the engine's ``filters`` parameter (Docker Engine API, "List containers").
        """
        params = {"all": "1", "filters": filters}
        return list(await self.request_json("containers/json", params=params))

    async def parts(
        self, filters: str
    ) -> tuple[list[Definition], list[Definition], list[Definition]]:
        """List the containers, networks and volumes that the filters match.

        :param filters: as for :meth:`filtered`.
        """
        params = {"filters": filters}
        containers = await self.filtered(filters)
        networks = await self.request_json("networks", params=params)
        volumes = await self.request_json("volumes", params=params)
        return containers, list(networks), list(volumes["Volumes"] or ())

    async def container(self, id: str) -> ContainerState:
        """Inspect a container.

        :raises NotFound: it does not exist.
        """
        return read_container(await self.request_json(f"containers/{id}/json"))

    async def create_container(self, name: str, definition: Definition) -> str:
        """Create a container; return its id.

        :raises Conflict: the name is in use.
        """
        made = await self.request_json(
            "containers/create", method="POST", params={"name": name}, data=definition
        )
        return str(made["Id"])

    async def start_container(self, id: str) -> None:
        """Start a container; do nothing if it runs."""
        await self.request_json(f"containers/{id}/start", method="POST")

    async def stop_container(self, id: str, grace_s: int) -> None:
        """Stop a container, by force after ``grace_s``; ignore one that does not run."""
        with contextlib.suppress(NotFound):
            await self.request_json(
                f"containers/{id}/stop",
                method="POST",
                params={"t": str(grace_s)},
                limit_s=grace_s + _CALL_S,
            )

    async def pause_container(self, id: str) -> None:
        """Freeze every process of a container that runs.

        :raises Conflict: it does not run, or is paused.
        """
        await self.request_json(f"containers/{id}/pause", method="POST")

    async def unpause_container(self, id: str) -> None:
        """Let a container's processes go on; do nothing if it is not paused, or not there."""
        with contextlib.suppress(NotFound, Conflict):
            await self.request_json(f"containers/{id}/unpause", method="POST")

    async def wait_container(self, id: str) -> int:
        """Wait without a limit until a container has ended; return its exit code.

        :raises NotFound: it is not there.
        """
        ended = await self.request_json(f"containers/{id}/wait", method="POST", limit_s=None)
        return int(ended["StatusCode"])

    async def remove_container(self, id: str) -> None:
        """Kill and remove a container with its anonymous volumes, if it exists."""
        for _ in range(_REMOVE_TRIES):
            try:
                await self.request_json(
                    f"containers/{id}", method="DELETE", params={"force": "1", "v": "1"}
                )
            except NotFound:
                return
            except Conflict:
                # Being removed already: it is gone when a wait for it ends.
                await self._gone(id)
            else:
                return
        raise EngineError(f"the container {id[:12]} can't be removed")

    async def execute(
        self, id: str, command: Sequence[str], environment: Sequence[str]
    ) -> tuple[int, str]:
        """Run a short program in a container; return its exit code and the end of its output."""
        definition = {
            "Cmd": list(command),
            "Env": list(environment),
            "AttachStdout": True,
            "AttachStderr": True,
        }
        made = await self.request_json(f"containers/{id}/exec", method="POST", data=definition)
        said = bytearray()
        async with self.limited(_CALL_S):
            async with request(
                self.docker,
                f"exec/{made['Id']}/start",
                "POST",
                data=json.dumps({"Detach": False, "Tty": False}),
            ) as response:
                async for frame in _container_output_frames(response.content):
                    said += frame[-MAX_LOG_BYTES:]
        ended = await self.request_json(f"exec/{made['Id']}/json")
        return int(ended["ExitCode"]), clean_log(bytes(said[-MAX_LOG_BYTES:]))

    async def put_files(self, id: str, path: str, archive: bytes) -> None:
        """Unpack an uncompressed tar at ``path`` of a container, running or not."""
        await self.request_json(
            f"containers/{id}/archive",
            method="PUT",
            params={"path": path},
            data=archive,
            headers={"Content-Type": "application/x-tar"},
        )

    async def read_file(self, id: str, path: str) -> str:
        """A small file of a container, running or not; empty if there is none.

        The first 64 KiB of it; bytes that are no UTF-8 are replaced.
        """
        kept = bytearray()
        try:
            async with self.limited(_CALL_S):
                async with self.request_stream(
                    f"containers/{id}/archive", {"path": path}
                ) as response:
                    async for piece in response.content.iter_chunked(MAX_LOG_BYTES):
                        kept += piece
                        if len(kept) > 2 * MAX_LOG_BYTES:
                            break
        except NotFound:
            return ""
        try:
            with tarfile.open(fileobj=io.BytesIO(bytes(kept)), mode="r|") as archive:
                for entry in archive:
                    if (file := archive.extractfile(entry)) is not None:
                        return file.read(MAX_LOG_BYTES).decode(errors="replace")
        except tarfile.TarError:
            pass  # a link, or longer than what is kept
        return ""

    async def volume(self, name: str) -> Definition:
        """A volume: ``Mountpoint``, where it is on the engine's machine (absolute), and ``Labels``.

        :raises NotFound: it is not there.
        """
        found: Definition = await self.request_json(f"volumes/{name}")
        return found

    async def log_tail(self, id: str, lines: int) -> str:
        """Return the newest lines of a container's output, at most 64 KiB."""
        params = {"stdout": "1", "stderr": "1", "tail": str(lines)}
        kept = bytearray()
        try:
            async with self.limited(_CALL_S):
                async with self.request_stream(f"containers/{id}/logs", params) as response:
                    async for frame in _container_output_frames(response.content):
                        kept += frame
                        if len(kept) > 2 * MAX_LOG_BYTES:
                            del kept[:-MAX_LOG_BYTES]
        except (NotFound, Conflict):  # 409: the container is being removed
            return ""
        return clean_log(bytes(kept[-MAX_LOG_BYTES:]))

    async def follow_output(self, id: str, since: float = 0) -> AsyncGenerator[str, None]:
        """Each line that a container writes to its standard output, from the start, until it ends.

        :param since: seconds since 1970; lines written before are left out.
        """
        params = {"stdout": "1", "follow": "1", "since": f"{since:.9f}"}
        rest = b""
        async with self.request_stream(f"containers/{id}/logs", params) as response:
            async for frame in _container_output_frames(response.content):
                *lines, rest = (rest + frame).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
                rest = rest[-_MAX_LINE_BYTES:]

    # ---- networks and volumes

    async def networks(self) -> list[Definition]:
        """List all networks of the engine."""
        return list(await self.request_json("networks"))

    async def create_network(self, definition: Definition) -> str:
        """Create a network; return its id.

        :raises Conflict: the name or the address range is in use.
        """
        made = await self.request_json("networks/create", method="POST", data=definition)
        return str(made["Id"])

    async def remove_network(self, id: str) -> None:
        """Remove it; fine if it is not there."""
        with contextlib.suppress(NotFound):
            await self.request_json(f"networks/{id}", method="DELETE")

    async def volumes(self, data_folder: str, instance: str | None = None) -> list[Definition]:
        """List the volumes with our label."""
        listed = await self.request_json(
            "volumes", params={"filters": filters(data_folder, instance)}
        )
        return list(listed["Volumes"] or [])

    async def volume_sizes(self) -> dict[str, int]:
        """How many bytes are in each volume of the engine, whoever's; it may take minutes."""
        found = await self.request_json("system/df", params={"type": "volume"}, limit_s=_MEASURE_S)
        return {
            volume["Name"]: max(0, volume["UsageData"]["Size"])
            for volume in found["Volumes"] or []
            if volume.get("UsageData")
        }

    async def create_volume(self, definition: Definition) -> None:
        """Make a volume; fine if it is there."""
        await self.request_json("volumes/create", method="POST", data=definition)

    async def remove_volume(self, name: str) -> None:
        """Remove it; fine if it is not there."""
        with contextlib.suppress(NotFound):
            await self.request_json(f"volumes/{name}", method="DELETE", params={"force": "1"})

    # ---- beneath

    async def _gone(self, id: str) -> None:
        with contextlib.suppress(NotFound):
            await self.request_json(
                f"containers/{id}/wait", method="POST", params={"condition": "removed"}
            )

    async def request_json(
        self,
        path: str,
        *,
        method: str = "GET",
        params: dict[str, str] | None = None,
        data: Definition | bytes | None = None,
        headers: dict[str, str] | None = None,
        limit_s: float | None = _CALL_S,
    ) -> Any:
        """One call of the engine's API; its JSON, or None of an empty answer.

        :raises NotFound: also where the answer to a GET is empty: its object was being removed.
        :raises EngineError: see the module.
        """
        body = json.dumps(data) if isinstance(data, dict) else data
        began = time.monotonic()
        try:
            async with self.limited(limit_s):
                async with request(
                    self.docker, path, method, params=params, data=body, headers=headers
                ) as response:
                    text = await response.read()
                    found = json.loads(text) if text.strip() else None
        finally:
            # One that waits for a container says nothing of the engine.
            if not path.endswith("/wait"):
                self._called(method, path, time.monotonic() - began)
        if found is None and method == "GET":
            raise NotFound("the container engine's answer is empty")
        return found

    @contextlib.asynccontextmanager
    async def request_stream(
        self,
        path: str,
        params: dict[str, str],
        method: str = "GET",
        headers: dict[str, str] | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A response without end; only its beginning has a time limit."""
        async with self.limited(None):
            async with asyncio.timeout(_CALL_S):
                sent = request(self.docker, path, method, params=params, headers=headers)
                response = await sent.__aenter__()
            try:
                yield response
            finally:
                response.close()

    @contextlib.asynccontextmanager
    async def limited(self, limit_s: float | None) -> AsyncIterator[None]:
        """Limit a call's time, and translate its errors to :class:`EngineError`."""
        try:
            async with asyncio.timeout(limit_s):
                yield
        except TimeoutError:
            raise EngineError(
                "the container engine did not answer in time", hint="is it overloaded?"
            ) from None
        except aiodocker.DockerError as error:
            raise _mapped_engine_error(error) from None
        except (
            aiohttp.ClientError,
            HttpProcessingError,
            OSError,
            asyncio.IncompleteReadError,
            ValueError,
        ) as error:
            _log.warning("the connection to the container engine broke: %s", error)
            raise EngineError("the connection to the container engine broke") from None


def _mapped_engine_error(error: aiodocker.DockerError) -> EngineError:
    message = str(error.message).strip()
    if error.status == 404:
        return NotFound(message)
    if error.status == 409 or "overlaps with other one" in message:
        return Conflict(message)
    if error.status == 900:
        return EngineError("the container engine does not answer", hint="is it running?")
    if "no space left on device" in message.lower():
        # Which place is full is for the machine's owner, and its user is told in our words.
        _log.error("the container engine said: %s", message)
        return EngineFull(message)
    _log.warning("the container engine said (%d): %s", error.status, message[:_MAX_SAID_CHARS])
    return EngineSaid(message, status=error.status)


async def _stream_lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Each line of a stream without its end; an empty one in the place of one that is too long."""
    rest = b""
    skipping = False
    async for part in content.iter_any():
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            yield b"" if skipping or len(line) > _MAX_EVENT_BYTES else line
            skipping = False
        if len(rest) > _MAX_EVENT_BYTES:
            rest, skipping = b"", True


async def _container_output_frames(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """What a container without a terminal wrote, from the engine's multiplexed stream."""
    while True:
        try:
            header = await content.readexactly(_FRAME_HEADER_BYTES)
        except asyncio.IncompleteReadError as error:
            if error.partial:
                raise
            return
        yield await content.readexactly(int.from_bytes(header[4:8]))
