"""Refusals as the Distribution API writes them (distribution-spec 1.1, section "Error Codes")."""

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from dit4c_p2p.errors import DitError
from dit4c_p2p.imageserver.store import errors as store
from dit4c_p2p.imageserver.store.manifests import UnknownContent
from dit4c_p2p.messages.codec import encode
from dit4c_p2p.net.http1 import render_head
from dit4c_p2p.oci.errors import ImageTooLarge, InvalidChunks, InvalidDigest, InvalidImage
from dit4c_p2p.oci.exchange import Missing

_log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

API_VERSION = ("Docker-Distribution-API-Version", "registry/2.0")
_RETRY_S = "5"


class Refused(DitError):
    """A request is answered with ``status`` and the specification's ``word``."""

    code = "refused"

    def __init__(
        self,
        status: int,
        word: str,
        message: str,
        *,
        hint: str = "",
        detail: Any = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status, self.word, self.detail = status, word, detail
        self.headers = headers or {}


# The first that fits; subclasses stand before their bases.
_WORDS: list[tuple[type[DitError], int, str]] = [
    (UnknownContent, 404, "MANIFEST_BLOB_UNKNOWN"),
    (ImageTooLarge, 413, "SIZE_INVALID"),
    (InvalidDigest, 400, "DIGEST_INVALID"),
    (InvalidImage, 400, "MANIFEST_INVALID"),
    (InvalidChunks, 400, "BLOB_UPLOAD_INVALID"),
    (store.WrongDigest, 400, "DIGEST_INVALID"),
    (store.TooLarge, 413, "SIZE_INVALID"),
    (store.TooMany, 429, "TOOMANYREQUESTS"),
    (store.DiskFull, 507, "UNAVAILABLE"),
    (store.InUse, 409, "DENIED"),
    (store.NoSuchUpload, 404, "BLOB_UPLOAD_UNKNOWN"),
    (store.NotThere, 404, "BLOB_UNKNOWN"),
]


def translate(error: DitError) -> Refused | None:
    """An error of the store or of what was sent as a refusal; None: it is neither."""
    if isinstance(error, Refused):
        return error
    for kind, status, word in _WORDS:
        if isinstance(error, kind):
            return Refused(status, word, str(error), hint=error.hint)
    return None


def body_of(refused: Refused) -> bytes:
    """The JSON of a refusal."""
    entry: dict[str, Any] = {"code": refused.word, "message": refused.one_line()}
    if refused.detail is not None:
        entry["detail"] = refused.detail
    return json.dumps({"errors": [entry]}).encode() + b"\n"


def answer(refused: Refused) -> web.Response:
    """A refusal as an answer."""
    headers = dict(refused.headers)
    if refused.status in (429, 503, 507):
        headers.setdefault("Retry-After", _RETRY_S)
    return web.Response(
        status=refused.status,
        body=body_of(refused),
        content_type="application/json",
        headers=headers,
    )


def refusal(status: int) -> bytes:
    """A whole answer to what never became a request."""
    body = body_of(Refused(status, "UNSUPPORTED", "this is not a request that can be answered"))
    fields = [
        (b"Content-Type", b"application/json"),
        (b"Content-Length", str(len(body)).encode()),
        (b"Connection", b"close"),
    ]
    return render_head(b"HTTP/1.1 %d Refused" % status, fields) + body


@web.middleware
async def translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Have every refusal said as the specification says."""
    try:
        response = await handler(request)
    except store.MissingChunks as error:
        response = web.Response(
            status=409, body=encode(Missing(missing=error.places)), content_type="application/json"
        )
    except DitError as error:
        refused = translate(error)
        if refused is None:
            _log.error("a request could not be answered: %s", error.one_line())
            refused = Refused(500, "UNKNOWN", "something went wrong here")
        response = answer(refused)
    except web.HTTPException as error:
        response = answer(Refused(error.status, "UNSUPPORTED", error.reason.lower()))
    except ConnectionError:
        raise  # the client is gone
    except Exception:
        _log.exception("a request could not be answered")
        raise
    if not response.prepared:
        response.headers[API_VERSION[0]] = API_VERSION[1]
        response.headers.setdefault("Cache-Control", "no-store")
        response.headers["X-Content-Type-Options"] = "nosniff"
    return response
