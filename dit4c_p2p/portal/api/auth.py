"""Who calls the API."""

from aiohttp import web

from dit4c_p2p.portal.errors import Forbidden, Unauthorized
from dit4c_p2p.portal.peers.auth import bearer
from dit4c_p2p.portal.people import Who, token_person


async def person(request: web.Request) -> Who:
    """Whose token it is.

    :raises Unauthorized: no token, or not one in force.
    """
    who = await token_person(bearer(request))
    if who is None:
        raise Unauthorized("the token is not in force", hint="use the one that dit4c up has made")
    return who


async def admin(request: web.Request) -> Who:
    """:func:`person`, who must be an admin.

    :raises Forbidden: is none.
    """
    who = await person(request)
    if not who.is_admin:
        raise Forbidden("this is for admins")
    return who
