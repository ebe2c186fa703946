"""Checks of a request's head, without I/O.

Refusals are rendered by ``pages``. The checks run in the order of the functions below.
"""

from dit4c_p2p.errors import DitError
from dit4c_p2p.helpers.auth.headers import Origin
from dit4c_p2p.net.http1 import RequestHead

_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# Naming these in Connection would take away what frames or routes the message.
_NEVER_HOP_BY_HOP = frozenset({b"host", b"content-length", b"cookie", b"authorization", b"expect"})


class RequestRefused(DitError):
    """The request gets an answer of ours with ``status`` and does not reach the app."""

    code = "refused"

    def __init__(self, status: int, message: str, *, hint: str = "", allow: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.allow = allow  # the methods there are, for 405


def check_request_head(head: RequestHead, origin: Origin) -> None:
    """The request is for this instance and asks for nothing that we can't do.

    :raises Refused: 421 for any other host, on every request of a connection (RFC 9110 section
        15.5.20); 417 for an unknown expectation; 400 for hiding fields behind Connection.
    """
    if head.host.encode() != origin.host:
        raise RequestRefused(421, "This address is not served here")
    if not head.connection.isdisjoint(_NEVER_HOP_BY_HOP):
        raise RequestRefused(400, "Connection names a field that belongs to the request")
    if head.upgrade is None and head.get(b"sec-websocket-key") is not None:
        lost = (
            "was sent on by HTTP/1.0"
            if head.version == (1, 0)
            else "asks for another protocol than websocket"
            if b"upgrade" in head.connection
            else "has lost its field Connection: Upgrade"
        )
        raise RequestRefused(
            400,
            f"A request for a WebSocket {lost} on its way",
            hint="A proxy in front has to speak HTTP/1.1 and to pass Upgrade and Connection on, "
            "see docs/proxy.md.",
        )
    expectation = head.get(b"expect")
    if expectation is not None and expectation.lower() != b"100-continue":
        raise RequestRefused(417, "Only 100-continue can be expected")


def check_cross_site(head: RequestHead, origin: Origin) -> None:
    """A request that carries our session's cookie was not made by some other site.

    For a WebSocket the exact Origin is required (RFC 6455 section 10.2). Otherwise a request is
    refused where the browser says that another origin made it: SameSite=Lax lets pages of sibling
    hosts use our cookie. Only a link to here may be followed from anywhere, and only to become the
    page itself: in a frame of another site's page the app could be clicked unseen. Browsers say
    ``Origin: null`` for a form of a page with ``Referrer-Policy: no-referrer``; that alone is let
    through if the browser adds that it is same-origin.

    :raises Refused: 403.
    """
    said = head.get_all(b"origin")
    if head.upgrade is not None:
        if said != [origin.text]:
            raise RequestRefused(403, "A WebSocket must come from a page of this very address")
        return
    site = head.get_all(b"sec-fetch-site")
    if head.method in _SAFE_METHODS and head.get_all(b"sec-fetch-mode") == [b"navigate"]:
        elsewhere = site not in ([], [b"none"], [b"same-origin"])
        if elsewhere and head.get_all(b"sec-fetch-dest") != [b"document"]:
            raise RequestRefused(403, "Another site's page can't show this one inside it")
        return
    if said == [origin.text] or (said in ([], [b"null"]) and site == [b"same-origin"]):
        return
    if said or site not in ([], [b"none"]):
        raise RequestRefused(403, "Another site tried to act here in your name")


def is_navigation_request(head: RequestHead) -> bool:
    """Whether a person opens a page and can be sent to the login; other requests get 401."""
    return head.method == "GET" and head.upgrade is None and request_accepts_html(head)


def request_accepts_html(head: RequestHead) -> bool:
    """Whether the client prefers a page to JSON."""
    return any(b"text/html" in value.lower() for value in head.get_all(b"accept"))
