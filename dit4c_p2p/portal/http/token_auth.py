"""Authentication of the API's callers by their tokens."""

from aiohttp import web

from dit4c_p2p.portal.accounts import api_tokens
from dit4c_p2p.portal.accounts.people import Caller
from dit4c_p2p.portal.audit import set_request_identity
from dit4c_p2p.portal.context import services
from dit4c_p2p.portal.errors import AccountClosed, Forbidden, NotFound, Unauthorized
from dit4c_p2p.portal.http.peer_auth import bearer_token
from dit4c_p2p.portal.opaque_tokens import digest


async def person_of_token(request: web.Request) -> Caller:
    """Return the person whose token the request carries.

    :raises Unauthorized: no token, or not one in force.
    :raises AccountClosed: one of somebody who may not come in any more.
    """
    text, parts = bearer_token(request), services(request)
    try:
        who = await api_tokens.find_token(text, parts.last_used, now=parts.clock())
    except AccountClosed as error:
        await parts.audit.record_refusal("api.login", error)
        raise
    if who is None:
        await parts.audit.record_refusal("api.login", "the token is not in force")
        raise Unauthorized("the token is not in force", hint="use one that is, or make a new one")
    set_request_identity(who.id, token=digest(text))
    return who


async def check_admin_token(request: web.Request, who: Caller) -> None:
    """:raises Forbidden: no admin, or not with this token."""
    if not who.is_admin:
        await services(request).audit.record_refusal("api.admin", "not an admin's token")
        raise Forbidden("this is for admins")


def check_self_or_admin(who: Caller, id: str) -> None:
    """:raises NotFound: somebody else is meant; for an admin nobody is somebody else."""
    if who.id != id and not who.is_admin:
        raise NotFound("there is no such person")
