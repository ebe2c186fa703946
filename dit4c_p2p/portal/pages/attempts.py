"""The cookies of attempts to log in: one for each, so that tabs opened together don't mix."""

import re
import secrets

from aiohttp import web

from dit4c_p2p.portal.http import cookies
from dit4c_p2p.portal.login.attempts import ATTEMPT_S, AttemptOver

_PREFIX = f"{cookies.PREFIX}-attempt-"
_ID = re.compile(r"[A-Za-z0-9_-]{11}", re.ASCII)
# A browser that restores a window of ten tabs finishes all of them; what is beyond is left over
# from attempts that nobody went on with, and would fill up the request's head.
_MAX_KEPT = 12


def new_id() -> str:
    """A name for an attempt, which is no secret: 64 random bits."""
    return secrets.token_urlsafe(8)


def write(request: web.Request, response: web.StreamResponse, id: str, sealed: str) -> None:
    """Keep an attempt in this browser until it is finished or over."""
    kept = [name for name in request.cookies if name.startswith(_PREFIX)]
    for name in kept[:-_MAX_KEPT]:
        response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")
    # Lax: a provider sends the browser back from its own site.
    cookies.write_cookie(
        request, response, sealed, purpose=_purpose_for_attempts_page(id), max_age_s=ATTEMPT_S
    )


def read(request: web.Request, id: str) -> str:
    """What was kept.

    :raises AttemptOver: there is none such in this browser.
    """
    sealed = (
        cookies.read_cookie(request, _purpose_for_attempts_page(id)) if _ID.fullmatch(id) else ""
    )
    if not sealed:
        raise AttemptOver
    return sealed


def remove(request: web.Request, response: web.StreamResponse, id: str) -> None:
    """Forget it."""
    cookies.remove_cookie(request, response, _purpose_for_attempts_page(id))


def _purpose_for_attempts_page(id: str) -> str:
    return f"attempt-{id}"
