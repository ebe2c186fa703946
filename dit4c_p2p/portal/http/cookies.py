"""The portal's cookies: ``__Host-``, and therefore Secure and for this host only.

Cookies don't know ports, and ``dit4c up`` runs more than once on one machine: where the canonical
URL has a port, the names end with it.
"""

from aiohttp import web
from yarl import URL

from dit4c_p2p.portal.context import services

PREFIX = "__Host-dit4c"


def cookie_name(request: web.Request, purpose: str = "") -> str:
    """``__Host-dit4c``, with a purpose and a port where there is one."""
    port = URL(services(request).config.url).explicit_port
    parts = [PREFIX, purpose, str(port) if port else ""]
    return "-".join(part for part in parts if part)


def read_cookie(request: web.Request, purpose: str = "") -> str:
    """Return the cookie's value, or an empty text; the portal's cookies are ASCII."""
    value = request.cookies.get(cookie_name(request, purpose), "")
    return value if value.isascii() else ""


def write_cookie(
    request: web.Request,
    response: web.StreamResponse,
    value: str,
    *,
    purpose: str = "",
    max_age_s: float,
    same_site: str = "Lax",
) -> None:
    """Set it."""
    response.set_cookie(
        cookie_name(request, purpose),
        value,
        max_age=int(max_age_s),
        path="/",
        secure=True,
        httponly=True,
        samesite=same_site,
    )


def remove_cookie(request: web.Request, response: web.StreamResponse, purpose: str = "") -> None:
    """Take it back."""
    response.del_cookie(
        cookie_name(request, purpose), path="/", secure=True, httponly=True, samesite="Lax"
    )
