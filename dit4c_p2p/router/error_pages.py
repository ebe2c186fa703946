"""The router's own answers when no app can answer: one page for each reason.

A page is self-contained. One that waits looks by a script of its own whether the answer is another
by now, and loads again then (by a refresh where scripts are off). Programs that ask for JSON get a
problem document (RFC 9457). Each is the last answer on its connection.
"""

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import jinja2

STRICT_TRANSPORT = "Strict-Transport-Security: max-age=31536000"


@dataclass(frozen=True)
class ErrorPage:
    """One answer.

    ``code`` is a stable word for programs; ``refresh_s`` has a browser try again by itself after so
    many seconds; ``link`` is where a person may go from here, ``start`` where they may start the
    instance. ``waits`` shows that something is under way.
    """

    status: int
    code: str
    heading: str
    text: str
    advice: str = ""
    refresh_s: int | None = None
    link: str = ""
    start: str = ""
    waits: bool = False

    @property
    def reason(self) -> str:
        """The status in words."""
        return HTTPStatus(self.status).phrase


def no_such_instance_page(portal: str) -> ErrorPage:
    """Return the page for an unknown id, or for one that the router may not know."""
    return ErrorPage(
        404,
        "no_such_instance",
        "There is no such instance",
        "No instance has this address.",
        "Check the address, or open the instance from the list of yours.",
        link=portal,
    )


def starting_page(title: str, portal: str, instance: str = "") -> ErrorPage:
    """Return the page for an instance that is starting."""
    return ErrorPage(
        503,
        "starting",
        f"{title or 'The instance'} is starting",
        "It isn't ready yet. This page opens it as soon as it is.",
        refresh_s=2,
        link=portal,
        waits=True,
    )


def stopped_page(title: str, portal: str, instance: str = "") -> ErrorPage:
    """The instance's app does not run, and its user may start it again."""
    return ErrorPage(
        503,
        "stopped",
        f"{title or 'The instance'} is stopped",
        "It isn't running at the moment. Its files are kept.",
        "This page opens it as soon as it runs.",
        refresh_s=5,
        link=portal,
        start=f"{portal.rstrip('/')}/instances/{instance}/start" if instance else "",
    )


def gone_page(title: str, portal: str, instance: str = "") -> ErrorPage:
    """Return the page for a discarded instance."""
    return ErrorPage(
        410,
        "gone",
        f"{title or 'The instance'} is gone",
        "It has been ended, and nothing answers here any more.",
        "You can start a new one from the list of your instances.",
        link=portal,
    )


def not_connected_page(title: str, portal: str, instance: str = "") -> ErrorPage:
    """Return the page for a running instance without a tunnel."""
    return ErrorPage(
        503,
        "not_connected",
        f"{title or 'The instance'} can't be reached right now",
        "The machine it runs on isn't connected at the moment. Nothing is lost by that.",
        "This page tries again by itself.",
        refresh_s=5,
        link=portal,
    )


def portal_silent_page() -> ErrorPage:
    """Return the page for an instance whose state the portal did not tell in time."""
    return ErrorPage(
        503,
        "portal_silent",
        "The portal does not answer",
        "The instance isn't connected here, and the portal can't be asked what became of it.",
        "This page tries again by itself.",
        refresh_s=5,
    )


def clock_off_page() -> ErrorPage:
    """The portal does not say what has become of the instance to a router with another clock."""
    return ErrorPage(
        503,
        "clock",
        "This server's clock is wrong",
        "The instance isn't connected here. The portal doesn't say what became of it, because this "
        "server's clock is too far from its own.",
        "Whoever runs the server has to set its clock. This page tries again by itself.",
        refresh_s=5,
    )


def busy_page() -> ErrorPage:
    """Return the page for a limit of the router or of the instance's tunnel."""
    return ErrorPage(
        503,
        "busy",
        "Too many connections",
        "There are as many connections open as there may be. Try again in a moment.",
        refresh_s=5,
    )


def crowded_page(most: int) -> ErrorPage:
    """Return the page for an address that has too many streams into an instance."""
    return ErrorPage(
        503,
        "crowded",
        "Too many connections from your address",
        f"Your network has {most} connections to this instance open, as many as it may have.",
        "Close some of its pages. This one tries again by itself.",
        refresh_s=5,
    )


