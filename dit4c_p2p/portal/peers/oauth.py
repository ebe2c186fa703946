"""The authorization server's URLs."""

from aiohttp import web

from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import BadRequest
from dit4c_p2p.portal.http.request_body import read_form, read_query
from dit4c_p2p.portal.http.responses import json_answer
from dit4c_p2p.portal.login.device import CLIENT_ID, GRANT_TYPE, TOKEN_DAYS, DeviceRefused
from dit4c_p2p.portal.oauth.authlib_adapter import OAuthAnswer
from dit4c_p2p.portal.oauth.server import AUTHORIZE_PATH, INTROSPECT_PATH, TOKEN_PATH
from dit4c_p2p.portal.pages.device import refusal_on_device_page
from dit4c_p2p.portal.pages.login import current, login_needed


def oauth_routes() -> list[web.RouteDef]:
    """The three endpoints and where to find them."""
    return [
        web.get("/.well-known/oauth-authorization-server", oauth_metadata),
        web.get(AUTHORIZE_PATH, oauth_authorize),
        web.post(TOKEN_PATH, oauth_token),
        web.post(INTROSPECT_PATH, oauth_introspect),
    ]


async def oauth_metadata(request: web.Request) -> web.Response:
    """RFC 8414 section 3."""
    return json_answer(services(request).oauth.metadata())


async def oauth_authorize(request: web.Request) -> web.Response:
    """Back to the instance with a code, for its creator; others see that there is no such thing."""
    session = await current(request)
    if session is None:
        return login_needed(request, after_login=request.raw_path)
    answer = await services(request).oauth.authorize(read_query(request), session)
    if answer.location is None:
        error = answer.body if isinstance(answer.body, dict) else {}
        raise BadRequest(str(error.get("error_description") or error.get("error") or "refused"))
    return web.Response(status=302, headers={"Location": answer.location})


async def oauth_token(request: web.Request) -> web.Response:
    """A code for an access token: of an instance's login, or of a program that was let in."""
    parameters = await _oauth_parameters(request)
    if parameters.get("grant_type") != GRANT_TYPE:
        return _oauth_json(await services(request).oauth.token(parameters))
    try:
        if parameters.get("client_id") != CLIENT_ID:
            raise DeviceRefused("invalid_client", f"the client is {CLIENT_ID}")
        text, scopes = await services(request).device_codes.poll(parameters.get("device_code", ""))
    except DeviceRefused as error:
        return refusal_on_device_page(error)
    return json_answer(
        {
            "access_token": text,
            "token_type": "Bearer",
            "expires_in": TOKEN_DAYS * 24 * 3600,
            "scope": " ".join(scopes),
        },
        Pragma="no-cache",
    )


async def oauth_introspect(request: web.Request) -> web.Response:
    """Whether a token is still good."""
    return _oauth_json(await services(request).oauth.introspect(await _oauth_parameters(request)))


async def _oauth_parameters(request: web.Request) -> dict[str, str]:
    if request.query_string:
        raise BadRequest("parameters belong into the body")
    return dict(await read_form(request))


def _oauth_json(answer: OAuthAnswer) -> web.Response:
    return json_answer(answer.body, status=answer.status, Pragma="no-cache")
