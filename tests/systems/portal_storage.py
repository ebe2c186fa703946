"""A portal with two file servers, and what a file server asks and hears.

async with StorageAtWork(tmp_path) as work:
    async with work.file_server() as server:
        grants = await server.grants("instance", id)
"""

import asyncio
import json
from pathlib import Path
from typing import Any, Self

from systems.portal import WAIT_S, Answer, Client, PortalAtWork

from dit4c_p2p.identity.keys import generate, public_line
from dit4c_p2p.messages.codec import decode
from dit4c_p2p.messages.grants import GrantEvent, Grants
from dit4c_p2p.messages.public import FileServerInfo
from dit4c_p2p.portal import Limits

FIRST = FileServerInfo(name="fileserver-first", url="sftp://localhost:8023")
SECOND = FileServerInfo(name="fileserver-second", url="sftp://files.example.org")


class StorageAtWork(PortalAtWork):
    """A portal that knows two file servers; the first one is everybody's home."""

    def __init__(self, folder: Path, limits: Limits | None = None) -> None:
        super().__init__(folder, limits)
        self.with_config(fileservers=(FIRST, SECOND))

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        for server in (FIRST, SECOND):
            await self.enrol(server.name)
        return self

    def file_server(self, name: str = FIRST.name) -> "FileServerCalls":
        """A file server's calls, with its enrolled key."""
        return FileServerCalls(self, name)


class FileServerCalls(Client):
    """What a file server asks the portal."""

    def __init__(self, work: PortalAtWork, name: str) -> None:
        super().__init__(work.url)
        self._work = work
        self._name = name

    async def ask(self, path: str, method: str = "GET", **more: Any) -> Answer:
        """One call with a new token."""
        headers = {"Authorization": f"Bearer {self._work.jwt(self._name)}"}
        return await self.request(method, path, headers=headers, **more)

    async def grants(self, kind: str, id: str) -> Grants:
        """The grants of an ``instance`` or a ``user``."""
        answer = await self.ask(f"/{kind}s/{id}/grants")
        assert answer.status == 200, answer.text
        return decode(answer.body, Grants)

    async def folders(self, kind: str, id: str) -> dict[str, bool]:
        """The same as paths, each with whether it may be written."""
        return {folder.path: folder.write for folder in (await self.grants(kind, id)).folders}

    async def prove(self, person: str, fingerprint: str) -> Answer:
        """Say that a key has logged in."""
        return await self.ask(f"/users/{person}/ssh-keys/{fingerprint}/proved", "POST")


class GrantStream:
    """``async with GrantStream(server) as stream``: the events of the grants, no heartbeats."""

    def __init__(self, server: FileServerCalls) -> None:
        self._server = server

    async def __aenter__(self) -> Self:
        headers = {"Authorization": f"Bearer {self._server._work.jwt(self._server._name)}"}
        self._response = await self._server.session.get(
            self._server.url + "/grants/events", headers=headers
        )
        assert self._response.status == 200
        assert await self._next() == GrantEvent()
        return self

    async def __aexit__(self, *error: object) -> None:
        self._response.close()

    async def event(self) -> GrantEvent:
        """The next event that says something."""
        async with asyncio.timeout(WAIT_S):
            while (event := await self._next()) == GrantEvent():
                pass
        return event

    async def ended(self) -> None:
        """Wait until the portal ends the stream."""
        async with asyncio.timeout(WAIT_S):
            while await self._response.content.readline():
                pass

    async def _next(self) -> GrantEvent:
        async with asyncio.timeout(WAIT_S):
            while not (line := await self._response.content.readline()).startswith(b"data: "):
                assert line, "the stream has ended"
        return decode(json.dumps(json.loads(line[6:])), GrantEvent)


def new_line(comment: str = "me@laptop") -> str:
    """The line of a new key's .pub file."""
    return public_line(generate(), comment)
