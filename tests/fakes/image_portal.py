"""A portal that only says who may do what at an image server, by a table of the test's own."""

import asyncio
import base64
import binascii
from typing import Self

from aiohttp import web
from msgspec.structs import replace

from dit4c_p2p.messages.codec import encode
from dit4c_p2p.messages.image_access import AUTH_PATH, SERVER_TOKEN_HEADER
from dit4c_p2p.messages.public import PortalInfo, PublicConfig

EVERYTHING = ("", "pull push delete")


class ImagePortal:
    """``async with ImagePortal() as portal``.

    ``users`` has for each name (the password is the same) the rights: pairs of a repository's
    beginning and verbs. ``asked`` lists the questions. ``silent``: it answers nothing. ``bearer``:
    the user that whoever comes with a token is taken for.
    """

    def __init__(self) -> None:
        self.users: dict[str, list[tuple[str, str]]] = {"all": [EVERYTHING]}
        self.asked: list[tuple[str, str, str]] = []
        self.server_tokens: list[str] = []
        self.silent = False
        self.bearer = ""
        self.info = PortalInfo(name="portal-main", url="", key="")

    async def __aenter__(self) -> Self:
        app = web.Application()
        app.router.add_get(f"{AUTH_PATH}/{{path:.+}}", self._answer)
        app.router.add_get("/config.json", self._config)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        port = self._runner.addresses[0][1]
        self.info = PortalInfo(
            name="portal-main",
            url=f"http://localhost:{port}",
            key="",
            connect=[f"127.0.0.1:{port}"],
        )
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._runner.cleanup()

    def publish(self, key: str) -> None:
        """Have ``config.json`` say that this is the portal's public key."""
        self.info = replace(self.info, key=key)

    async def _config(self, request: web.Request) -> web.Response:
        config = PublicConfig(portal=self.info, routers=[], user_url="http://{id}.localhost/")
        return web.Response(body=encode(config), content_type="application/json")

    async def _answer(self, request: web.Request) -> web.Response:
        if self.silent:
            await asyncio.sleep(3600)
        self.server_tokens.append(request.headers.get(SERVER_TOKEN_HEADER, ""))
        verb, _, repository = request.match_info["path"].partition("/")
        field = request.headers.get("Authorization", "")
        user = self.bearer if field.startswith("Bearer ") else _user(field)
        self.asked.append((user, verb, repository))
        rights = self.users.get(user)
        if rights is None:
            return web.Response(status=401)
        if verb == "login" or any(
            repository.startswith(begin) and verb in verbs.split() for begin, verbs in rights
        ):
            return web.Response(status=204)
        return web.Response(status=403)


def _user(field: str) -> str:
    try:
        name, _, password = base64.b64decode(field.partition(" ")[2]).decode().partition(":")
    except (binascii.Error, ValueError):
        return ""
    return name if name == password else ""
