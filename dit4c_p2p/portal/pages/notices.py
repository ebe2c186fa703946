"""The word "done" on the page after a form: kept by a cookie that the next page takes back."""

from urllib.parse import quote, unquote

from aiohttp import web

from dit4c_p2p.portal.http import cookies

DONE = "Done."
_PURPOSE = "done"
# The page that the browser is sent to comes at once.
_LIFETIME_S = 60.0
_KNOWN = {DONE}


def register(text: str) -> str:
    """Make a text known that a page may show after a form, when routes are made; returns it."""
    _KNOWN.add(text)
    return text


def leave(request: web.Request, response: web.StreamResponse, text: str) -> None:
    """Have the next page of this browser show a registered text."""
    cookies.write_cookie(request, response, quote(text), purpose=_PURPOSE, max_age_s=_LIFETIME_S)


def left(request: web.Request) -> str:
    """Return the text that the form before has left; empty if there is none."""
    text = unquote(cookies.read_cookie(request, _PURPOSE))
    return text if text in _KNOWN else ""


def take_back(request: web.Request, response: web.StreamResponse) -> None:
    """Remove the text: it was shown."""
    cookies.remove_cookie(request, response, _PURPOSE)
