"""Declarations of endpoints, which dispatch, check and document them.

A handler takes a :class:`Call`, and ``body`` and ``query`` if it has them; their types are the
records that the request must be, and its return type is what the answer is::

    async def start(call: Call, body: NewInstance) -> InstanceView: ...

    Endpoint("POST", "instances", start, status=201, location=True, errors=(Conflict,))

Who calls is known before anything of the request is looked at.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal, get_type_hints

from aiohttp import web

from dit4c_p2p.portal.accounts.api_tokens import Scope
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.context import PortalContext, services
from dit4c_p2p.portal.errors import InsufficientScope, PortalError
from dit4c_p2p.portal.http.request_body import read_json, read_query_as
from dit4c_p2p.portal.http.token_auth import check_admin_token, person_of_token
from dit4c_p2p.portal.schemas import NoQuery, to_json

PREFIX = "/api/v1"

# A peer is let in by whoami alone, which finds out by itself.
Allowed = Literal["person", "admin", "anybody"]
_NOBODY = Caller("", "", False)


@dataclass(frozen=True)
class Call:
    """A request with its caller. ``headers`` are added to the response."""

    request: web.Request
    parts: PortalContext
    who: Caller
    headers: dict[str, str] = field(default_factory=dict)

    def path(self, name: str) -> str:
        """A part of the path."""
        return self.request.match_info[name]

    def located(self, path: str) -> None:
        """Set the URL of the created object."""
        self.headers["Location"] = f"{self.parts.config.url}{path}"

    def next_page(self, cursor: str) -> None:
        """Set the link to the next page, if there is one (RFC 8288)."""
        if cursor:
            url = self.request.rel_url.update_query(cursor=cursor)
            self.headers["Link"] = f'<{self.parts.config.url}{url}>; rel="next"'


@dataclass(frozen=True)
class Endpoint:
    """A method and a path below ``/api/v1``.

    :param allowed: who may call it.
    :param status: of the answer when all is well.
    :param media: what the answer may be besides, or instead of, JSON; the first is the usual one.
    :param location: whether the answer says where what was made is.
    :param errors: what may be wrong besides what is for every endpoint.
    :param any_scope: whether any token will do. Else it has to be good for ``admin``, for what is
        for admins, for ``instances:read`` to look, or for ``instances:write`` to change something.
    """

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    handler: Callable[..., Awaitable[Any]]
    allowed: Allowed = "person"
    status: int = 200
    media: tuple[str, ...] = ("application/json",)
    location: bool = False
    errors: tuple[type[PortalError], ...] = ()
    any_scope: bool = False

    @property
    def scope(self) -> Scope | None:
        """What a token has to be good for; None if any will do."""
        if self.any_scope or self.allowed == "anybody":
            return None
        if self.allowed == "admin":
            return "admin"
        return "instances:read" if self.method == "GET" else "instances:write"

    @cached_property
    def _types(self) -> dict[str, Any]:
        return get_type_hints(self.handler)

    @property
    def body(self) -> Any:
        """The record type of the body; None if the body is ignored."""
        return self._types.get("body")

    @property
    def query(self) -> Any:
        """The record type of the query."""
        return self._types.get("query", NoQuery)

    @property
    def answer(self) -> Any:
        """What is answered: a record, a list of them, or a response that is no JSON."""
        return self._types["return"]

    @property
    def pattern(self) -> str:
        """The path from the root, with its parts in braces."""
        return f"{PREFIX}/{self.path}"

    def route(self) -> web.RouteDef:
        """For aiohttp. A stream is not for ``HEAD``."""
        if self.method == "GET":
            return web.get(
                self.pattern, self.serve, allow_head="text/event-stream" not in self.media
            )
        return web.route(self.method, self.pattern, self.serve)

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Check the request, call the handler and return its response."""
        call = Call(request, services(request), await self._caller(request))
        arguments: dict[str, Any] = {}
        query = read_query_as(request, self.query)
        if "query" in self._types:
            arguments["query"] = query
        if self.body is not None:
            arguments["body"] = await read_json(request, self.body)
        answer = await self.handler(call, **arguments)
        if isinstance(answer, web.StreamResponse):
            return answer
        return web.Response(
            body=to_json(answer),
            status=self.status,
            content_type="application/json",
            headers={"Cache-Control": "no-store", **call.headers},
        )

    async def _caller(self, request: web.Request) -> Caller:
        if self.allowed == "anybody":
            return _NOBODY
        who = await person_of_token(request)
        if self.scope is not None and self.scope not in who.scopes:
            await services(request).audit.record_refusal("api.scope", f"needs {self.scope}")
            raise InsufficientScope(self.scope)
        if self.allowed == "admin":
            await check_admin_token(request, who)
        return who
