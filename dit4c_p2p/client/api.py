"""A portal's API, asked by a person's program."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import aiohttp

from dit4c_p2p import __version__
from dit4c_p2p.client.errors import (
    ClientError,
    NoSuchThing,
    NotLoggedIn,
    NotPossible,
    PortalNotReachable,
)

_CALL_S = 60.0
_CONNECT_S = 10.0
_MAX_PAGES = 1000
_MAX_ANSWER_BYTES = 64 * 1024 * 1024
_ERRORS: dict[int, type[ClientError]] = {
    401: NotLoggedIn,
    403: NotLoggedIn,
    404: NoSuchThing,
    409: NotPossible,
    410: NotPossible,
    429: NotPossible,
}


class PortalApi:
    """One portal.

    :param token: may be empty, for what needs none.
    """

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self.url = url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}

    async def get(self, path: str, **query: str) -> Any:
        """The JSON of a path below ``/api/v1/``."""
        return (await self._call("GET", self._api(path), params=query))[0]

    async def post(self, path: str, body: Any = None) -> Any:
        """Ask for something."""
        return (await self._call("POST", self._api(path), **_json_of_body(body)))[0]

    async def patch(self, path: str, body: Any) -> Any:
        """Change something."""
        return (await self._call("PATCH", self._api(path), **_json_of_body(body)))[0]

    async def every(self, path: str, **query: str) -> list[Any]:
        """A whole list, of all its pages."""
        found, url, params = [], self._api(path), query
        for _ in range(_MAX_PAGES):
            page, links = await self._call("GET", url, params=params)
            found += page
            if "next" not in links:
                return found
            url, params = str(links["next"]["url"]), {}
            if not url.startswith(f"{self.url}/"):
                raise PortalNotReachable("the portal's list goes on at another portal")
        raise PortalNotReachable("the portal's list has no end")

    async def text(self, path: str, **query: str) -> str:
        """A text."""
        found, _ = await self._call(
            "GET", self._api(path), params=query, headers={"Accept": "application/json"}
        )
        return str(found["text"])

    async def form(self, path: str, **fields: str) -> tuple[int, dict[str, Any]]:
        """Send a form to a path of the portal's, and take the answer with any status."""
        async with self._asked("POST", self.url + path, data=fields) as response:
            return response.status, await _object_of_api_response(response)

    def _api(self, path: str) -> str:
        return f"{self.url}/api/v1/{path}"

    async def _call(self, method: str, url: str, **more: Any) -> tuple[Any, Any]:
        headers = {**self._headers, **more.pop("headers", {})}
        async with self._asked(method, url, headers=headers, **more) as response:
            if response.ok:
                return await _read_api_response(response), response.links
            problem = await _object_of_api_response(response)
            detail = str(problem.get("detail") or response.reason)
            if response.status >= 500:
                raise PortalNotReachable(f"the portal says: {detail}")
            hint = ""
            if response.status == 401:
                hint = f"run: dit4c login {self.url}"
            raise _ERRORS.get(response.status, ClientError)(detail.rstrip("."), hint=hint)

    @asynccontextmanager
    async def _asked(
        self, method: str, url: str, **more: Any
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        try:
            async with self._session.request(
                method, url, allow_redirects=False, **more
            ) as response:
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise PortalNotReachable(
                f"{self.url} does not answer: {error or 'time is up'}",
                hint="check the URL and the network",
            ) from None


@asynccontextmanager
async def portal_api(url: str, token: str) -> AsyncIterator[PortalApi]:
    """A portal's API, for one command."""
    timeout = aiohttp.ClientTimeout(total=_CALL_S, sock_connect=_CONNECT_S)
    headers = {"User-Agent": f"dit4c/{__version__}"}
    async with aiohttp.ClientSession(timeout=timeout, headers=headers) as session:
        yield PortalApi(session, url, token)


def url_path_part(text: str) -> str:
    """A part of a path."""
    return quote(text, safe="")


def _json_of_body(body: Any) -> dict[str, Any]:
    return {} if body is None else {"json": body}


async def _read_api_response(response: aiohttp.ClientResponse) -> Any:
    body = await response.content.read(_MAX_ANSWER_BYTES)
    try:
        return json.loads(body)
    except ValueError:
        raise PortalNotReachable(
            f"{response.url.origin()} does not answer as a portal", hint="check the URL"
        ) from None


async def _object_of_api_response(response: aiohttp.ClientResponse) -> dict[str, Any]:
    found = await _read_api_response(response)
    if not isinstance(found, dict):
        raise PortalNotReachable(
            f"{response.url.origin()} does not answer as a portal", hint="check the URL"
        )
    return found
