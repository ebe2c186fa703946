"""Responses, and errors as responses: RFC 9457 problem documents, or a page for browsers."""

import json
import logging
from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

import aiohttp_jinja2
from aiohttp import web
from tortoise.exceptions import OperationalError, ValidationError

from dit4c_p2p.errors import DitError
from dit4c_p2p.identity.errors import IdentityError, InvalidToken
from dit4c_p2p.messages.codec import InvalidMessage
from dit4c_p2p.net.http1 import render_head
from dit4c_p2p.net.stranger_log import summed
from dit4c_p2p.portal.audit import NotAudited
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import (
    AccountClosed,
    BadRequest,
    InsufficientScope,
    Misdirected,
    NotFound,
    PortalError,
    Unauthorized,
    Unavailable,
)
from dit4c_p2p.portal.http.request_body import MAX_BODY_BYTES

_log = summed(logging.getLogger(__name__), logging.INFO)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'"
)
_DATA_POLICY = "default-src 'none'; frame-ancestors 'none'"
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_HTTPS_HEADERS = {"Strict-Transport-Security": "max-age=31536000"}
# After these the rest of a body may still be coming.
_LAST = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})
# What aiohttp refuses by itself: a title, and a sentence that says what is wrong.
_KNOWN = {
    404: ("There is nothing here", "the address may be mistyped, or what was there is gone"),
    405: ("Not to be asked this way", "the method is not one of those in the Allow header"),
    413: ("The body is too large", f"a body may have {MAX_BODY_BYTES // 1024} KiB"),
}


def json_answer(data: Any, *, status: int = 200, **headers: str) -> web.Response:
    """Return a JSON response that no cache stores."""
    return web.Response(
        text=json.dumps(data, ensure_ascii=False) + "\n",
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )


async def add_response_headers(request: web.Request, response: web.StreamResponse) -> None:
    """What every answer says to a browser (a signal: streams and files have it too)."""
    html = response.content_type == "text/html"
    response.headers.update(_HEADERS)
    response.headers.popall("Server", None)
    response.headers.setdefault("Content-Security-Policy", _PAGE_POLICY if html else _DATA_POLICY)
    response.headers.setdefault("Referrer-Policy", "same-origin")
    response.headers.setdefault("Cache-Control", "no-store")
    if services(request).config.url.startswith("https:"):
        response.headers.update(_HTTPS_HEADERS)
    if response.status in _LAST:
        response.headers["Connection"] = "close"
        response.force_close()


def refusal_response(status: int, *, https: bool) -> bytes:
    """A whole answer to what never became a request; nothing of it is repeated."""
    known = HTTPStatus(status)
    problem = {"type": "about:blank", "title": known.phrase, "status": status}
    body = json.dumps(problem).encode() + b"\n"
    headers = {
        "Content-Type": "application/problem+json",
        "Content-Length": str(len(body)),
        "Connection": "close",
        "Cache-Control": "no-store",
        "Content-Security-Policy": _DATA_POLICY,
        "Referrer-Policy": "no-referrer",
        **_HEADERS,
        **(_HTTPS_HEADERS if https else {}),
    }
    fields = [(name.encode(), value.encode()) for name, value in headers.items()]
    return render_head(b"HTTP/1.1 %d %b" % (status, known.phrase.encode()), fields) + body


