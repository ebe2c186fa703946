"""The helper's own responses: a page for a person, a problem document (RFC 9457) for a program."""

import base64
import hashlib
import html
import json
from dataclasses import dataclass
from http import HTTPStatus

from dit4c_p2p.helpers.auth.headers import STRICT_TRANSPORT
from dit4c_p2p.messages.pod import CLEAR_COOKIES_PATH
from dit4c_p2p.net.http1 import Headers, render_head

# The colours are those of web/portal.css.
_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:16px/1.5 system-ui,sans-serif;margin:0;padding:0 1rem;color:#17201d;"
    "background:#f6f7f6}"
    "main{max-width:34rem;margin:12vh auto;padding:2rem;background:#fff;border:1px solid #dfe4e1;"
    "border-radius:14px}h1{font-size:1.4rem;margin:0 0 .6rem}p{margin:.4rem 0}"
    "a{color:#0f766e}"
    "button{font:inherit;margin-top:.6rem;padding:.5rem 1rem;border:0;border-radius:8px;"
    "background:#0f766e;color:#fff;cursor:pointer}"
    "@media(prefers-color-scheme:dark){body{background:#101514;color:#e8eeec}"
    "main{background:#182020;border-color:#2a3533}a{color:#2dbfae}}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_FIXED: Headers = [
    (b"Cache-Control", b"no-store"),
    (b"X-Content-Type-Options", b"nosniff"),
    (b"Referrer-Policy", b"no-referrer"),
]
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
).encode()
_POLICY_WITH_FORM = _POLICY.replace(b"form-action 'none'", b"form-action 'self'")


@dataclass(frozen=True)
class PageAnswer:
    """A whole response of the helper."""

    status: int
    headers: Headers
    body: bytes = b""


def render_page(answer: PageAnswer, *, close: bool, without_body: bool, secure: bool) -> bytes:
    """The answer as sent; ``without_body`` for HEAD, ``secure`` where browsers come by HTTPS."""
    headers = [*answer.headers, (b"Content-Length", b"%d" % len(answer.body))]
    if secure:
        headers.append(STRICT_TRANSPORT)
    if close:
        headers.append((b"Connection", b"close"))
    reason = HTTPStatus(answer.status).phrase.encode()
    head = render_head(b"HTTP/1.1 %d %b" % (answer.status, reason), headers)
    return head if without_body else head + answer.body


def plain_page(status: int, text: str) -> PageAnswer:
    """Return a line of text as a response."""
    return PageAnswer(
        status, [*_FIXED, (b"Content-Type", b"text/plain; charset=utf-8")], text.encode() + b"\n"
    )


def redirect_page(location: bytes, *cookies: bytes) -> PageAnswer:
    """303 to an absolute URL, with Set-Cookie values."""
    return PageAnswer(
        303, [*_FIXED, (b"Location", location), *((b"Set-Cookie", value) for value in cookies)]
    )


def problem_page(
    status: int,
    message: str,
    *,
    as_html: bool,
    hint: str = "",
    link: tuple[str, str] | None = None,
    retry_after_s: int | None = None,
    cookies: tuple[bytes, ...] = (),
) -> PageAnswer:
    """Something is wrong: ``message`` is a sentence, ``hint`` what to do.

    :param link: URL and text of the one way on.
    :param retry_after_s: worth trying again after this; a page does so by itself.
    """
    headers: Headers = [*_FIXED, *((b"Set-Cookie", value) for value in cookies)]
    if retry_after_s is not None:
        headers.append((b"Retry-After", b"%d" % retry_after_s))
    if not as_html:
        document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
        document["detail"] = f"{message}. {hint}".strip() if hint else message
        headers.append((b"Content-Type", b"application/problem+json"))
        return PageAnswer(status, headers, json.dumps(document).encode())
    if retry_after_s:
        headers.append((b"Refresh", b"%d" % retry_after_s))
    way_on = f'<p><a href="{html.escape(link[0])}">{html.escape(link[1])}</a></p>' if link else ""
    body = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f"<title>{html.escape(message)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{html.escape(message)}</h1><p>{html.escape(hint)}</p>{way_on}"
        "</main></body></html>"
    )
    headers.append((b"Content-Type", b"text/html; charset=utf-8"))
    headers.append((b"Content-Security-Policy", _POLICY))
    return PageAnswer(status, headers, body.encode())


def too_many_cookies_page(
    status: int, *, size_bytes: int, domain: str, as_html: bool
) -> PageAnswer:
    """The browser sends more cookies than servers take; a page has the button that deletes them.

    :param domain: below which hosts can set cookies for each other.
    """
    message = "Your browser sends too many cookies to this address"
    hint = (
        f"They come to {max(1, size_bytes // 1024)} KiB. Pages at other addresses below {domain} "
        "can set cookies that are sent to all of them; one has set too many, or too large ones."
    )
    if not as_html:
        return problem_page(
            status, message, as_html=False, hint=f"{hint} POST {CLEAR_COOKIES_PATH} deletes them."
        )
    answer = problem_page(status, message, as_html=True, hint=hint)
    form = (
        f"<p>Deleting them ends your logins at all addresses below {html.escape(domain)}. Your "
        "files and what runs there stay as they are.</p>"
        f'<form method="post" action="{CLEAR_COOKIES_PATH}">'
        "<button>Delete the cookies and go on</button></form></main>"
    )
    headers = [
        (name, _POLICY_WITH_FORM if name == b"Content-Security-Policy" else value)
        for name, value in answer.headers
    ]
    return PageAnswer(status, headers, answer.body.replace(b"</main>", form.encode(), 1))


def cookies_deleted_page(url: str) -> PageAnswer:
    """Have the browser delete its cookies for all addresses below the same domain, and go on.

    It is no redirect: a browser holds the redirects of a form to the policy of its page, and the
    way on leads to the portal. https://www.w3.org/TR/clear-site-data/: taken from secure origins.
    """
    answer = problem_page(200, "The cookies are deleted", as_html=True, link=(url, "Go on"))
    refresh = f'<meta http-equiv="refresh" content="0;url={html.escape(url)}"><title>'
    body = answer.body.replace(b"<title>", refresh.encode(), 1)
    return PageAnswer(200, [*answer.headers, (b"Clear-Site-Data", b'"cookies"')], body)