def wrong_host_page() -> ErrorPage:
    """Return the page for a Host that is not below the user domain (RFC 9110 section 15.5.20)."""
    return ErrorPage(
        421,
        "wrong_host",
        "Wrong address",
        "No instance can have this host name.",
        "Open the instance from the list of yours.",
    )


def bad_request_page(status: int, detail: str) -> ErrorPage:
    """The first request's head is not acceptable; ``status`` is a 4xx or 5xx."""
    return ErrorPage(
        status,
        "bad_request",
        "The request was not understood",
        f"What your program sent can't be passed on: {detail}.",
    )


def head_late_page(seconds: float) -> ErrorPage:
    """Return the page for a head that did not arrive in time."""
    return ErrorPage(
        408,
        "head_late",
        "The request took too long to arrive",
        f"Its head has to arrive within {seconds:.0f} seconds.",
    )


def client_prefers_json(accept: str) -> bool:
    """Whether a program rather than a person asks: JSON is named in Accept, and HTML is not."""
    types = {part.partition(";")[0].strip().lower() for part in accept.split(",")}
    return not types & {"text/html", "application/xhtml+xml"} and bool(
        types & {"application/json", "application/problem+json"}
    )


class ErrorPageRenderer:
    """Renders a page as the bytes of a response."""

    def __init__(self, folder: Path, *, secure: bool = False) -> None:
        """:param folder: where ``page.html`` and ``page.css`` are.
        :param secure: browsers are to come by HTTPS only, from then on (RFC 6797).
        """
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(folder),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        self._template = environment.get_template("page.html")
        self._always = [STRICT_TRANSPORT] if secure else []
        self._style = (folder / "page.css").read_text()
        self._script = (folder / "page.js").read_text()
        always = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        self._policy = f"default-src 'none'; style-src '{_page_style_hash(self._style)}'; {always}"
        self._waiting_policy = (
            f"default-src 'none'; style-src '{_page_style_hash(self._style)}'; "
            f"script-src '{_page_style_hash(self._script)}'; connect-src 'self'; {always}"
        )

    def render(self, page: ErrorPage, *, as_json: bool = False, head_only: bool = False) -> bytes:
        """The whole answer.

        :param as_json: a problem document instead of HTML.
        :param head_only: leave the body out, for a HEAD request.
        """
        body, kind = (self._json(page) if as_json else self._html(page)), "text/html; charset=utf-8"
        if as_json:
            kind = "application/problem+json"
        fields = [
            f"HTTP/1.1 {page.status} {page.reason}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            "Cache-Control: no-store",
            f"Content-Security-Policy: {self._policy_of(page)}",
            "X-Content-Type-Options: nosniff",
            "Referrer-Policy: no-referrer",
            "Vary: Accept",
            "Connection: close",
            *self._always,
        ]
        if page.refresh_s is not None:
            fields.append(f"Retry-After: {page.refresh_s}")
        head = ("\r\n".join(fields) + "\r\n\r\n").encode()
        return head if head_only else head + body

    def _html(self, page: ErrorPage) -> bytes:
        script = self._script if page.refresh_s else ""
        return self._template.render(page=page, style=self._style, script=script).encode()

    def _policy_of(self, page: ErrorPage) -> str:
        return self._waiting_policy if page.refresh_s else self._policy

    def _json(self, page: ErrorPage) -> bytes:
        problem = {
            "type": "about:blank",
            "title": page.heading,
            "status": page.status,
            "detail": page.text,
            "code": page.code,
        }
        return json.dumps(problem).encode()


def _page_style_hash(text: str) -> str:
    """Return a source of a Content-Security-Policy: exactly this text."""
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}"


# Called with the tool's title, the portal's URL and the instance's id.
PageOf = Callable[[str, str, str], ErrorPage]
STATES: dict[str, PageOf] = {
    "starting": starting_page,
    "running": not_connected_page,
    "stopped": stopped_page,
    "gone": gone_page,
    "unknown": lambda title, portal, instance: no_such_instance_page(portal),
}
