"""Checked reading of request bodies and queries: JSON as a record, a form as a mapping."""

import asyncio
import re
from collections.abc import Mapping
from typing import TypeVar
from urllib.parse import parse_qsl

import msgspec
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import BadRequest, TooSlow, UnsupportedMedia

MAX_BODY_BYTES = 64 * 1024
_MAX_FIELDS = 32
_FIELD = re.compile(r"`\$\.([^`]+)`|field `([^`]+)`")

T = TypeVar("T")


class Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of what a JSON body must be."""


async def read_body(request: web.Request) -> bytes:
    """The whole body.

    :raises UnsupportedMedia: it is compressed.
    :raises TooSlow: it does not come in time.
    :raises BadRequest: it breaks off, or its framing does.
    :raises HTTPRequestEntityTooLarge: over :data:`MAX_BODY_BYTES`.
    """
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMedia("the body is encoded", hint="send it without Content-Encoding")
    limits, body = services(request).config.limits, bytearray()
    try:
        async with asyncio.timeout(limits.body_s):
            while chunk := await _next_body_chunk(request, limits.body_silence_s):
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise web.HTTPRequestEntityTooLarge(MAX_BODY_BYTES, len(body))
    except TimeoutError:
        raise TooSlow("the body did not arrive in time", hint="try again") from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise BadRequest("the body breaks off") from None
    return bytes(body)


async def _next_body_chunk(request: web.Request, silence_s: float) -> bytes:
    async with asyncio.timeout(silence_s):
        return await request.content.readany()


async def read_json(request: web.Request, kind: type[T]) -> T:
    """The body as a record of type ``kind``.

    :raises UnsupportedMedia: not ``application/json``.
    :raises BadRequest: not JSON, or a field is missing, unknown or of the wrong type.
    """
    if request.content_type != "application/json":
        raise UnsupportedMedia("the body must be JSON", hint="send Content-Type: application/json")
    try:
        return msgspec.json.decode(await read_body(request), type=kind)
    except msgspec.ValidationError as error:
        raise BadRequest(
            f"the body is not as it must be: {error}", field=_wrong_field(error)
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise BadRequest("the body is not valid JSON") from None


async def read_form(request: web.Request) -> Mapping[str, str]:
    """An ``application/x-www-form-urlencoded`` body, each field once.

    :raises UnsupportedMedia: of another type.
    :raises BadRequest: malformed, or a field is there twice.
    """
    if request.content_type != "application/x-www-form-urlencoded":
        raise UnsupportedMedia(
            "the body must be a form",
            hint="send Content-Type: application/x-www-form-urlencoded",
        )
    try:
        text = (await read_body(request)).decode()
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError:
        raise BadRequest("the form can't be read") from None
    return each_field_once(pairs)


def read_query(request: web.Request) -> Mapping[str, str]:
    """The query, each parameter once.

    :raises BadRequest: a parameter is there twice.
    """
    return each_field_once(list(request.query.items()))


def read_query_as(request: web.Request, kind: type[T]) -> T:
    """The query as a record of type ``kind``, whose fields are texts, numbers and yes or no.

    :raises BadRequest: a parameter is unknown, there twice, or of the wrong type.
    """
    try:
        return msgspec.convert(read_query(request), kind, strict=False)
    except msgspec.ValidationError as error:
        field = _wrong_field(error)
        raise BadRequest(f"the query is not as it must be: {error}", field=field) from None


def _wrong_field(error: msgspec.ValidationError) -> str:
    """What is wrong, as far as the error says it."""
    match = _FIELD.search(str(error))
    return (match[1] or match[2]) if match else ""


def each_field_once(pairs: list[tuple[str, str]]) -> Mapping[str, str]:
    """Pairs as a mapping.

    :raises BadRequest: one of them is there twice.
    """
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise BadRequest(f"{name} is there more than once", field=name[:40])
        fields[name] = value
    return fields
