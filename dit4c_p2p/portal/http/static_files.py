"""Static files of ``web/``: read once, served from memory, with a content hash in their names."""

import hashlib
import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from aiohttp import web

from dit4c_p2p import resources
from dit4c_p2p.portal.errors import NotFound

_YEAR = "public, max-age=31536000, immutable"
_SHORT = "public, max-age=300"


@dataclass(frozen=True)
class _StaticFile:
    body: bytes
    type: str
    version: str


class StaticFiles:
    """Only what was there at the start can be asked for: no path is ever made from a URL.

    :param more: further files by name.
    """

    def __init__(self, more: Mapping[str, bytes] = MappingProxyType({})) -> None:
        base = resources.folder("web")
        self._files = {
            path.relative_to(base).as_posix(): _static_file(path.name, path.read_bytes())
            for path in sorted(base.rglob("*"))
            if path.is_file() and not path.name.startswith("_") and path.suffix != ".py"
        }
        self._files |= {name: _static_file(name, body) for name, body in more.items()}

    def __contains__(self, name: str) -> bool:
        """Whether there is a file of this name."""
        return name in self._files

    def url(self, name: str) -> str:
        """Where a template finds a file; another content has another URL."""
        return f"/static/{name}?v={self._files[name].version}"

    async def serve(self, request: web.Request) -> web.Response:
        """``GET /static/{name}``."""
        file = self._files.get(request.match_info["name"])
        if file is None:
            raise NotFound("there is no such file")
        current = request.query.get("v") == file.version
        headers = {"Cache-Control": _YEAR if current else _SHORT, "ETag": f'"{file.version}"'}
        if request.headers.get("If-None-Match") == f'"{file.version}"':
            return web.Response(status=304, headers=headers)
        return web.Response(body=file.body, headers={**headers, "Content-Type": file.type})

    def routes(self) -> list[web.RouteDef]:
        """One."""
        return [web.get("/static/{name:.+}", self.serve)]


def _static_file(name: str, body: bytes) -> _StaticFile:
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    if kind.startswith("text/") or kind.endswith("javascript"):
        kind += "; charset=utf-8"
    return _StaticFile(body, kind, hashlib.sha256(body).hexdigest()[:12])
