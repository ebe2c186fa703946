"""``/device``: a person lets a program in, or does not (RFC 8628 section 3.3)."""

from typing import Any

from aiohttp import web

from dit4c_p2p.portal.accounts.api_tokens import scopes_in_words
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import PortalError
from dit4c_p2p.portal.http.request_body import read_form
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.login.device import (
    CLIENT_ID,
    DEVICE_PATH,
    INTERVAL_S,
    LIFETIME_S,
    DeviceRefused,
    clean_user_code,
)
from dit4c_p2p.portal.models import DeviceCode
from dit4c_p2p.portal.pages.page import PageCall, form_handler, page_handler
from dit4c_p2p.portal.schemas import time_text

AUTHORIZATION_PATH = "/oauth/device_authorization"
_MAX_CODE_CHARS = 40


def device_page_routes() -> list[web.RouteDef]:
    """For the program, and for its person."""
    return [
        web.post(AUTHORIZATION_PATH, begin_on_device_page),
        web.get(DEVICE_PATH, page_handler(ask_on_device_page, after_login=True)),
        web.post(DEVICE_PATH, form_handler(ask_on_device_page)),
        web.post(
            f"{DEVICE_PATH}/decide", form_handler(decide_on_device_page, again=ask_on_device_page)
        ),
    ]


async def begin_on_device_page(request: web.Request) -> web.Response:
    """Codes for a program (section 3.2); ``name`` is an addition of ours."""
    parts, form = services(request), await read_form(request)
    try:
        if form.get("client_id") != CLIENT_ID:
            raise DeviceRefused("invalid_client", f"the client is {CLIENT_ID}")
        offered = await parts.device_codes.begin(
            form.get("name", ""),
            frozenset(form.get("scope", "").split()),
            origin=request.remote or "",
        )
    except DeviceRefused as error:
        return refusal_on_device_page(error)
    page = parts.config.url + DEVICE_PATH
    return json_answer(
        {
            "device_code": offered.device_code,
            "user_code": offered.user_code,
            "verification_uri": page,
            "verification_uri_complete": f"{page}?user_code={offered.user_code}",
            "expires_in": int(LIFETIME_S),
            "interval": INTERVAL_S,
        }
    )


def refusal_on_device_page(error: DeviceRefused) -> web.Response:
    """An error as RFC 6749 section 5.2 has it."""
    said = {"error": error.error, "error_description": str(error)}
    return json_answer(said, status=error.status)


async def ask_on_device_page(call: PageCall) -> web.Response:
    """A field for the code; with one, what the program wants and who asks."""
    typed = call.form.get("user_code") or call.request.query.get("user_code", "")
    typed, error, found = typed[:_MAX_CODE_CHARS], call.error, None
    if typed and error is None:
        try:
            found = await call.parts.device_codes.find(typed, person=call.by)
        except PortalError as refused:
            error = refused
    call = PageCall(call.request, call.session, call.form, error)
    if found is None:
        return call.page("device_code.html", form={"user_code": typed})
    return call.page("device_confirm.html", **_shown_for_device_page(found, typed))


async def decide_on_device_page(call: PageCall) -> web.Response:
    """Let the program in, or refuse it."""
    approved = call.form.get("answer") == "approve"
    found = await call.parts.device_codes.decide(
        call.form.get("user_code", "")[:_MAX_CODE_CHARS], person=call.by, approved=approved
    )
    return call.page("device_done.html", approved=approved, name=found.name)


def _shown_for_device_page(found: DeviceCode, typed: str) -> dict[str, Any]:
    return {
        "code": clean_user_code(typed),
        "name": found.name,
        "origin": found.origin,
        "since": time_text(found.created_at),
        "may": scopes_in_words(found.scopes),
    }
