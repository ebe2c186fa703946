"""Logging in with a provider, and the identities of one's own account.

The button is a link, not a form: the pages' policy lets no form lead to another site.
"""

import aiohttp_jinja2
from aiohttp import web

from dit4c_p2p.database import in_transaction
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.http.request_body import read_query
from dit4c_p2p.portal.login.attempts import AttemptOver
from dit4c_p2p.portal.login.provider_logins import ReturnedFromProvider, attempt_of_redirect
from dit4c_p2p.portal.pages import attempts
from dit4c_p2p.portal.pages.account import show_account_page
from dit4c_p2p.portal.pages.forms import go_to
from dit4c_p2p.portal.pages.login import (
    canonical,
    current,
    describe_browser,
    earlier_session,
    enter,
    where_to,
)
from dit4c_p2p.portal.pages.page import PageCall, form_handler
from dit4c_p2p.portal.services.logins import log_in_with_identity

_MAX_INVITATION_CHARS = 100


def providers_page_routes() -> list[web.RouteDef]:
    """To a provider and back, and one's own identities."""
    one = "/login/with/{provider}"
    return [
        web.get(one, leave_on_providers_page, allow_head=False),
        web.get(f"{one}/callback", come_back_on_providers_page, allow_head=False),
        web.post(
            "/account/identities", form_handler(link_on_providers_page, again=show_account_page)
        ),
        web.post(
            "/account/identities/{identity}/remove",
            form_handler(unlink_on_providers_page, again=show_account_page),
        ),
    ]


async def leave_on_providers_page(request: web.Request) -> web.Response:
    """Send the browser to a provider."""
    canonical(request)
    invitation = request.query.get("invitation", "")[:_MAX_INVITATION_CHARS]
    id = attempts.new_id()
    leaving = await services(request).provider_logins.begin(
        request.match_info["provider"], id, invitation=invitation
    )
    response = go_to(leaving.url)
    response.headers["Referrer-Policy"] = "no-referrer"
    attempts.write(request, response, id, leaving.sealed)
    return response


async def come_back_on_providers_page(request: web.Request) -> web.Response:
    """Take the browser back from a provider: let its person in, or link the identity."""
    canonical(request)
    parts, answer = services(request), read_query(request)
    try:
        returned = await parts.provider_logins.finish(
            request.match_info["provider"], answer, lambda id: attempts.read(request, id)
        )
    except AttemptOver:
        # Loaded again, or gone back to, after all went well.
        if await earlier_session(request) is not None:
            return go_to("/")
        raise
    if "session" in returned.begun_with:
        response = await _linked_for_providers_page(request, returned)
    else:
        earlier = await earlier_session(request)
        token = await log_in_with_identity(
            parts,
            returned.identity,
            invitation=returned.begun_with["invitation"],
            browser=describe_browser(request),
        )
        response = where_to(request)
        await enter(request, response, token, earlier)
    attempts.remove(request, response, attempt_of_redirect(answer))
    return response


async def _linked_for_providers_page(
    request: web.Request, returned: ReturnedFromProvider
) -> web.Response:
    """Link the identity with the account whose page the attempt was begun on."""
    session = await current(request)
    if session is None or session.digest != returned.begun_with["session"]:
        raise AttemptOver("you are logged in as somebody else now, or not any more")
    async with in_transaction("portal"):
        await services(request).identities.link(session.who.id, returned.identity)
    return go_to("/account?done=identity#identities")


async def link_on_providers_page(call: PageCall) -> web.Response:
    """Send the browser to a provider, to link who comes back with this account."""
    id, provider = attempts.new_id(), call.form.get("provider", "")
    leaving = await call.parts.provider_logins.begin(provider, id, session=call.session.digest)
    name = call.parts.provider_logins.name_of(provider)
    response = aiohttp_jinja2.render_template(
        "leaving.html",
        call.request,
        {"session": call.session, "name": name, "url": leaving.url},
    )
    response.headers["Referrer-Policy"] = "no-referrer"
    attempts.write(call.request, response, id, leaving.sealed)
    return response


async def unlink_on_providers_page(call: PageCall) -> web.Response:
    """Have an identity let nobody in any more."""
    async with in_transaction("portal"):
        await call.parts.identities.unlink(call.by, call.path("identity"))
    return go_to("/account#identities")