@web.middleware
async def check_request_target(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Refuse a target or a ``Host`` that is not the portal's own (RFC 9112 section 3.2)."""
    config = services(request).config
    hosts = request.headers.getall("Host", [])
    if not request.raw_path.startswith("/") or len(hosts) != 1:
        raise BadRequest("the request's target must be a path, with one Host")
    # Nothing is called so, and PostgreSQL takes no text with it.
    if "\0" in request.path or "\0" in request.rel_url.query_string:
        raise BadRequest("the request's target has a zero byte in it")
    host = hosts[0].lower()
    if host != config.host and host not in config.connect:
        raise Misdirected("this is not the portal of that host", hint=f"it is at {config.url}/")
    return await handler(request)


@web.middleware
async def translate_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Translate every error to a response; the only place that does so."""
    try:
        return await handler(request)
    except web.HTTPException as error:
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        title, text = _KNOWN.get(error.status, (error.reason, error.reason))
        problem = PortalError(text)
        problem.status, problem.title = error.status, title
        problem.code = error.reason.lower().replace(" ", "_")
        kept = {name: error.headers[name] for name in ("Allow",) if name in error.headers}
        return problem_response(request, problem, kept)
    except InvalidToken as error:
        return problem_response(request, _error_as(Unauthorized, error))
    except (IdentityError, InvalidMessage) as error:
        return problem_response(request, _error_as(BadRequest, error))
    except NotAudited as error:
        return problem_response(request, _error_as(Unavailable, error))
    except PortalError as error:
        return problem_response(request, error)
    except ValidationError as error:
        # A name in the path that is longer than any there can be: it is nobody's.
        _log.info("%s: %s", _route_for_log(request), type(error).__name__)
        return problem_response(request, NotFound("there is no such thing"))
    except OperationalError as error:
        _log.error("%s: the database does not work: %s", _route_for_log(request), error)
        problem = Unavailable("the portal can't write right now", hint="try again in a moment")
        return problem_response(request, problem)
    except ConnectionError:
        if request.transport is not None and not request.transport.is_closing():
            raise
        # Whoever asked has gone; nobody reads this.
        return web.Response(status=HTTPStatus.BAD_REQUEST)
    except TimeoutError:
        raise
    except Exception:  # noqa: BLE001  the last line of defence: logged, and told without details
        _log.exception("%s failed", _route_for_log(request))
        return problem_response(request, PortalError("the portal made a mistake; it is in its log"))


def problem_response(
    request: web.Request, error: PortalError, headers: dict[str, str] | None = None
) -> web.Response:
    """An error as a page for browsers and as a problem document for everybody else."""
    extra = dict(headers or {})
    if isinstance(error, Unauthorized):
        extra["WWW-Authenticate"] = error.challenge
    if isinstance(error, InsufficientScope):
        extra["WWW-Authenticate"] = (
            f'Bearer realm="dit4c", error="insufficient_scope", scope="{error.scope}"'
        )
    if wants_page(request):
        home = services(request).config.url + "/"
        response = aiohttp_jinja2.render_template(
            "error.html",
            request,
            {
                "title": error.title,
                "text": sentence(str(error)),
                "hint": sentence(error.hint),
                # Where a closed account would only see this again.
                "home": "" if isinstance(error, AccountClosed) else home,
            },
            status=error.status,
        )
        response.headers.update(extra)
        return response
    problem: dict[str, object] = {
        "type": f"urn:dit4c:problem:{error.code}",
        "title": error.title,
        "status": error.status,
        "detail": error.one_line(),
        "code": error.code,
    }
    if isinstance(error, BadRequest) and error.field:
        problem["field"] = error.field
    return web.Response(
        text=json.dumps(problem, ensure_ascii=False) + "\n",
        status=error.status,
        content_type="application/problem+json",
        headers=extra,
    )


def wants_page(request: web.Request) -> bool:
    """Whether a browser asks for a page."""
    if request.path.startswith("/api/"):
        return False
    return "text/html" in request.headers.get("Accept", "")


def _route_for_log(request: web.Request) -> str:
    """Method and pattern, for the log: a path may hold a login link."""
    resource = request.match_info.route.resource
    return f"{request.method} {resource.canonical if resource else 'unknown'}"


def _error_as(kind: type[PortalError], error: DitError) -> PortalError:
    translated = kind(str(error), hint=error.hint)
    translated.code = error.code
    return translated


def sentence(text: str) -> str:
    """With a capital letter and a full stop, as a page shows it."""
    if not text:
        return ""
    return text[0].upper() + text[1:] + ("" if text.endswith((".", "!", "/")) else ".")
