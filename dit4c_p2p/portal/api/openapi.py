"""``/api/openapi.json``: OpenAPI 3.1, made from the declarations that check the calls."""

import inspect
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

import msgspec
from aiohttp import web

from dit4c_p2p import __version__
from dit4c_p2p.portal.api.endpoint import Endpoint
from dit4c_p2p.portal.errors import (
    BadRequest,
    Forbidden,
    NotFound,
    PortalError,
    Unauthorized,
    Unavailable,
    UnsupportedMedia,
)
from dit4c_p2p.portal.schemas import NoQuery, Problem

_REF = "#/components/schemas/{name}"
_PROBLEM_MEDIA = "application/problem+json"
_PATH_PARTS = {
    "secret": "the last part of a shared link",
    "share": "a shared link's id",
    "id": "the id",
    "name": "the name",
    "fingerprint": "base64url of the key's SHA-256, without prefix or padding",
    "token": "the token's id, or its label",
    "person": "the id of a person",
}
# For every endpoint: a query or a path that can't be read, nobody, a closed account, no database.
_ALWAYS: tuple[type[PortalError], ...] = (BadRequest, Unauthorized, Forbidden, Unavailable)
_TOO_LARGE = 413


def describe_api(endpoints: Iterable[Endpoint], url: str) -> dict[str, Any]:
    """The whole document.

    :param url: the portal's canonical URL.
    """
    endpoints = list(endpoints)
    schemas = _OpenApiSchemas(endpoints)
    paths: dict[str, Any] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.pattern, {})[endpoint.method.lower()] = _endpoint_operation(
            endpoint, schemas
        )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DIT4C-P2P",
            "version": __version__,
            "description": "Start, use and end research tools. What belongs to somebody else looks "
            "as if it were not there; every error is a problem document (RFC 9457); lists go on "
            "at the Link header's rel=next (RFC 8288).",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": url}],
        "security": [{"token": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(_endpoint_tag(one) for one in endpoints)],
        "paths": paths,
        "components": {
            "schemas": schemas.components,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "A token of a person; 'dit4c token create' makes one.",
                }
            },
        },
    }


def openapi_route(endpoints: Iterable[Endpoint], url: str) -> web.RouteDef:
    """The document's own URL; it tells nothing that the program's source would not."""
    body = msgspec.json.encode(describe_api(endpoints, url)) + b"\n"

    async def serve(_: web.Request) -> web.Response:
        return web.Response(body=body, content_type="application/json")

    return web.get("/api/openapi.json", serve)


class _OpenApiSchemas:
    """Every record that a declaration names, as JSON Schema (which OpenAPI 3.1 is)."""

    def __init__(self, endpoints: list[Endpoint]) -> None:
        types: list[Any] = [Problem, NoQuery]
        for endpoint in endpoints:
            types.append(endpoint.query)
            types += [
                kind for kind in (endpoint.body, _response_record(endpoint)) if kind is not None
            ]
        schemas, self.components = msgspec.json.schema_components(types, ref_template=_REF)
        self._by_type = dict(zip(map(repr, types), schemas, strict=True))
        self._queries = {repr(one.query): one.query.__name__ for one in endpoints}
        self._taken = {kind: self.components.pop(name) for kind, name in self._queries.items()} | {
            repr(NoQuery): self.components.pop("NoQuery", {})
        }

    def of(self, kind: Any) -> dict[str, Any]:
        """A reference to a record, or a list of them."""
        return self._by_type[repr(kind)]

    def parameters(self, query: Any) -> list[dict[str, Any]]:
        """A query's record, as parameters."""
        record = self._taken[repr(query)]
        return [
            {
                "name": name,
                "in": "query",
                "required": name in record.get("required", ()),
                "description": schema.get("description", name),
                "schema": {key: part for key, part in schema.items() if key != "description"},
            }
            for name, schema in record.get("properties", {}).items()
        ]


def _endpoint_operation(endpoint: Endpoint, schemas: _OpenApiSchemas) -> dict[str, Any]:
    summary, _, description = inspect.cleandoc(endpoint.handler.__doc__ or "").partition("\n\n")
    operation: dict[str, Any] = {
        "operationId": f"{_endpoint_tag(endpoint)}_{endpoint.handler.__name__}",
        "tags": [_endpoint_tag(endpoint)],
        "summary": " ".join(summary.split()).removesuffix("."),
        "parameters": _endpoint_path_parameters(endpoint.path) + schemas.parameters(endpoint.query),
        "responses": {
            str(endpoint.status): _success_response(endpoint, schemas),
            **_problem_responses(endpoint),
        },
    }
    if endpoint.scope is not None:
        operation["security"] = [{"token": [endpoint.scope]}]
    notes = [" ".join(description.split()), "For admins." if endpoint.allowed == "admin" else ""]
    if any(notes):
        operation["description"] = " ".join(note for note in notes if note)
    if endpoint.body is not None:
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schemas.of(endpoint.body)}},
        }
    return operation


def _success_response(endpoint: Endpoint, schemas: _OpenApiSchemas) -> dict[str, Any]:
    response: dict[str, Any] = {"description": HTTPStatus(endpoint.status).phrase}
    record = _response_record(endpoint)
    response["content"] = {
        media: {"schema": schemas.of(record) if record is not None else _loose_schema(media)}
        for media in endpoint.media
    }
    headers: dict[str, Any] = {}
    if endpoint.location:
        headers["Location"] = {"description": "where it is", "schema": {"type": "string"}}
    if "cursor" in endpoint.query.__struct_fields__:
        headers["Link"] = {
            "description": 'the next part, rel="next"; left out at the end (RFC 8288)',
            "required": False,
            "schema": {"type": "string"},
        }
    if headers:
        response["headers"] = headers
    return response


def _loose_schema(media: str) -> dict[str, Any]:
    """What is no record: a log as text or in JSON, events."""
    if media == "application/json":
        text = {"text": {"type": "string"}}
        return {"type": "object", "properties": text, "required": ["text"]}
    return {"type": "string"}


def _problem_responses(endpoint: Endpoint) -> dict[str, Any]:
    kinds = [*_ALWAYS, *endpoint.errors]
    if "{" in endpoint.path:
        kinds.append(NotFound)
    titles = {kind.status: kind.title for kind in kinds}
    if endpoint.body is not None:
        titles[UnsupportedMedia.status] = UnsupportedMedia.title
        titles[_TOO_LARGE] = "The body is too large"
    content = {_PROBLEM_MEDIA: {"schema": {"$ref": _REF.format(name=Problem.__name__)}}}
    return {
        str(status): {"description": titles[status], "content": content}
        for status in sorted(titles)
    }


def _endpoint_path_parameters(path: str) -> list[dict[str, Any]]:
    return [
        {
            "name": part[1:-1],
            "in": "path",
            "required": True,
            "description": _PATH_PARTS[part[1:-1]],
            "schema": {"type": "string", "minLength": 1},
        }
        for part in path.split("/")
        if part.startswith("{")
    ]


def _response_record(endpoint: Endpoint) -> Any:
    """What is answered as JSON by a declared record; None for streams and texts."""
    answer = endpoint.answer
    is_response = isinstance(answer, type) and issubclass(answer, web.StreamResponse)
    return None if is_response else answer


def _endpoint_tag(endpoint: Endpoint) -> str:
    return endpoint.path.split("/", 1)[0]
